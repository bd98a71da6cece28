"""Padding modes other than zeros, and their adjoint.

reflect, replicate and circular borders are made of the input's own elements. The input is padded
before the convolution; its gradient folds each border element back onto the one it was made of.
All arrays are canonical: (N, C, D, H, W).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cuconv._arguments import Pairs

Array = Any


def sources(mode: str, size: int, low: int, high: int) -> np.ndarray:
    """For each position of a padded axis, the position of the input it shows."""
    position = np.arange(-low, size + high)
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return np.clip(position, 0, size - 1)
    last = size - 1  # reflect: about the first and the last element, which are not repeated
    position = np.abs(position)
    return np.where(position > last, 2 * last - position, position)


def border_axes(border: Pairs) -> list[tuple[int, int, int]]:
    """(axis of a canonical array, low, high) of each spatial axis that has a border."""
    first = 5 - len(border)
    return [(first + i, *pair) for i, pair in enumerate(border) if pair != (0, 0)]


def pad(x: Array, mode: str, border: Pairs) -> Array:
    for axis, low, high in border_axes(border):
        x = x.take(sources(mode, x.shape[axis], low, high).tolist(), axis=axis)
    return x


def fold(padded: Array, mode: str, border: Pairs) -> Array:
    """The adjoint of `pad`: each element of the input gathers from all places that show it.

    Sums are taken one position after the other.
    """
    for axis, low, high in reversed(border_axes(border)):
        size = padded.shape[axis] - low - high
        index: list[Any] = [slice(None)] * padded.ndim
        index[axis] = slice(low, low + size)
        folded = padded[tuple(index)].copy()
        for position, source in enumerate(sources(mode, size, low, high)):
            if not low <= position < low + size:
                index[axis] = slice(int(source), int(source) + 1)
                target = tuple(index)
                index[axis] = slice(position, position + 1)
                folded[target] += padded[tuple(index)]
        padded = folded
    return padded
