"""Winograd's minimal filtering F(m, 3), m = 2 or 4, along every axis where the kernel has 3 taps.

    y = A^T [ (G w G^T) * (B^T x B) ] A        in two dimensions, * element by element

for tiles of m outputs an axis, which read m + 2 inputs each. Summed over channels, the product in
the middle is one matrix product for each of the (m + 2)^axes points: 4 multiplications an output
instead of 9 in two dimensions with m = 2, and 2.25 with m = 4.

Transforms are products as well, with the Kronecker product of the axes' matrices: BLAS does their
zeros too, and is still faster than many small element-wise operations would be. Products may span
images, so the bits of an image may depend on its batch.

Sources: A. Lavin and S. Gray, Fast algorithms for convolutional neural networks (2015),
arXiv:1509.09308; for the matrices and what points do to errors B. Barabasz, A. Anderson, K. M.
Soodhalter and D. Gregg, Error analysis and improving the accuracy of Winograd convolution for deep
neural networks (2018), arXiv:1803.10986.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache, partial

import numpy as np

from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import Box, Scratch, accumulator, patch_last, pieces
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._geometry import at
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem

# Where the polynomials are evaluated, besides at infinity. Errors grow with the spread of the
# points' powers: of the sets of small fractions tried these lose least, a quarter of 0, +-1, +-2.
POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
PITCH = 16


@dataclass(frozen=True)
class Matrices:
    filter: Array  # G, (m + 2, 3)
    input: Array  # B^T, (m + 2, m + 2)
    output: Array  # A^T, (m, m + 2)


def product_of(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the polynomial with these roots, the constant first."""
    found = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *found]
        found = [high - root * low for high, low in zip(raised, [*found, Fraction(0)], strict=True)]
    return found


@lru_cache(maxsize=8)
def matrices(m: int, axes: int, dtype: np.dtype) -> Matrices:
    """Toom and Cook's, along `axes` axes at once: the Kronecker product of each axis's."""
    points = POINTS[m]
    output = [[p**i for p in points] + [Fraction(int(i == m - 1))] for i in range(m)]
    filters, inputs = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = math.prod((p - q for q in others), start=Fraction(1))
        filters.append([p**j / scale for j in range(3)])
        inputs.append([*product_of(others), Fraction(0)])
    filters.append([Fraction(0), Fraction(0), Fraction(1)])
    inputs.append(product_of(points))
    found = []
    for table in (filters, inputs, output):
        one = np.array(table, np.float64)
        whole: Array = np.ones((1, 1))
        for _ in range(axes):
            whole = np.kron(whole, one)
        found.append(whole.astype(dtype))
    return Matrices(*found)


def why_not(problem: ConvProblem) -> str:
    if any(k not in (1, 3) for k in problem.kernel) or 3 not in problem.kernel:
        return "winograd does kernels of 3 taps along an axis, or 1 along some of several"
    for axis, kernel in enumerate(problem.kernel):
        if problem.stride[axis] > 1:
            return "winograd does stride 1"
        if kernel == 3 and problem.dilation[axis] > 1:
            return "winograd does dilation 1"
    return ""


@dataclass(frozen=True)
class Winograd:
    problem: ConvProblem
    scratch: Scratch
    m: int
    tiles: int  # of a block, about

    @cached_property
    def axes(self) -> tuple[int, ...]:
        return tuple(a for a in range(3) if self.problem.kernel[a] == 3)

    @property
    def points(self) -> int:
        return (self.m + 2) ** len(self.axes)

    def matrices(self, dtype: np.dtype) -> Matrices:
        return matrices(self.m, len(self.axes), dtype)

    # ---- filters ----

    def prepare(self, w: Array) -> Array:
        """(groups, points, channels, filters), a transposed view of what BLAS writes."""
        p = self.problem
        dtype = accumulator(w.dtype)
        matrix = self.matrices(dtype).filter
        taps = w.reshape(p.out_channels, p.in_channels // p.groups, math.prod(p.kernel))
        rows = taps.reshape(len(taps) * taps.shape[1], taps.shape[2]).astype(dtype, copy=False)
        filters = np.empty((self.points, len(rows)), dtype)
        cut = (
            pieces(len(rows), -(-len(rows) // threads.count()))
            if filters.nbytes > 1 << 20
            else [range(len(rows))]
        )

        def task(part: range) -> None:
            s = slice(part.start, part.stop)
            np.matmul(matrix, rows[s].T, out=filters[:, s])

        threads.run([partial(task, part) for part in cut])
        shape = (self.points, p.groups, p.out_channels // p.groups, taps.shape[1])
        return filters.reshape(shape).transpose(1, 0, 3, 2)

    # ---- blocks ----

    def counts(self) -> tuple[int, int, int]:
        """Tiles along each axis of an image."""
        z, p, q = (
            -(-size // self.m) if axis in self.axes else size
            for axis, size in enumerate(self.problem.output)
        )
        return z, p, q

    def boxes(self) -> list[tuple[range, range, range, range]]:
        """Blocks: images, and tiles along each axis."""
        z, p, q = self.counts()
        batch = self.problem.batch
        most = max(1, self.tiles)
        total = batch * z * p * q
        share = -(-total // threads.count())
        if share < most:
            most = max(16, share)
        one, rest = pieces(batch, 1), z * p * q
        if rest < most:
            cut = [pieces(batch, max(1, round(most / rest))), [range(z)], [range(p)], [range(q)]]
        elif p * q < most:
            cut = [one, pieces(z, max(1, round(most / (p * q)))), [range(p)], [range(q)]]
        elif q < most:
            cut = [one, pieces(z, 1), pieces(p, max(1, round(most / q))), [range(q)]]
        else:
            cut = [one, pieces(z, 1), pieces(p, 1), pieces(q, most)]
        return [(n, a, b, c) for n in cut[0] for a in cut[1] for b in cut[2] for c in cut[3]]

    def compute(self, x: Array, filters: Array, y: Array, epilogue: Epilogue) -> None:
        p = self.problem
        c, k = p.in_channels // p.groups, p.out_channels // p.groups
        tasks = []
        for block in self.boxes():
            for g in range(p.groups):
                xs = x[block[0].start : block[0].stop, g * c : (g + 1) * c]
                ys = y[block[0].start : block[0].stop, g * k : (g + 1) * k]
                part = epilogue.part(g * k, (g + 1) * k)
                tasks.append(partial(self.block, xs, filters[g], ys, block[1:], part))
        threads.run(tasks)

    def block(
        self, x: Array, filters: Array, y: Array, tiles: tuple[range, ...], epilogue: Epilogue
    ) -> None:
        points, c, k = filters.shape
        dtype, scratch = filters.dtype, self.scratch
        images = len(x)
        count = images * math.prod(len(t) for t in tiles)
        v = scratch("transformed", (points, count * c), dtype)
        np.matmul(self.matrices(dtype).input, self.gathered(x, tiles, dtype), out=v)
        products = scratch("products", (points, count, k), dtype)
        np.matmul(v.reshape(points, count, c), filters, out=products)
        outputs = self.m ** len(self.axes)
        result = scratch("transformed", (outputs, count * k), dtype)
        np.matmul(self.matrices(dtype).output, products.reshape(points, count * k), out=result)
        self.store(result, y, tiles, epilogue)

    def outputs(self, tiles: tuple[range, ...]) -> Box:
        """The outputs of whole tiles; the last ones may reach past the array."""
        d, h, w = (
            range(t.start * self.m, t.stop * self.m) if axis in self.axes else t
            for axis, t in enumerate(tiles)
        )
        return d, h, w

    def gathered(self, x: Array, tiles: tuple[range, ...], dtype: np.dtype) -> Array:
        """The inputs of all tiles: (points, images * tiles * channels)."""
        patch = patch_last(x, self.problem, self.outputs(tiles), self.scratch)
        steps = patch.strides[1:4]
        points = [self.m + 2 if axis in self.axes else 1 for axis in range(3)]
        strides = [step * self.m if axis in self.axes else step for axis, step in enumerate(steps)]
        counts = [len(t) for t in tiles]
        view = np.lib.stride_tricks.as_strided(
            patch,
            (*points, len(x), *counts, patch.shape[4]),
            (*steps, patch.strides[0], *strides, patch.strides[4]),
        )
        tiled = self.scratch("products", view.shape, dtype)
        np.copyto(tiled, view)
        return tiled.reshape(self.points, tiled.size // self.points)

    def store(self, result: Array, y: Array, tiles: tuple[range, ...], epilogue: Epilogue) -> None:
        """`result` is (outputs of a tile, images * tiles * filters)."""
        images, k = y.shape[:2]
        tile = [self.m if axis in self.axes else 1 for axis in range(3)]
        counts = [len(t) for t in tiles]
        mixed = [size for pair in zip(counts, tile, strict=True) for size in pair]
        # A pitch that is no power of two, so that columns of it do not meet in one cache set.
        last = self.scratch("last", (images, *mixed, k + PITCH), result.dtype)[..., :k]
        np.copyto(last.transpose(2, 4, 6, 0, 1, 3, 5, 7), result.reshape(*tile, images, *counts, k))
        epilogue.apply(last, -1)
        whole = last.reshape(images, *(c * t for c, t in zip(counts, tile, strict=True)), k)
        starts = [r.start for r in self.outputs(tiles)]
        stops = [
            min(r.stop, size)
            for r, size in zip(self.outputs(tiles), self.problem.output, strict=True)
        ]
        box = tuple(slice(a, b) for a, b in zip(starts, stops, strict=True))
        inside = tuple(slice(b - a) for a, b in zip(starts, stops, strict=True))
        y[at(box)] = np.moveaxis(whole, -1, 1)[at(inside)]
