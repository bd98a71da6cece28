"""Convolution tap by tap, without columns.

Two forms. `Taps` is for many channels: a product of filters and shifted input for each tap, summed.
`Shifted` is for few channels a group (depthwise, image filtering): a multiply-add of a number and a
line for each tap, by `einsum`, over pieces that stay in the caches. It runs over the padded rows of
a patch as if they were one, so that lines are long; what it computes between the rows is never
stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    boxes,
    by_tap,
    is_whole,
    patch_shape,
    patch_slices,
    pieces,
    slices_of,
    split,
    triple_of,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem, Triple

PIECE = 1 << 15  # sums of one einsum
SHORT = 1 << 10
AXES = [0, 1, 2, 3, 4, 5]


@dataclass(frozen=True)
class Taps:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # outputs a block holds

    def prepare(self, w: Array) -> Array:
        """(taps, groups, filters, channels)."""
        p = self.problem
        rows = split(w, p.groups, 0)
        flat = rows.reshape(*rows.shape[:3], math.prod(p.kernel))
        return np.ascontiguousarray(np.moveaxis(flat, -1, 0), accumulator(w.dtype))

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        x, y = split(x, p.groups, 1), split(y, p.groups, 1)
        if epilogue.bias is not None:
            epilogue = Epilogue(
                epilogue.bias.reshape(p.groups, p.out_channels // p.groups, 1), epilogue.activation
            )
        cut = list(boxes(p.output, self.positions))
        run = threads.run if len(cut) > 1 else threads.one_by_one  # whatever the batch
        run(
            partial(self.block, x[n], filters, y[n], box, epilogue)
            for n in range(p.batch)
            for box in cut
        )

    def block(self, x: Array, filters: Array, y: Array, box: Box, epilogue: Epilogue) -> None:
        positions = tuple(len(r) for r in box)
        count, dtype = math.prod(positions), filters.dtype
        column = self.scratch("column", (*x.shape[:2], 1, *positions), dtype)
        flat = column.reshape(*x.shape[:2], count)
        sums = self.scratch("sums", (*filters.shape[1:3], count), dtype)
        product = self.scratch("product", sums.shape, dtype)
        for i, tap in enumerate(taps_of(self.problem.kernel)):
            by_tap(x, self.problem, box, [tap], column)
            np.matmul(filters[i], flat, out=product if i else sums)
            if i:
                sums += product
        epilogue.apply(sums, 1)
        target = y[at(slices_of(box))]
        target[...] = sums.reshape(target.shape)


def multiply_adds(source: Array, factors: Array, sums: Array) -> None:
    """sums[i, j] = the sum of source[i, j, ...] * factors[j, ...].

    Fortran's order of loops makes i the innermost, and the sums of it are kept in memory: one
    multiply-add of a line a tap, where multiplying and adding arrays would be two operations.
    """
    axes = AXES[: source.ndim]
    np.einsum(source, axes, factors, axes[1:], AXES[:2], out=sums, order="F")


@dataclass(frozen=True)
class Term:
    """Taps that are computed together, and what they meet."""

    taps: tuple[slice, slice, slice]
    one: tuple[int, ...]  # axes of a single tap, which are left out
    source: Array  # (positions, groups, taps of W, of H, of D, channels) without those


class Lines:
    """A thread's buffers for blocks of one shape, with all views of them that are needed."""

    def __init__(self, problem: ConvProblem, scratch: Scratch, groups: int, box: Box) -> None:
        p, dtype = problem, accumulator(problem.dtype)
        channels, filters = p.in_channels // p.groups, p.out_channels // p.groups
        self.problem, self.scratch = problem, scratch
        self.patch = scratch("patch", (groups, channels, *patch_shape(p, box)), dtype)
        pitch = triple_of(-(-n // s) for n, s in zip(self.patch.shape[2:], p.stride, strict=True))
        depth, height, width = (len(r) for r in box)
        length = ((depth - 1) * pitch[1] + height - 1) * pitch[2] + width
        whole = scratch("sums", (groups, filters, depth, *pitch[1:]), dtype)
        self.result = whole[..., :height, :width]
        flat = whole.reshape(groups, filters, math.prod(whole.shape[2:]))[..., :length]
        more = scratch("more", (groups, length), dtype)
        self.copies: dict[Triple, tuple[Array, Array]] = {}  # targets and sources
        terms = list(self.terms(pitch, length))
        self.pieces = [
            (
                slice(g.start, g.stop),
                [flat[g.start : g.stop, k, a.start : a.stop].T for k in range(filters)],
                more[g.start : g.stop, a.start : a.stop].T,
                [replace(t, source=t.source[a.start : a.stop, g.start : g.stop]) for t in terms],
            )
            for g in pieces(groups, max(1, PIECE // length))
            for a in pieces(length, PIECE)
        ]

    def terms(self, pitch: Triple, length: int) -> Iterator[Term]:
        """All taps are together at stride 1. Else they are apart by the residue of their offset,
        for which the patch is copied, so that outputs that are neighbours meet neighbours. Short
        lines take a row of taps at a time: each loop of an einsum more makes the innermost begin
        later."""
        p = self.problem
        common = [math.gcd(s, d) for s, d in zip(p.stride, p.dilation, strict=True)]
        every = [s // c for s, c in zip(p.stride, common, strict=True)]
        jumps = [d // c for d, c in zip(p.dilation, common, strict=True)]
        if length < SHORT:
            every[:2] = p.kernel[:2]
        lines = (pitch[1] * pitch[2], pitch[2], 1)
        for begin in itertools.product(*map(range, map(min, p.kernel, every))):
            taps = triple_of(map(slice, begin, p.kernel, every))
            offsets = [t * d for t, d in zip(begin, p.dilation, strict=True)]
            rows = self.rows(
                triple_of(o % s for o, s in zip(offsets, p.stride, strict=True)), pitch
            )
            first = sum(o // s * n for o, s, n in zip(offsets, p.stride, lines, strict=True))
            counts = [len(range(k)[part]) for k, part in zip(p.kernel, taps, strict=True)]
            steps = [rows.itemsize * j * n for j, n in zip(jumps, lines, strict=True)]
            source = np.lib.stride_tricks.as_strided(
                rows[:, :, first:],
                (length, len(rows), *reversed(counts), rows.shape[1]),
                (rows.itemsize, rows.strides[0], *reversed(steps), rows.strides[1]),
            )
            one = tuple(axis for axis in range(2, source.ndim) if source.shape[axis] == 1)
            yield Term(taps, tuple(axis - 1 for axis in one), source.squeeze(one))

    def rows(self, residue: Triple, pitch: Triple) -> Array:
        """Of the patch every stride-th row and column from the residue on, in one line."""
        rows = self.patch
        if max(self.problem.stride) > 1:
            if residue not in self.copies:
                copy = self.scratch(f"rows {residue}", (*rows.shape[:2], *pitch), rows.dtype)
                axes = zip(residue, self.problem.stride, strict=True)
                part = rows[at(tuple(slice(first, None, stride) for first, stride in axes))]
                self.copies[residue] = copy[at(tuple(slice(n) for n in part.shape[2:]))], part
            rows = self.scratch(f"rows {residue}", (*rows.shape[:2], *pitch), rows.dtype)
        return rows.reshape(*rows.shape[:2], math.prod(pitch))

    def sums(self, filters: Array) -> Array:
        """(groups, filters, d, h, w) of what is in the patch, a view with gaps between the rows.

        `filters` is (filters, channels, taps of D, of H, of W, groups).
        """
        for target, source in self.copies.values():
            np.copyto(target, source)
        for groups, totals, more, terms in self.pieces:
            for weights, total in zip(filters, totals, strict=True):
                for i, term in enumerate(terms):
                    factors = weights[at((*term.taps, groups))].T.squeeze(term.one)
                    multiply_adds(term.source, factors, more if i else total)
                    if i:
                        np.add(total, more, out=total)
        return self.result


@dataclass(frozen=True)
class Shifted:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # outputs of a block, over the channels in it

    def prepare(self, w: Array) -> Array:
        """(filters of a group, channels of a group, taps of D, of H, of W, groups)."""
        rows = split(w, self.problem.groups, 0)
        return np.ascontiguousarray(np.moveaxis(rows, 0, -1), accumulator(w.dtype))

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        x, y = split(x, p.groups, 1), split(y, p.groups, 1)
        epilogue = epilogue.grouped(p.groups, 3)
        outputs = max(1, math.prod(p.output))

        def tasks() -> Iterator[threads.Task]:
            for g in pieces(p.groups, max(1, self.positions // outputs)):
                s = slice(g.start, g.stop)
                part = epilogue.part(g.start, g.stop)
                for box in boxes(p.output, max(1, self.positions // len(g))):
                    run = partial(self.block, box, *patch_slices(p, box), filters[..., s], part)
                    into = at(slices_of(box))
                    for n in range(p.batch):
                        yield partial(run, x[n, s], y[n, s][into])

        threads.run(tasks())

    def block(
        self,
        box: Box,
        sources: tuple[slice, ...],
        targets: tuple[slice, ...],
        filters: Array,
        epilogue: Epilogue,
        x: Array,
        y: Array,
    ) -> None:
        p = self.problem  # parts of an input gradient share the scratch, and have other kernels
        key = (len(x), *map(len, box), p.kernel, p.stride, p.dilation)
        lines = self.scratch.kept(key, lambda: Lines(p, self.scratch, len(x), box))
        if not is_whole(lines.patch.shape[2:], targets):
            lines.patch.fill(0)
        lines.patch[at(targets)] = x[at(sources)]
        sums = lines.sums(filters)
        epilogue.apply(sums, 1)
        y[...] = sums
