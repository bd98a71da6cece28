"""Convolution by fast Fourier transforms of tiles (overlap-save), in one to three dimensions.

A tile of L inputs gives L - span + 1 outputs along an axis, span what the dilated kernel reaches
over; the product of spectra is summed over channels as one matrix product for each frequency. A
stride is computed at stride 1 and skipped over. The weight gradient sums spectra over all tiles
and transforms back once.

`scipy.fft` where it is installed, which is faster than `numpy.fft`. Tiles may share a product, so
the bits of an image may depend on its batch.

Source: J. Cooley, P. Lewis and P. Welch, Application of the fast Fourier transform to computation
of Fourier integrals, Fourier series and convolution integrals (1967), for the tiling; M. Mathieu,
M. Henaff and Y. LeCun, Fast training of convolutional networks through FFTs (2013),
arXiv:1312.5851, for the sum over channels.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    patch_first,
    pieces,
    spans,
    split,
)
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at, unit_output
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem, Triple, window_span

MOST_SKIPPED = 16
LENGTHS = sorted(m << e for m in (1, 3, 5, 9, 15) for e in range(17) if 8 <= m << e <= 1 << 16)


@lru_cache(maxsize=1)
def library() -> Any:
    """scipy.fft where it is installed; imported when first used, because it is not light."""
    try:
        return importlib.import_module("scipy.fft")
    except ImportError:
        return np.fft


def spectrum_dtype(dtype: np.dtype) -> np.dtype:
    return np.result_type(accumulator(dtype), np.complex64)


@lru_cache(maxsize=1024)
def tile_lengths(output: Triple, reach: Triple, most: int) -> Triple:
    """What to transform along each axis, so that a tile has about `most` elements.

    Between two thirds of an axis's share and the whole of it, what is cheapest for all outputs.
    """
    active = [a for a in range(3) if reach[a] > 1]
    side = round(most ** (1 / max(1, len(active))))
    lengths = [1, 1, 1]
    for axis in active:
        needed = output[axis] + reach[axis] - 1
        whole = next((n for n in LENGTHS if n >= needed), LENGTHS[-1])
        high = max(min(whole, max(side, 2 * reach[axis])), reach[axis])
        found = [
            n for n in LENGTHS if reach[axis] <= n <= high and (3 * n >= 2 * high or n == whole)
        ]
        lengths[axis] = min(found, key=lambda n: axis_cost(output[axis], reach[axis], n))
    return lengths[0], lengths[1], lengths[2]


def axis_cost(output: int, reach: int, length: int) -> float:
    return -(-output // (length - reach + 1)) * length * (4 + math.log2(length))


def tile_count(problem: ConvProblem, lengths: Triple) -> int:
    """Along an axis that is not transformed, a tile has all outputs."""
    count = max(1, problem.batch)
    for axis, length in enumerate(lengths):
        if length > 1:
            reach = window_span(problem.kernel[axis], problem.dilation[axis])
            count *= -(-max(1, unit_output(problem)[axis]) // (length - reach + 1))
    return count


def why_not(problem: ConvProblem, weight_grad: bool) -> str:
    if math.prod(problem.kernel) == 1:
        return "fft does kernels of more than one tap"
    steps = zip(problem.stride, problem.output, strict=True)
    if math.prod(stride for stride, size in steps if size > 1) > MOST_SKIPPED:
        return f"fft does strides of up to {MOST_SKIPPED} in all, because it computes at stride 1"
    if weight_grad and max(problem.stride) > 1:
        return "fft does the weight gradient at stride 1"
    if max(map(window_span, problem.kernel, problem.dilation)) > LENGTHS[-1]:
        return f"fft does kernels that reach over {LENGTHS[-1]} at most"
    return ""


@dataclass(frozen=True)
class Fourier:
    problem: ConvProblem
    scratch: Scratch
    lengths: Triple
    tiles: int  # of a block

    @property
    def unit(self) -> ConvProblem:
        """At stride 1."""
        return replace(self.problem, stride=(1, 1, 1), output=unit_output(self.problem))

    def tile_boxes(self) -> list[Box]:
        problem = self.unit
        cuts = []
        for axis in range(3):
            reach = window_span(problem.kernel[axis], problem.dilation[axis])
            length = self.lengths[axis]
            size = length - reach + 1 if length > 1 else max(1, problem.output[axis])
            cuts.append(spans(problem.output[axis], size))
        return [(d, h, w) for d in cuts[0] for h in cuts[1] for w in cuts[2]]

    def spread_kernel(self, w: Array) -> Array:
        """The taps at their distances."""
        p = self.problem
        if max(p.dilation) == 1:
            return w
        reach = [window_span(k, d) for k, d in zip(p.kernel, p.dilation, strict=True)]
        wide = np.zeros((*w.shape[:-3], *reach), w.dtype)
        wide[at(tuple(slice(None, None, d) for d in p.dilation))] = w
        return wide

    def transformed(self, a: Array) -> Array:
        """Spectra over the axes that have a length; others are left as they are."""
        axes = [axis - 3 for axis in range(3) if self.lengths[axis] > 1]
        s = [n for n in self.lengths if n > 1]
        transform = library().fftn if a.dtype.kind == "c" else library().rfftn
        found = transform(a, s=s, axes=axes)
        return found.astype(spectrum_dtype(a.dtype), copy=False)

    def restored(self, spectrum: Array, dtype: np.dtype) -> Array:
        axes = [axis - 3 for axis in range(3) if self.lengths[axis] > 1]
        s = [n for n in self.lengths if n > 1]
        transform = library().ifftn if dtype.kind == "c" else library().irfftn
        return transform(spectrum, s=s, axes=axes).astype(dtype, copy=False)

    def prepare(self, w: Array) -> Array:
        """Conjugate spectra: (groups, filters, 1, ...) depthwise, else (..., groups, C, K)."""
        p = self.problem
        wide = self.spread_kernel(split(w, p.groups, 0)).astype(accumulator(w.dtype), copy=False)
        spectra = self.transformed(wide.conj()).conj()
        if spectra.shape[2] == 1:
            return spectra[:, :, 0]
        return np.ascontiguousarray(np.transpose(spectra, (3, 4, 5, 0, 2, 1)))

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        x, y = split(x, p.groups, 1), split(y, p.groups, 1)
        epilogue = epilogue.grouped(p.groups, 3)
        depthwise = p.in_channels == p.groups
        every = [(n, box) for n in range(p.batch) for box in self.tile_boxes()]
        if not depthwise:
            threads.run(
                [
                    partial(self.block, x, filters, y, every[r.start : r.stop], epilogue)
                    for r in pieces(len(every), self.tiles)
                ]
            )
            return
        tasks = []
        for n, box in every:
            for g in pieces(p.groups, self.tiles):
                s, part = slice(g.start, g.stop), epilogue.part(g.start, g.stop)
                tasks.append(partial(self.plane, x[n, s], filters[s], y[n, s], box, part))
        threads.run(tasks)

    def plane(self, x: Array, filters: Array, y: Array, box: Box, epilogue: Epilogue) -> None:
        """One tile of some groups of one channel."""
        patch = patch_first(x, self.unit, box, self.scratch)
        self.put(self.transformed(patch) * filters, y, box, epilogue, patch.dtype)

    def block(
        self, x: Array, filters: Array, y: Array, some: Sequence[tuple[int, Box]], e: Epilogue
    ) -> None:
        spectra = self.gathered(x, some)
        products = np.matmul(spectra, filters)  # (..., groups, tiles, filters)
        dtype = accumulator(x.dtype)
        for i, (n, box) in enumerate(some):
            one = np.ascontiguousarray(np.moveaxis(products[..., i, :], (3, 4), (0, 1)))
            self.put(one, y[n], box, e, dtype)

    def gathered(self, x: Array, some: Sequence[tuple[int, Box]]) -> Array:
        """Spectra of tiles: (frequencies along each axis, groups, tiles, channels)."""
        spectra = [
            self.transformed(patch_first(x[n], self.unit, box, self.scratch)) for n, box in some
        ]
        return np.ascontiguousarray(np.stack(spectra).transpose(3, 4, 5, 1, 0, 2))

    def put(self, spectrum: Array, y: Array, box: Box, epilogue: Epilogue, dtype: np.dtype) -> None:
        """Back, and what the stride leaves of the outputs in the tile to where they belong."""
        tile = self.restored(spectrum, dtype)
        sources, targets = [], []
        for axis, r in enumerate(box):
            stride = self.problem.stride[axis]
            first = -(-r.start // stride)
            last = (r.stop - 1) // stride + 1
            sources.append(slice(first * stride - r.start, len(r), stride))
            targets.append(slice(first, max(first, last)))
        if any(t.start == t.stop for t in targets):
            return
        sums = tile[at(tuple(sources))]
        epilogue.apply(sums, 1)
        y[at(tuple(targets))] = sums

    def weight_grad(self, gy: Array, x: Array, gw: Array) -> None:
        """At stride 1: gw[t] = sum over p of gy[p] x[p + t]."""
        p = self.problem
        gy, x, gw = split(gy, p.groups, 1), split(x, p.groups, 1), split(gw, p.groups, 0)
        every = [(n, box) for n in range(p.batch) for box in self.tile_boxes()]
        cut = pieces(len(every), max(1, min(self.tiles, -(-len(every) // threads.count()))))
        sums: list[Array | None] = [None] * min(len(cut), threads.count())
        shares = pieces(len(cut), -(-len(cut) // len(sums)))

        def work(i: int) -> None:
            for r in cut[shares[i].start : shares[i].stop]:
                some = every[r.start : r.stop]
                grads = []
                for n, box in some:
                    tile = gy[n][at(tuple(slice(b.start, b.stop) for b in box))]
                    tile = tile.astype(accumulator(gy.dtype), copy=False)
                    grads.append(self.transformed(tile.conj()).conj())
                left = np.ascontiguousarray(np.stack(grads).transpose(3, 4, 5, 1, 2, 0))
                product = np.matmul(left, self.gathered(x, some))  # (..., groups, K, C)
                total = sums[i]
                sums[i] = product if total is None else total + product

        threads.run([partial(work, i) for i in range(len(shares))])
        total = sum(found for found in sums if found is not None)
        idle = tuple(axis for axis in range(3) if self.lengths[axis] == 1)
        total = np.moveaxis(total.sum(axis=idle, keepdims=True), (3, 4, 5), (0, 1, 2))
        tile = self.restored(np.ascontiguousarray(total), accumulator(gw.dtype))
        taps = tuple(
            slice(0, d * (k - 1) + 1, d) for d, k in zip(p.dilation, p.kernel, strict=True)
        )
        gw[...] = tile[at(taps)]
