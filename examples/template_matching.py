"""Template matching: where in an array does a patch occur?

The score is the correlation coefficient of the patch and every window of its size: a
cross-correlation for the numerator, and sums over windows for the denominator.
"""

import numpy as np

import cuconv


def match_template(picture: np.ndarray, patch: np.ndarray) -> np.ndarray:
    template = patch - patch.mean()
    ones = np.ones_like(template)

    def slide(array: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return cuconv.conv2d(array[None], kernel[None, None], padding="valid")[0]

    energy = slide(picture**2, ones) - slide(picture, ones) ** 2 / patch.size
    return slide(picture, template) / np.sqrt(energy * (template**2).sum())


picture = np.random.default_rng(0).normal(size=(60, 80))
patch = picture[20:31, 45:58]

scores = match_template(picture, patch)
row, column = np.unravel_index(scores.argmax(), scores.shape)
print(f"best score {scores.max():.3f} at row {row}, column {column}")
