"""Pooling axis by axis: a window's maximum is that of its rows' maxima, and its sum that of sums.

So a window of R x S taps costs R + S operations an element instead of R * S. The outer axes go
first, because they leave fewer elements to the last one, whose steps are short. Planes are taken in
blocks that stay in the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import accumulator, pieces
from cuconv._backends._geometry import meeting, meeting_taps
from cuconv._backends._protocol import Array
from cuconv._problem import PoolProblem

BLOCK = 1 << 18  # bytes of input


def along(a: Array, axis: int, part: slice) -> Array:
    index: list[Any] = [slice(None)] * a.ndim
    index[axis] = part
    return a[tuple(index)]


def steps(problem: PoolProblem, axis: int) -> list[tuple[slice, slice]]:
    """For each tap that meets the input along an axis, where it reads and where that belongs."""
    found = []
    outputs = range(problem.output[axis])
    for tap in meeting_taps(problem, axis):
        offset = tap * problem.dilation[axis] - problem.pad_low[axis]
        met = meeting(problem.input[axis], outputs, problem.stride[axis], offset)
        if met is not None:
            found.append(met)
    return found


def is_trivial(problem: PoolProblem, axis: int) -> bool:
    return (
        problem.window[axis] == 1
        and problem.stride[axis] == 1
        and problem.output[axis] == problem.input[axis]
        and problem.pad_low[axis] == 0
    )


def reduce_axes(
    problem: PoolProblem, x: Array, combine: Callable[..., Any], start: float, dtype: np.dtype
) -> Array:
    """All windows of x (N, C, D, H, W) combined, in the memory order of x."""
    for axis in range(3):
        if is_trivial(problem, axis):
            continue
        shape = list(x.shape)
        shape[2 + axis] = problem.output[axis]
        found = np.empty_like(x, dtype=dtype, shape=shape, subok=False)
        whole = False
        for i, (source, target) in enumerate(steps(problem, axis)):
            part, into = along(x, 2 + axis, source), along(found, 2 + axis, target)
            if i == 0:
                whole = target == slice(0, problem.output[axis])
                if not whole:
                    found[...] = start
                np.copyto(into, part)
            else:
                combine(into, part, out=into)
        if not steps(problem, axis):
            found[...] = start
        x = found
    return x


def spread_axes(problem: PoolProblem, gy: Array) -> Array:
    """The adjoint of summing windows: every input gets what its windows have."""
    for axis in reversed(range(3)):
        if is_trivial(problem, axis):
            continue
        shape = list(gy.shape)
        shape[2 + axis] = problem.input[axis]
        found = np.zeros_like(gy, shape=shape, subok=False)
        for source, target in steps(problem, axis):
            into = along(found, 2 + axis, source)
            np.add(into, along(gy, 2 + axis, target), out=into)
        gy = found
    return gy


def in_blocks(x: Array, work: Callable[[tuple[slice, slice]], None]) -> None:
    """Calls `work` with every block of images and channels."""
    plane = max(1, x[0, 0].nbytes if x.shape[0] and x.shape[1] else 1)
    if 0 < x.strides[1] < abs(x.strides[4]):  # channels last: whole images
        tasks = [(slice(n, n + 1), slice(None)) for n in range(x.shape[0])]
        if len(tasks) == 1:
            cut = pieces(x.shape[1], -(-x.shape[1] // threads.count()))
            tasks = [(slice(0, 1), slice(r.start, r.stop)) for r in cut]
    else:
        cut = pieces(x.shape[1], max(1, BLOCK // plane))
        tasks = [(slice(n, n + 1), slice(r.start, r.stop)) for n in range(x.shape[0]) for r in cut]
    if x.nbytes < BLOCK:
        work((slice(None), slice(None)))
        return
    threads.run(partial(work, block) for block in tasks)


def maximum(problem: PoolProblem, x: Array, y: Array) -> None:
    def work(block: tuple[slice, slice]) -> None:
        y[block] = reduce_axes(problem, x[block], np.maximum, -np.inf, x.dtype)

    in_blocks(x, work)


def average(problem: PoolProblem, x: Array, y: Array, divisors: Array) -> None:
    dtype = accumulator(x.dtype)

    def work(block: tuple[slice, slice]) -> None:
        sums = reduce_axes(problem, x[block].astype(dtype, copy=False), np.add, 0, dtype)
        np.divide(sums, divisors, out=y[block], casting="same_kind")

    in_blocks(x, work)


def average_grad(problem: PoolProblem, gy: Array, gx: Array, divisors: Array) -> None:
    dtype = accumulator(gy.dtype)

    def work(block: tuple[slice, slice]) -> None:
        gx[block] = spread_axes(problem, gy[block].astype(dtype, copy=False) / divisors)

    in_blocks(gy, work)
