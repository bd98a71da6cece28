"""Padding modes other than zeros, and their adjoint.

reflect, replicate and circular borders are made of the input's own elements. The input is padded
before the convolution; its gradient folds each border element back onto the one it was made of.
All arrays are canonical: (N, C, D, H, W).
"""

from __future__ import annotations

from typing import Any

from cuconv._arguments import Pairs

Array = Any


def border_axes(border: Pairs) -> list[tuple[int, int, int]]:
    """(axis of a canonical array, low, high) of each spatial axis that has a border."""
    first = 5 - len(border)
    return [(first + i, *pair) for i, pair in enumerate(border) if pair != (0, 0)]


def shown(mode: str, size: int, low: int, high: int) -> list[tuple[slice, slice]]:
    """The two sides of the border along a padded axis, and what of the same axis each shows.

    Of `replicate` a single position; else as many as the side has.
    """
    first, end = low, low + size  # the input's own
    sides = slice(0, low), slice(end, end + high)
    if mode == "circular":
        return [(sides[0], slice(end - low, end)), (sides[1], slice(first, first + high))]
    if mode == "replicate":
        return [(sides[0], slice(first, first + 1)), (sides[1], slice(end - 1, end))]
    # reflect: about the first and the last element, which are not repeated
    last = end - 2 - high
    return [
        (sides[0], slice(first + low, first, -1)),
        (sides[1], slice(end - 2, last if last >= 0 else None, -1)),
    ]


def along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)


def pad(x: Array, mode: str, border: Pairs) -> Array:
    """Copies between slices alone, which a stream capture takes: no tables from the host."""
    axes = border_axes(border)
    shape = list(x.shape)
    for axis, low, high in axes:
        shape[axis] += low + high
    padded = type(x)(tuple(shape), x.dtype)
    inner = [slice(None)] * 5
    for axis, low, _ in axes:
        inner[axis] = slice(low, low + x.shape[axis])
    padded[tuple(inner)] = x
    for axis, low, high in axes:
        inner[axis] = slice(None)
        rest = padded[tuple(inner)]  # whose border along this axis is the next to be filled
        for side, source in shown(mode, x.shape[axis], low, high):
            rest[along(axis, side)] = rest[along(axis, source)]
    return padded


def fold(padded: Array, mode: str, border: Pairs) -> Array:
    """The adjoint of `pad`: each element of the input gathers from all places that show it.

    Sums are taken one position after the other.
    """
    for axis, low, high in reversed(border_axes(border)):
        size = padded.shape[axis] - low - high
        folded = padded.copy()
        for side, source in shown(mode, size, low, high):
            target = folded[along(axis, source)]
            if mode == "replicate":
                for position in range(side.start, side.stop):
                    target += padded[along(axis, slice(position, position + 1))]
            else:
                target += padded[along(axis, side)]
        padded = folded[along(axis, slice(low, low + size))]
    return padded
