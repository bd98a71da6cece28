"""The weight gradient: gw = sum over images and positions of gy times the input's columns.

Each thread sums its own blocks and the sums are added in order, so the bits depend on how many
threads there are but not on how they run.
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
    pieces,
    slices_of,
    split,
)
from cuconv._backends._cpu.lowered import columns_first, columns_last
from cuconv._backends._geometry import at, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem


@dataclass(frozen=True)
class WeightGrad:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # outputs a block holds
    last: bool  # columns with channels last
    by_tap: bool  # one tap at a time: no columns

    def compute(self, gy: Array, x: Array, gw: Array, conjugate: bool) -> None:
        p = self.problem
        gw_split = split(gw, p.groups, 0)
        gy = split(gy, p.groups, 1)
        if not self.last:
            x = split(x, p.groups, 1)
        blocks = [(n, box) for n in range(p.batch) for box in boxes(p.output, self.positions)]
        if not blocks or gw.size == 0:
            gw[...] = 0
            return
        shares = pieces(len(blocks), -(-len(blocks) // threads.count()))
        sums: list[Array] = [None] * len(shares)

        def work(i: int) -> None:
            total = None
            for n, box in blocks[shares[i].start : shares[i].stop]:
                rows = self.rows(gy[n], box)
                product = (self.taps if self.by_tap else self.columns)(x[n], rows, box, conjugate)
                if total is None:
                    total = product
                else:
                    total += product
            sums[i] = total

        threads.run([partial(work, i) for i in range(len(shares))])
        total = sums[0]
        for other in sums[1:]:
            total += other
        if self.last:  # (K, taps * C)
            shaped = total.reshape(1, p.out_channels, *p.kernel, p.in_channels)
            gw_split[...] = np.moveaxis(shaped, -1, 2)
        else:
            gw_split[...] = total.reshape(gw_split.shape)

    def rows(self, gy: Array, box: Box) -> Array:
        """(groups, filters, positions)."""
        block = gy[at(slices_of(box))].astype(accumulator(gy.dtype), copy=False)
        return block.reshape(*block.shape[:2], math.prod(block.shape[2:]))

    def columns(self, x: Array, rows: Array, box: Box, conjugate: bool) -> Array:
        if self.last:
            columns = columns_last(x, self.problem, box, self.scratch)
            return rows[0] @ (columns.conj() if conjugate else columns)
        columns = columns_first(x, self.problem, box, self.scratch).swapaxes(-1, -2)
        return rows @ (columns.conj() if conjugate else columns)

    def taps(self, x: Array, rows: Array, box: Box, conjugate: bool) -> Array:
        positions = tuple(len(r) for r in box)
        dtype = rows.dtype
        column = self.scratch("column", (*x.shape[:2], 1, *positions), dtype)
        flat = column.reshape(*x.shape[:2], math.prod(positions)).swapaxes(-1, -2)
        taps = list(taps_of(self.problem.kernel))
        product = np.empty((*rows.shape[:2], x.shape[1], len(taps)), dtype)
        for i, tap in enumerate(taps):
            by_tap(x, self.problem, box, [tap], column)
            product[..., i] = rows @ (flat.conj() if conjugate else flat)
        return product
