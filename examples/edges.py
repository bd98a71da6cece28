"""Edge detection: the two Sobel kernels over an array, and the strength of the gradient."""

import numpy as np

import cuconv

# A bright square on a dark ground.
picture = np.zeros((8, 10), np.float32)
picture[2:6, 3:7] = 1

# Two kernels at once: the slope from left to right, and the slope from top to bottom.
across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)
kernels = np.stack([across, across.T])[:, None]  # (K, C, R, S)

slopes = cuconv.conv2d(picture[None], kernels, padding="same", padding_mode="replicate")
strength = np.hypot(slopes[0], slopes[1])

for row in strength:
    print(" ".join(f"{value:.0f}" if value else "." for value in row))
