"""The input gradient by scattering: columns of the gradient, added to the inputs they came from.

For strides so wide that the inputs of each residue would be many small convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import Scratch, accumulator, boxes, slices_of, split
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at, tap_slices, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem


@dataclass(frozen=True)
class Scatter:
    problem: ConvProblem
    scratch: Scratch
    positions: int  # of the gradient, in a block
    by_tap: bool

    def prepare(self, w: Array) -> Array:
        """(groups, taps, channels, filters)."""
        rows = split(w, self.problem.groups, 0)
        flat = rows.reshape(*rows.shape[:3], math.prod(w.shape[2:]))
        return np.ascontiguousarray(np.transpose(flat, (0, 3, 2, 1)), accumulator(w.dtype))

    def compute(self, gy: Array, filters: Array, gx: Array, epilogue: Epilogue) -> None:
        p = self.problem
        gy, gx = split(gy, p.groups, 1), split(gx, p.groups, 1)
        epilogue = epilogue.grouped(p.groups, 3)
        threads.one_by_one(
            partial(self.image, gy[n], filters, gx[n], epilogue) for n in range(p.batch)
        )

    def image(self, gy: Array, filters: Array, gx: Array, epilogue: Epilogue) -> None:
        p = self.problem
        dtype = accumulator(gx.dtype)
        sums = gx if gx.dtype == dtype else self.scratch("sums", gx.shape, dtype)
        sums[...] = 0
        taps = list(taps_of(p.kernel))
        groups, _, channels, k = filters.shape
        steps = range(len(taps)) if self.by_tap else [slice(None)]
        count = 1 if self.by_tap else len(taps)
        for box in boxes(p.output, self.positions):
            rows = (
                gy[at(slices_of(box))]
                .astype(dtype, copy=False)
                .reshape(groups, k, math.prod(map(len, box)))
            )
            for step in steps:
                matrix = filters[:, step].reshape(groups, count * channels, k)
                columns = (matrix @ rows).reshape(groups, count, channels, *(len(r) for r in box))
                some = [taps[step]] if isinstance(step, int) else taps
                for i, tap in enumerate(some):
                    if slices := tap_slices(p, tap, box):
                        source, met = slices
                        sums[at(source)] += columns[:, i][at(met)]
        epilogue.apply(sums, 1)
        if sums is not gx:
            gx[...] = sums
