"""Convolution tap by tap, without columns.

Two forms. `Taps` is for many channels: a product of filters and shifted input for each tap, summed.
`Shifted` is for few channels a group (depthwise, image filtering): a multiplication by a number and
an addition for each tap, over blocks that stay in the caches. At stride 1 it runs over the padded
rows of a patch as if they were one, so that operations are long; what it computes between the rows
is never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    boxes,
    by_tap,
    patch_first,
    pieces,
    slices_of,
    split,
    windows,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem


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


@dataclass(frozen=True)
class Shifted:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # outputs of a block, over the channels in it

    def prepare(self, w: Array) -> Array:
        """(filters of a group, channels of a group, taps, groups)."""
        p = self.problem
        rows = split(w, p.groups, 0)
        flat = rows.reshape(*rows.shape[:3], math.prod(p.kernel))
        return np.ascontiguousarray(np.transpose(flat, (1, 2, 3, 0)), accumulator(w.dtype))

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        x, y = split(x, p.groups, 1), split(y, p.groups, 1)
        epilogue = epilogue.grouped(p.groups, 3)
        outputs = max(1, math.prod(p.output))
        groups = pieces(p.groups, max(1, self.positions // outputs))
        tasks = []
        for n in range(p.batch):
            for g in groups:
                s = slice(g.start, g.stop)
                part = epilogue.part(g.start, g.stop)
                for box in boxes(p.output, max(1, self.positions // len(g))):
                    tasks.append(partial(self.block, x[n, s], filters[..., s], y[n, s], box, part))
        threads.run(tasks)

    def block(self, x: Array, filters: Array, y: Array, box: Box, epilogue: Epilogue) -> None:
        p = self.problem
        patch = patch_first(x, p, box, self.scratch)
        target = y[at(slices_of(box))]
        multiply = self.flat if max(p.stride) == 1 else self.strided
        sums = multiply(patch, filters, box)
        epilogue.apply(sums, 1)
        target[...] = sums

    def flat(self, patch: Array, filters: Array, box: Box) -> Array:
        """Sums (groups, filters, d, h, w), a view with gaps between the rows."""
        p = self.problem
        groups, channels, d, h, w = patch.shape
        if not patch.flags.c_contiguous:
            compact = self.scratch("compact", patch.shape, patch.dtype)
            np.copyto(compact, patch)
            patch = compact
        rows = patch.reshape(groups, channels, d * h * w)
        depth, height, width = (len(r) for r in box)
        length = ((depth - 1) * h + height - 1) * w + width
        shape = (groups, len(filters), depth * h * w)
        sums = self.scratch("sums", shape, patch.dtype)
        product = self.scratch("product", (groups, length), patch.dtype)
        dt, dr, ds = p.dilation
        offsets = [(t * dt * h + r * dr) * w + s * ds for t, r, s in taps_of(p.kernel)]
        for k, of_filter in enumerate(filters):
            total = sums[:, k, :length]
            first = True
            for c, of_channel in enumerate(of_filter):
                for offset, factor in zip(offsets, of_channel, strict=True):
                    source = rows[:, c, offset : offset + length]
                    if first:
                        np.multiply(source, factor[:, None], out=total)
                        first = False
                    else:
                        np.multiply(source, factor[:, None], out=product)
                        np.add(total, product, out=total)
        return sums.reshape(groups, len(filters), depth, h, w)[:, :, :, :height, :width]

    def strided(self, patch: Array, filters: Array, box: Box) -> Array:
        view = windows(patch, self.problem, box, 2)
        shape = (len(patch), len(filters), *view.shape[5:])
        sums = self.scratch("sums", shape, patch.dtype)
        product = self.scratch("product", (len(patch), *view.shape[5:]), patch.dtype)
        for k, of_filter in enumerate(filters):
            first = True
            for c, of_channel in enumerate(of_filter):
                for tap, factor in zip(taps_of(self.problem.kernel), of_channel, strict=True):
                    t, r, s = tap
                    source = view[:, c, t, r, s]
                    factor = factor.reshape(-1, 1, 1, 1)
                    if first:
                        np.multiply(source, factor, out=sums[:, k])
                        first = False
                    else:
                        np.multiply(source, factor, out=product)
                        np.add(sums[:, k], product, out=sums[:, k])
        return sums
