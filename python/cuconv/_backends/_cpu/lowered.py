"""Convolution as products of filters with lowered inputs (im2col), block by block.

The columns of a block are (taps * channels, positions) where channels come first, which copies runs
along an image's rows; or (positions, taps * channels) where they come last, which copies runs of
neighbouring taps and their channels, and needs the input channels last. A 1x1 kernel without
stride or padding needs no columns: the product reads the image where it lies.

A product never spans two images, so the bits of an image's result do not depend on its batch.
Source: K. Chellapilla, S. Puri and P. Simard, High performance convolutional neural networks for
document processing (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    boxes,
    by_tap,
    patch_first,
    patch_last,
    patch_shape,
    slices_of,
    split,
    windows,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem


def columns_first(x: Array, problem: ConvProblem, box: Box, scratch: Scratch) -> Array:
    """(groups, channels * taps, positions) of one image (groups, channels, D, H, W)."""
    groups, channels = x.shape[:2]
    taps, positions = math.prod(problem.kernel), math.prod(len(r) for r in box)
    shape = (groups, channels * taps, positions)
    if math.prod(patch_shape(problem, box)) > taps * positions:  # windows with wide gaps
        sizes = (groups, channels, taps, *(len(r) for r in box))
        columns = scratch("columns", sizes, accumulator(x.dtype))
        by_tap(x, problem, box, list(taps_of(problem.kernel)), columns)
        return columns.reshape(shape)
    view = windows(patch_first(x, problem, box, scratch), problem, box, 2)
    if view.dtype == accumulator(x.dtype) and mergeable(view, 5):
        return view.reshape(shape)
    columns = scratch("columns", view.shape, view.dtype)
    np.copyto(columns, view)
    return columns.reshape(shape)


def columns_last(x: Array, problem: ConvProblem, box: Box, scratch: Scratch) -> Array:
    """(positions, taps * channels) of one image (channels, D, H, W)."""
    patch = patch_last(x, problem, box, scratch)
    view = np.moveaxis(windows(patch, problem, box, 0), (0, 1, 2), (3, 4, 5))
    shape = (math.prod(len(r) for r in box), math.prod(problem.kernel) * x.shape[0])
    if mergeable(view, 3):
        return view.reshape(shape)
    columns = scratch("columns", view.shape, view.dtype)
    np.copyto(columns, view)
    return columns.reshape(shape)


def mergeable(view: Array, cut: int) -> bool:
    """Whether the axes before `cut`, and those from it on, are each one axis without a copy."""
    return merges(view.shape[:cut], view.strides[:cut]) and merges(
        view.shape[cut:], view.strides[cut:]
    )


def merges(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n > 1]
    return all(s == n2 * s2 for (_, s), (n2, s2) in pairwise(axes))


def product_into(
    a: Array, b: Array, target: Array, first: int, epilogue: Epilogue, axis: int
) -> None:
    """target = epilogue(a @ b), where the axes first to first + 2 of `target` are the positions.

    `axis` is that of the channels in a @ b.
    """
    spatial = slice(first, first + 3)
    if target.dtype == a.dtype and merges(target.shape[spatial], target.strides[spatial]):
        positions = math.prod(target.shape[spatial])
        flat = target.reshape((*target.shape[:first], positions, *target.shape[first + 3 :]))
        if flat.strides[-1] == flat.itemsize:  # else the product would be another, transposed
            np.matmul(a, b, out=flat)
            epilogue.apply(flat, axis)
            return
    sums = a @ b
    epilogue.apply(sums, axis)
    target[...] = sums.reshape(target.shape)


def is_pointwise(problem: ConvProblem) -> bool:
    unpadded = not any(problem.pad_low) and not any(problem.pad_high)
    return math.prod(problem.kernel) == 1 and max(problem.stride) == 1 and unpadded


@dataclass(frozen=True)
class Lowered:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # outputs a block holds
    last: bool  # channels last

    def prepare(self, w: Array) -> Array:
        """(groups, filters, channels * taps), or (filters, taps * channels)."""
        dtype = accumulator(w.dtype)
        if self.last:
            return np.ascontiguousarray(np.moveaxis(w, 1, -1), dtype).reshape(
                len(w), math.prod(w.shape[1:])
            )
        rows = split(w, self.problem.groups, 0)
        return np.ascontiguousarray(rows, dtype).reshape(*rows.shape[:2], math.prod(w.shape[1:]))

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        if is_pointwise(p) and not self.last and self.in_place(x, filters, y, epilogue):
            return
        if not self.last:
            x, y = split(x, p.groups, 1), split(y, p.groups, 1)
            epilogue = epilogue.grouped(p.groups, 1)
        cut = list(boxes(p.output, self.positions))
        # Whoever computes an image's products does so whatever the batch: its bits are the same.
        run = threads.run if len(cut) > 1 else threads.one_by_one
        run(
            partial(self.block, x[n], filters, y[n], box, epilogue)
            for n in range(p.batch)
            for box in cut
        )

    def in_place(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> bool:
        """A 1x1 kernel on arrays whose images are matrices as they lie: one product an image, which
        BLAS spreads over its threads. Returns whether they are."""
        p = self.problem
        if p.groups > 1 or x.dtype != filters.dtype or y.dtype != filters.dtype:
            return False
        count = math.prod(p.output)
        matrices = []
        for array in (x, y):
            if not merges(array.shape[2:], array.strides[2:]):
                return False
            matrix = array.reshape(p.batch, array.shape[1], count)
            if matrix.strides[-1] != matrix.itemsize:
                return False
            matrices.append(matrix)
        images, results = matrices
        with threads.left():
            for image, result in zip(images, results, strict=True):
                np.matmul(filters[0], image, out=result)
                epilogue.apply(result, 0)
        return True

    def block(self, x: Array, filters: Array, y: Array, box: Box, epilogue: Epilogue) -> None:
        target = y[at(slices_of(box))]
        if not self.last:
            columns = columns_first(x, self.problem, box, self.scratch)
            product_into(filters, columns, target, 2, epilogue, -2)
            return
        columns = columns_last(x, self.problem, box, self.scratch)
        if abs(x.strides[0]) < abs(x.strides[3]):  # not by y's: where a result goes changes no bit
            product_into(columns, filters.T, np.moveaxis(target, 0, -1), 0, epilogue, -1)
        else:
            product_into(filters, columns.T, target, 1, epilogue, -2)
