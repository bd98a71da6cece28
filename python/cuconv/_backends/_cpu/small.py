"""im2col on tiny problems, with every buffer and view made beforehand.

On a few thousand numbers NumPy's own overhead, a microsecond or two a call, is all the time there
is: so a call is four of them. The input goes into a patch whose border stays zero, its windows into
columns, and one product a group and image into the result.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    patch_shape,
    patch_slices,
    split,
    triple_of,
    windows,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at
from cuconv._backends._protocol import Array
from cuconv._problem import ConvCall, ConvProblem

MOST_COLUMNS = 1 << 13  # elements of an image's
MOST_PRODUCTS = 1 << 17  # multiply-adds of a product, which BLAS then leaves to one thread


def is_small(problem: ConvProblem) -> bool:
    taps, positions = math.prod(problem.kernel), math.prod(problem.output)
    columns = problem.in_channels * taps * positions
    if not columns or not problem.out_channels:
        return False
    products = columns // problem.groups * problem.out_channels // problem.groups
    patch = problem.in_channels * math.prod(patch_shape(problem, whole(problem)))
    fits = max(columns, patch) <= MOST_COLUMNS and products <= MOST_PRODUCTS
    return fits and problem.out_channels * positions <= MOST_COLUMNS


def whole(problem: ConvProblem) -> Box:
    return triple_of(map(range, problem.output))


def images_at_a_time(problem: ConvProblem) -> int:
    columns = problem.in_channels * math.prod(problem.kernel) * math.prod(problem.output)
    return max(1, min(problem.batch, MOST_COLUMNS // max(1, columns)))


def bytes_of(problem: ConvProblem) -> int:
    """Of the buffers of one thread."""
    taps, positions = math.prod(problem.kernel), math.prod(problem.output)
    patch = problem.in_channels * math.prod(patch_shape(problem, whole(problem)))
    image = patch + (problem.in_channels * taps + problem.out_channels) * positions
    filters = problem.out_channels * problem.in_channels // problem.groups * taps
    count = images_at_a_time(problem) * image + filters
    return count * accumulator(problem.dtype).itemsize


class Buffers:
    """Those of one thread, and views of them for so many images at a time."""

    def __init__(self, problem: ConvProblem) -> None:
        p, dtype = problem, accumulator(problem.dtype)
        images, groups = images_at_a_time(p), p.groups
        box = whole(p)
        patch = np.zeros((images, p.in_channels, *patch_shape(p, box)), dtype)
        self.source, target = patch_slices(p, box)
        self.inner = patch[at(target)]  # where the input goes
        seen = windows(patch, p, box, 2)  # images, channels, taps, positions
        self.seen = split(seen, groups, 1)
        self.copied = np.empty(self.seen.shape, dtype)
        terms = p.in_channels // groups * math.prod(p.kernel)
        positions = math.prod(p.output)
        self.columns = self.copied.reshape(images, groups, terms, positions)
        self.sums = np.empty((images, groups, p.out_channels // groups, positions), dtype)
        self.results = self.sums.reshape(images, p.out_channels, *p.output)
        self.filters = np.empty((p.out_channels, p.in_channels // groups, *p.kernel), dtype)
        self.rows = self.filters.reshape(groups, p.out_channels // groups, terms)


@dataclass(frozen=True)
class Small:
    problem: ConvProblem
    scratch: Scratch  # of others: these buffers keep their zeros
    local: threading.local = field(default_factory=threading.local, compare=False)

    def buffers(self) -> Buffers:
        try:
            return self.local.buffers
        except AttributeError:
            self.local.buffers = Buffers(self.problem)
            return self.local.buffers

    def prepare(self, w: Array) -> Array:
        rows = self.buffers().rows
        return np.ascontiguousarray(w, rows.dtype).reshape(rows.shape)

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        b = self.buffers()
        epilogue = epilogue.grouped(self.problem.groups, 1)
        x = x[at(b.source)]
        images = len(b.sums)
        for first in range(0, self.problem.batch, images):
            part = slice(first, first + images)
            count = len(x[part])
            np.copyto(b.inner[:count], x[part])
            np.copyto(b.copied[:count], b.seen[:count])
            np.matmul(filters, b.columns[:count], out=b.sums[:count])
            epilogue.apply(b.sums[:count], -2)
            y[part] = b.results[:count]

    def quick(self, call: ConvCall, activation: str | None) -> Callable[..., Array] | None:
        """A function of the caller's x, w and bias, as `compute` to the bit; None if several steps
        are needed. Their shapes and dtypes are those of the call."""
        if self.problem.batch > images_at_a_time(self.problem):
            return None
        if self.buffers().inner.shape[2:] != self.problem.input:  # cropped
            return None
        layout, shape, dtype = call.layout, call.y_shape, self.problem.dtype
        groups, local = self.problem.groups, self.local
        batched = len(call.x_shape) == layout.rank + 2
        in_order = not layout.channels_last and dtype == accumulator(dtype)

        def views() -> tuple[Array, ...]:
            b = self.buffers()
            return (
                layout.back(b.inner, batched),
                b.copied,
                b.seen,
                b.columns,
                b.sums,
                layout.back(b.results, batched),
                layout.weight_back(b.filters, call.flip),
                b.rows,
            )

        def run(x: Array, w: Array, bias: Array | None) -> Array:
            try:
                inner, copied, seen, columns, sums, results, filters, rows = local.views
            except AttributeError:
                local.views = views()
                inner, copied, seen, columns, sums, results, filters, rows = local.views
            y = np.empty(shape, dtype)
            if in_order:
                sums = y.reshape(sums.shape)
            if in_order and not call.flip and w.flags.c_contiguous:
                rows = w.reshape(rows.shape)
            else:
                np.copyto(filters, w)
            with np.errstate(all="ignore"):
                np.copyto(inner, x)
                np.copyto(copied, seen)
                np.matmul(rows, columns, out=sums)
                if bias is not None or activation is not None:
                    if bias is not None:
                        bias = bias.astype(sums.dtype, copy=False)
                    Epilogue(bias, activation).grouped(groups, 1).apply(sums, -2)
                if not in_order:
                    np.copyto(y, results, casting="same_kind")
            return y

        return run
