"""What `cuconv demo` computes: four uses of convolution, through the public functions alone.

Every function takes and returns arrays of one kind (NumPy or CuPy); pictures have values in [0, 1].
Kernels and templates are float32 NumPy arrays, brought to the device by `put`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import cuconv
from cuconv._cli import _kernels

Array = Any
Put = Callable[[np.ndarray], Array]

BLUR = 2.0  # pixels: the scale of the Laplacian of Gaussian
LEVELS = 5  # of the pyramid, above the picture itself
ANGLES = (0, 45, 90, 135)  # of the network's lines, in degrees: - / | \
FLAT = 1e-3  # of white: a patch that varies less has nothing to recognise
EQUAL = 1e-4  # correlation coefficients this close are equal


@dataclass(frozen=True)
class Box:
    """A rectangle of a picture."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, picture: Array) -> Array:
        """From the last two axes."""
        return picture[..., self.top : self.top + self.height, self.left : self.left + self.width]


def correlate(x: Array, matrix: np.ndarray, put: Put, padding: str = "same") -> Array:
    """One (H, W) plane with one matrix."""
    w = put(matrix.astype(np.float32)[None, None])
    mode = "reflect" if padding == "same" else "zeros"
    return cuconv.conv2d(x[None, None], w, padding=padding, padding_mode=mode)[0, 0]


# ---- edges ----


def sobel(grey: Array, put: Put) -> tuple[Array, Array]:
    """The slope from left to right, and the length of the whole gradient."""
    w = put(_kernels.SOBEL.astype(np.float32)[:, None])
    across, down = cuconv.conv2d(grey[None, None], w, padding="same", padding_mode="reflect")[0]
    return across, (across * across + down * down) ** 0.5


def laplacian_of_gaussian(grey: Array, put: Put) -> Array:
    return correlate(grey, _kernels.laplacian_of_gaussian(BLUR), put)


# ---- template matching ----


@dataclass(frozen=True)
class Match:
    """`scores[i, j]` is the correlation coefficient of the template and the patch at (i, j)."""

    scores: np.ndarray
    peak: tuple[int, int]
    equal_places: int  # how many positions score as the peak does; 1 if the template is unique


def most_varied_box(grey: np.ndarray, size: int) -> Box:
    """The square with the largest variance, on a grid of quarter squares."""
    step = max(size // 4, 1)
    x = grey.astype(np.float64)[None, None]
    mean = cuconv.avg_pool2d(x, size, step)
    variance = cuconv.avg_pool2d(x * x, size, step) - mean * mean
    row, column = np.unravel_index(np.argmax(variance[0, 0]), variance.shape[2:])
    return Box(int(row) * step, int(column) * step, size, size)


def score(grey: Array, template: np.ndarray, put: Put) -> Array:
    """Normalised cross-correlation: the correlation coefficient at every position.

    The template has mean 0, so the numerator is one cross-correlation. The patch's own mean and
    energy come from sums over a window of ones, row by row and then column by column.
    """
    height, width = template.shape
    x = grey - grey.mean()  # small numbers, so that little is lost in the difference below

    def window_sum(a: Array) -> Array:
        rows = correlate(a, np.ones((1, width)), put, "valid")
        return correlate(rows, np.ones((height, 1)), put, "valid")

    likeness = correlate(x, template, put, "valid")
    total = window_sum(x)
    energy = window_sum(x * x) - total * total / template.size
    usable = energy > template.size * FLAT**2
    energy = energy * usable + ~usable  # a flat patch is like nothing: 0 / 1
    return likeness * usable / (energy * float((template**2).sum())) ** 0.5


def responses(grey: Array, template: np.ndarray, put: Put) -> tuple[Array, Array]:
    """The template slid over the picture as it is (cross-correlation), and turned by 180 degrees
    (convolution, as mathematics defines it)."""
    x, w = (grey - grey.mean())[None, None], put(template.astype(np.float32)[None, None])
    return (
        cuconv.conv2d(x, w, padding="valid")[0, 0],
        cuconv.conv2d(x, w, padding="valid", flip_kernel=True)[0, 0],
    )


def best_match(scores: np.ndarray) -> Match:
    row, column = np.unravel_index(np.argmax(scores), scores.shape)
    equal = int((scores >= scores[row, column] - EQUAL).sum())
    return Match(scores, (int(row), int(column)), equal)


# ---- pyramid ----


def pyramid(colour: Array, levels: int = LEVELS) -> list[Array]:
    """(3, H, W) and its successive 2 x 2 maxima, as long as both sides can be halved."""
    result = [colour]
    while len(result) <= levels and min(result[-1].shape[1:]) >= 2:
        result.append(cuconv.max_pool2d(result[-1], 2))
    return result


# ---- a small network ----


@dataclass(frozen=True)
class FeatureMaps:
    """(4, ., .) each, one map an angle of ANGLES."""

    lines: Array  # after convolution and ReLU
    pooled: Array
    contours: Array  # after the second convolution, ReLU and pooling


def gabor(angle: float, size: int = 11, wavelength: float = 8.0) -> np.ndarray:
    """A wave under a Gaussian: answers to bright lines that run at `angle` (counter-clockwise)."""
    along, across = _axes(angle, size)
    wave = np.exp(-(along**2 + across**2) / (2 * 3.0**2)) * np.cos(2 * np.pi * across / wavelength)
    wave -= wave.mean()
    return wave / np.abs(wave).sum()


def stroke(angle: float, size: int = 9) -> np.ndarray:
    """A Gaussian drawn out along `angle`: gathers what lies on one line."""
    along, across = _axes(angle, size)
    weights = np.exp(-(along**2) / (2 * 3.0**2) - across**2 / (2 * 0.8**2))
    return weights / weights.sum()


def _axes(angle: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size] - size // 2
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return x * c - y * s, x * s + y * c


def first_layer() -> np.ndarray:
    return np.stack([gabor(a) for a in ANGLES])[:, None].astype(np.float32)


def second_layer() -> np.ndarray:
    """Each map gathers its own direction along a stroke and takes away the other three."""
    w = np.empty((len(ANGLES), len(ANGLES), 9, 9), np.float32)
    for k, angle in enumerate(ANGLES):
        w[k] = -stroke(angle) / (len(ANGLES) - 1)
        w[k, k] = stroke(angle)
    return w


def network(grey: Array, put: Put) -> FeatureMaps:
    """Convolution, ReLU, pooling, convolution, ReLU, pooling."""
    x = grey[None, None]
    lines = cuconv.conv2d(
        x, put(first_layer()), padding="same", padding_mode="reflect", activation="relu"
    )
    pooled = cuconv.max_pool2d(lines, 2)
    contours = cuconv.conv2d(
        pooled, put(second_layer()), padding="same", padding_mode="replicate", activation="relu"
    )
    return FeatureMaps(lines[0], pooled[0], cuconv.max_pool2d(contours, 2)[0])
