"""Depthwise convolution as products of image rows with banded matrices.

A row of B outputs is a row of (B - 1)*stride + reach inputs times a matrix that has the taps along
its diagonals; summed over the kernel's rows. Most of what BLAS multiplies is zeros, and it is still
faster than an operation a tap where kernels have five to some twenty taps a row.
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
    patch_first,
    pieces,
    slices_of,
    split,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem, window_span

COLUMNS = 16  # outputs of a product's row


@dataclass(frozen=True)
class Banded:
    problem: ConvProblem
    positions: int  # outputs of a block, over the groups in it
    scratch: Scratch
    variant: str = "direct_banded"

    @property
    def columns(self) -> int:
        """The width of a product, so that rows are cut evenly."""
        q = max(1, self.problem.output[2])
        return -(-q // -(-q // COLUMNS))

    @property
    def width(self) -> int:
        """Inputs that a product's row reads."""
        p = self.problem
        return (self.columns - 1) * p.stride[2] + window_span(p.kernel[2], p.dilation[2])

    def prepare(self, w: Array) -> Array:
        """(kernel rows, groups, filters of a group, width, columns)."""
        p = self.problem
        rows = split(w, p.groups, 0)[:, :, 0].astype(accumulator(w.dtype), copy=False)
        groups, k, t, r, s = rows.shape
        bands = np.zeros((t, r, groups, k, self.width, self.columns), rows.dtype)
        for column in range(self.columns):
            first = column * p.stride[2]
            taps = slice(first, first + p.dilation[2] * (s - 1) + 1, p.dilation[2])
            bands[..., taps, column] = np.transpose(rows, (2, 3, 0, 1, 4))
        return bands.reshape(t * r, groups, k, self.width, self.columns)

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        x, y = split(x, p.groups, 1)[:, :, 0], split(y, p.groups, 1)
        tasks = []
        for n in range(p.batch):
            for g in pieces(p.groups, max(1, self.positions // max(1, math.prod(p.output)))):
                s, part = slice(g.start, g.stop), epilogue
                if epilogue.bias is not None:
                    bias = epilogue.bias.reshape(p.groups, p.out_channels // p.groups, 1, 1, 1)
                    part = Epilogue(bias[s], epilogue.activation)
                for box in boxes((p.output[0], p.output[1], 1), self.positions // len(g)):
                    whole = (box[0], box[1], range(p.output[2]))
                    tasks.append(partial(self.block, x[n, s], filters[:, s], y[n, s], whole, part))
        threads.run(tasks)

    def block(self, x: Array, filters: Array, y: Array, box: Box, epilogue: Epilogue) -> None:
        p = self.problem
        tiles = -(-len(box[2]) // self.columns)
        wide: Box = (box[0], box[1], range(tiles * self.columns))  # whole products
        patch = patch_first(x, p, wide, self.scratch)
        groups = len(patch)
        z, rows = len(box[0]), len(box[1])
        k = filters.shape[2]
        g_step, d_step, h_step, w_step = patch.strides
        shape = (groups, k, z, tiles, rows, self.columns)
        sums = self.scratch("sums", shape, patch.dtype)
        product = self.scratch("product", shape, patch.dtype)
        for i, (t, r) in enumerate(np.ndindex(p.kernel[0], p.kernel[1])):
            view = np.lib.stride_tricks.as_strided(
                patch[:, t * p.dilation[0] :, r * p.dilation[1] :],
                (groups, 1, z, tiles, rows, self.width),
                (
                    g_step,
                    0,
                    d_step * p.stride[0],
                    w_step * p.stride[2] * self.columns,
                    h_step * p.stride[1],
                    w_step,
                ),
            )
            band = filters[i][:, :, None, None]
            np.matmul(view, band, out=product if i else sums)
            if i:
                np.add(sums, product, out=sums)
        result = self.scratch("rows", (groups, k, z, rows, tiles, self.columns), patch.dtype)
        np.copyto(result, sums.swapaxes(3, 4))
        whole = result.reshape(groups, k, z, rows, tiles * self.columns)
        epilogue.apply(whole, 1)
        y[at(slices_of(box))] = whole[..., : len(box[2])]
