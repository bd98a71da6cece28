"""A small network by hand: convolution, ReLU, pooling, twice, then class probabilities."""

import numpy as np

import cuconv

rng = np.random.default_rng(0)
images = rng.random((2, 3, 32, 32), np.float32)  # N, C, H, W


def weights(*shape: int) -> np.ndarray:
    """Scaled to the number of products in a sum, so that values keep their size."""
    return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)


x = cuconv.conv2d(images, weights(16, 3, 3, 3), padding="same", activation="relu")
x = cuconv.max_pool2d(x, 2)
x = cuconv.conv2d(x, weights(32, 16, 3, 3), padding="same", activation="relu")
x = cuconv.max_pool2d(x, 2)
x = cuconv.conv2d(x, weights(10, 32, 1, 1))
probabilities = cuconv.softmax(cuconv.global_avg_pool(x).reshape(2, 10), axis=1)

print("sizes:", x.shape, "sums:", probabilities.sum(axis=1).round(3))
