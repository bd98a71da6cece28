"""What a TMA copy in im2col mode brings, in NumPy: a second opinion beside the emulator.

From the PTX ISA ("Tensors", im2col mode) and the documentation of cuTensorMapEncodeIm2col. A map
has a bounding box for the positions of a window's first tap: from `lower` past the tensor's first
pixel to `upper` past its last, and a step along each axis. Its positions are counted along the
width, then the height, then the depth, then the images. A copy begins at one of them, takes the
next `pixels`, and reads each of them `offset` further on; what lies outside the tensor is zero.

The emulator walks from pixel to pixel; here a pixel's number is taken apart by divisions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LINE = 128  # bytes, of a pixel's channels in shared memory


@dataclass(frozen=True)
class Im2col:
    """An im2col map. Tuples by axis as the array has them: (depth, height,) width."""

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    step: tuple[int, ...]
    channels: int
    pixels: int

    def positions(self, x: np.ndarray) -> tuple[int, ...]:
        """How many positions the bounding box of x (N, spatial axes, C) has along each axis."""
        sizes = x.shape[1:-1]
        return tuple(
            (n - 1 + high - low) // step + 1
            for n, low, high, step in zip(sizes, self.lower, self.upper, self.step, strict=True)
        )

    def column(
        self,
        x: np.ndarray,
        channel: int,
        start: tuple[int, ...],
        image: int,
        offset: tuple[int, ...],
    ) -> np.ndarray:
        """(pixels, channels) from the position `start` (as coordinates) of `image` on."""
        counts = self.positions(x)
        digits = [
            (s - low) // step for s, low, step in zip(start, self.lower, self.step, strict=True)
        ]
        first = int(np.ravel_multi_index((image, *digits), (image + 1, *counts)))
        flat = first + np.arange(self.pixels)
        images, *numbers = np.unravel_index(flat, (image + 1 + self.pixels, *counts))
        inside = images < x.shape[0]
        where = []
        for axis, number in enumerate(numbers):
            at = self.lower[axis] + number * self.step[axis] + offset[axis]
            inside &= (at >= 0) & (at < x.shape[1 + axis])
            where.append(np.where(inside, at, 0))
        where = [np.where(inside, at, 0) for at in where]
        c = channel + np.arange(self.channels)
        rows = x[(np.where(inside, images, 0), *where)]
        columns = rows[:, np.clip(c, 0, x.shape[-1] - 1)]
        return np.where(inside[:, None] & ((c >= 0) & (c < x.shape[-1])), columns, 0).astype(
            x.dtype
        )


def swizzled(column: np.ndarray) -> np.ndarray:
    """A column as it lies in shared memory from a multiple of 1024 bytes on: in each line of 128
    bytes the chunks of 16 change places by exclusive or with the line's number."""
    lines = np.ascontiguousarray(column).view(np.uint8).reshape(-1, LINE // 16, 16)
    line = np.arange(len(lines)) % 8
    chunk = np.arange(LINE // 16)
    return lines[np.arange(len(lines))[:, None], chunk ^ line[:, None]]
