"""Which elements the taps of a window meet: as slices, and for pooling as tables of positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from cuconv._problem import ConvProblem, PoolProblem, Triple

Slices = tuple[slice, slice, slice]
Array = Any


def meeting(size: int, outputs: range, stride: int, offset: int) -> tuple[slice, slice] | None:
    """Along one axis, output o reads position o*stride + offset of an input of `size` elements.

    Returns the slice of the input that `outputs` read, and the slice of `outputs` that read it;
    None where they read padding alone.
    """
    first = max(outputs.start, -(offset // stride))  # ceil(-offset / stride)
    last = min(outputs.stop, (size - 1 - offset) // stride + 1)
    if first >= last:
        return None
    start = first * stride + offset
    stop = (last - 1) * stride + offset + 1
    return slice(start, stop, stride), slice(first - outputs.start, last - outputs.start)


def unit_output(problem: ConvProblem) -> Triple:
    """What stride 1 would give."""
    d, h, w = (
        (size - 1) * stride + 1 if size else 0
        for size, stride in zip(problem.output, problem.stride, strict=True)
    )
    return d, h, w


def tap_slices(
    problem: ConvProblem | PoolProblem,
    tap: Triple,
    outputs: tuple[range, range, range] | None = None,
) -> tuple[Slices, Slices] | None:
    """Slices of the input and of a box of outputs (all, unless given) that meet under one tap."""
    sources, targets = [], []
    for axis in range(3):
        box = range(problem.output[axis]) if outputs is None else outputs[axis]
        offset = tap[axis] * problem.dilation[axis] - problem.pad_low[axis]
        met = meeting(problem.input[axis], box, problem.stride[axis], offset)
        if met is None:
            return None
        sources.append(met[0])
        targets.append(met[1])
    return (sources[0], sources[1], sources[2]), (targets[0], targets[1], targets[2])


def at(indices: tuple[Any, ...]) -> tuple[Any, ...]:
    """Indexes the last axes of an array."""
    return (Ellipsis, *indices)


def taps_of(size: Triple) -> Iterator[Triple]:
    """The taps of a window in order, the last axis fastest."""
    for tap in np.ndindex(*size):
        yield tap[0], tap[1], tap[2]


# ---- pooling ----


def meeting_taps(problem: PoolProblem, axis: int) -> Iterable[int]:
    """The taps that meet the input under some output, in order: few of a window that is far larger.

    Or all of them, where there are not many.
    """
    size, outputs, window = problem.input[axis], problem.output[axis], problem.window[axis]
    step = problem.dilation[axis]
    if window <= outputs * (size // step + 1):
        return range(window)
    found: set[int] = set()
    for output in range(outputs):
        before = problem.pad_low[axis] - output * problem.stride[axis]  # from tap 0 to the input
        last = min(window - 1, (size - 1 + before) // step)
        found.update(range(max(0, -(-before // step)), last + 1))
    return sorted(found)


def starts(problem: PoolProblem, axis: int) -> Array:
    """Where each window's first tap lies, in the input or outside it."""
    return np.arange(problem.output[axis]) * problem.stride[axis] - problem.pad_low[axis]


def inside_and_nearest(problem: PoolProblem, axis: int) -> tuple[Array, Array]:
    """[o, t]: whether tap t of window o lies in the input, and the input position nearest to it."""
    taps, size = np.arange(problem.window[axis]) * problem.dilation[axis], problem.input[axis]
    positions = starts(problem, axis)[:, None] + taps
    return (positions >= 0) & (positions < size), np.clip(positions, 0, size - 1)


def taps_before(problem: PoolProblem, axis: int, position: int) -> Array:
    """How many taps of each window lie before a position."""
    reached = -((starts(problem, axis) - position) // problem.dilation[axis])
    return np.clip(reached, 0, problem.window[axis])


def first_positions(problem: PoolProblem) -> Array:
    """The flat position of each window's first tap in the input, as (Z, P, Q).

    Along an axis where no tap is in the input, the position nearest to the window's start.
    """
    first = []
    for axis in range(3):
        start, size = starts(problem, axis), problem.input[axis]
        outside = taps_before(problem, axis, 0)
        position = start + outside * problem.dilation[axis]
        met = taps_before(problem, axis, size) > outside
        first.append(np.where(met, position, np.clip(start, 0, size - 1)))
    d, h, w = first
    return (d[:, None, None] * problem.input[1] + h[:, None]) * problem.input[2] + w


def divisors(problem: PoolProblem) -> Array:
    """What each window's sum is divided by, as (Z, P, Q): its taps that count, at least 1."""
    counts = []
    for axis in range(3):
        low, high = 0, problem.input[axis]
        if problem.count_include_pad:  # but never what lies past the padding
            low, high = -problem.pad_low[axis], high + problem.pad_high[axis]
        counts.append(taps_before(problem, axis, high) - taps_before(problem, axis, low))
    d, h, w = counts
    return np.maximum(d[:, None, None] * h[:, None] * w, 1)
