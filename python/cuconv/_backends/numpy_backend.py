"""The everyday backend for NumPy arrays: convolution by lowering to BLAS products.

Two families share one piece of code. `im2col` lowers all taps of the kernel at once: one product a
block of outputs, and a column buffer kernel-size times the input. `direct` lowers one tap at a
time: as many products as taps, and no more memory than the block of the input itself. Both walk
the output in blocks, so that their buffers keep inside the workspace limit.

A product never spans two images, so the bits of an image's result do not depend on its batch.
float16 and bfloat16 are lowered to float32 and accumulated there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cuconv._arguments import FAMILIES
from cuconv._backends._functions import activate
from cuconv._backends._geometry import at, tap_slices, taps_of
from cuconv._backends._numpy_pool import NumpyPool, accumulator
from cuconv._backends._protocol import Array, Candidate, ConvOptions, Direction
from cuconv._problem import ConvProblem, Triple
from cuconv.errors import UnsupportedError

DEFAULT_LIMIT = 256 << 20  # what `workspace_limit=None` allows
BLOCK = 4 << 20  # a block's buffers, so that they stay in the caches

Box = tuple[range, range, range]  # a block of one image's outputs


def spans(size: int, length: int) -> list[range]:
    return [range(i, min(i + length, size)) for i in range(0, size, length)]


def spread(steps: Sequence[int], by: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Strides that skip elements; none where only one is taken, because `by` may be huge there."""
    axes = zip(steps, by, counts, strict=True)
    return tuple(step * factor if count > 1 else 0 for step, factor, count in axes)


def slices_of(box: Box) -> tuple[slice, slice, slice]:
    d, h, w = (slice(r.start, r.stop) for r in box)
    return d, h, w


def split(array: Array, groups: int, axis: int) -> Array:
    """A view with the channel axis split in (groups, channels of a group), whatever its strides."""
    size = array.shape[axis] // groups
    shape = (*array.shape[:axis], groups, size, *array.shape[axis + 1 :])
    step = array.strides[axis]
    strides = (*array.strides[:axis], size * step, *array.strides[axis:])
    return np.lib.stride_tricks.as_strided(array, shape, strides)


@dataclass(frozen=True, slots=True)
class LoweredConv:
    """A convolution as products of filters with lowered inputs, block by block.

    Columns are (images, groups, taps * channels, positions), filters (groups, K, taps * channels).
    """

    direction: Direction
    problem: ConvProblem
    options: ConvOptions
    algo: str
    positions: int  # outputs a block holds
    workspace_bytes: int

    @property
    def variant(self) -> str:
        return f"{self.algo}_blas"

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        if out.size == 0:
            return
        with np.errstate(all="ignore"):  # infinities and NaN are results like others
            if self.direction == "forward":
                self.forward(a, b, bias, out)
            elif self.direction == "input_grad":
                self.input_grad(a, b, bias, out)
            else:
                self.weight_grad(a, b, out)

    def forward(self, x: Array, w: Array, bias: Array | None, y: Array) -> None:
        x, y = split(x, self.problem.groups, 1), split(y, self.problem.groups, 1)
        filters = self.filters(w)
        for images in self.image_blocks():
            for box in self.boxes():
                target = y[images][at(slices_of(box))]
                products = (m @ self.lower(x[images], taps, box) for taps, m in filters)
                total = next(products)
                for product in products:
                    total += product
                target[...] = self.finish(total.reshape(target.shape), bias)

    def input_grad(self, gy: Array, w: Array, bias: Array | None, gx: Array) -> None:
        gy, gx = split(gy, self.problem.groups, 1), split(gx, self.problem.groups, 1)
        filters = self.filters(w.conj() if self.options.conjugate else w)
        for images in self.image_blocks():
            sums = np.zeros(gx[images].shape, accumulator(gx.dtype))
            for box in self.boxes():
                rows = self.rows(gy[images], box)
                for taps, matrix in filters:
                    self.raise_onto(sums, matrix.swapaxes(-1, -2) @ rows, taps, box)
            gx[images] = self.finish(sums, bias)

    def weight_grad(self, gy: Array, x: Array, gw: Array) -> None:
        gy, x = split(gy, self.problem.groups, 1), split(x, self.problem.groups, 1)
        gw = split(gw, self.problem.groups, 0)
        for taps in self.tap_groups():
            sums = np.zeros((*gw.shape[:2], len(taps) * gw.shape[2]), accumulator(gw.dtype))
            for images in self.image_blocks():
                for box in self.boxes():
                    columns = self.lower(x[images], taps, box)
                    if self.options.conjugate:
                        columns = columns.conj()
                    products = self.rows(gy[images], box) @ columns.swapaxes(-1, -2)
                    sums += products.sum(axis=0)
            for i, tap in enumerate(taps):
                c = gw.shape[2]
                gw[at(tap)] = sums[:, :, i * c : (i + 1) * c]

    # ---- the walk ----

    def tap_groups(self) -> list[list[Triple]]:
        """Which taps are lowered together."""
        taps = list(taps_of(self.problem.kernel))
        return [taps] if self.algo == "im2col" else [[tap] for tap in taps]

    def box_size(self) -> Triple:
        z, p, q = (max(1, size) for size in self.problem.output)  # an adjoint may have none
        q = min(q, self.positions)
        p = min(p, max(1, self.positions // q))
        return min(z, max(1, self.positions // (p * q))), p, q

    def boxes(self) -> Iterator[Box]:
        """Blocks of an image's outputs: the same ones whatever the batch."""
        z, p, q = (
            spans(size, length)
            for size, length in zip(self.problem.output, self.box_size(), strict=True)
        )
        for d in z:
            for h in p:
                for w in q:
                    yield d, h, w

    def image_blocks(self) -> Iterator[slice]:
        """Several images at once where an image is smaller than a block."""
        size = max(1, self.positions // max(1, math.prod(self.problem.output)))
        for images in spans(self.problem.batch, size):
            yield slice(images.start, images.stop)

    # ---- the lowering, its adjoint, and the operands ----

    def filters(self, w: Array) -> list[tuple[list[Triple], Array]]:
        w = split(w, self.problem.groups, 0)
        dtype = accumulator(w.dtype)
        found = []
        for taps in self.tap_groups():
            matrix = np.stack([w[at(tap)] for tap in taps], axis=2)
            matrix = matrix.reshape(*matrix.shape[:2], matrix.shape[2] * matrix.shape[3])
            found.append((taps, matrix.astype(dtype, copy=False)))
        return found

    def lower(self, x: Array, taps: list[Triple], box: Box) -> Array:
        n, groups, c = x.shape[:3]
        positions = math.prod(len(r) for r in box)
        if len(taps) > 1 and math.prod(self.patch_size(box)) <= len(taps) * positions:
            columns = self.windows(self.patch(x, box), box)
        else:
            columns = self.shifted(x, taps, box)
        return columns.reshape(n, groups, len(taps) * c, positions)

    def patch_size(self, box: Box) -> tuple[int, ...]:
        """What all windows of a box reach over."""
        p = self.problem
        return tuple(
            (len(r) - 1) * p.stride[axis] + p.dilation[axis] * (p.kernel[axis] - 1) + 1
            for axis, r in enumerate(box)
        )

    def patch(self, x: Array, box: Box) -> Array:
        """The input under a box, with the zeros of its padding."""
        sizes, sources, targets = self.patch_size(box), [], []
        for axis, size in enumerate(sizes):
            start = box[axis].start * self.problem.stride[axis] - self.problem.pad_low[axis]
            first, last = max(start, 0), min(start + size, x.shape[3 + axis])
            sources.append(slice(first, max(first, last)))
            targets.append(slice(first - start, max(first, last) - start))
        patch = np.zeros((*x.shape[:3], *sizes), accumulator(x.dtype))
        patch[at(tuple(targets))] = x[at(tuple(sources))]
        return patch

    def windows(self, patch: Array, box: Box) -> Array:
        """(images, groups, taps, channels, positions), a copy of a view of all windows at once."""
        n, group, c, *steps = patch.strides
        p = self.problem
        positions = tuple(len(r) for r in box)
        shape = (*patch.shape[:2], *p.kernel, patch.shape[2], *positions)
        strides = (n, group, *spread(steps, p.dilation, p.kernel), c)
        strides += spread(steps, p.stride, positions)
        return np.lib.stride_tricks.as_strided(patch, shape, strides)

    def shifted(self, x: Array, taps: list[Triple], box: Box) -> Array:
        """The same, tap by tap: for one tap, and for windows with wide gaps."""
        n, groups, c = x.shape[:3]
        shape = (n, groups, len(taps), c, *(len(r) for r in box))
        columns = np.empty(shape, accumulator(x.dtype))
        for i, tap in enumerate(taps):
            target = columns[:, :, i]
            slices = tap_slices(self.problem, tap, box)
            if slices is None:
                target[...] = 0
                continue
            source, met = slices
            if any(s.start > 0 or s.stop < len(r) for s, r in zip(met, box, strict=True)):
                target[...] = 0
            target[at(met)] = x[at(source)]
        return columns

    def raise_onto(self, sums: Array, columns: Array, taps: list[Triple], box: Box) -> None:
        """The adjoint of `lower`: adds columns to the inputs they were lowered from."""
        n, groups, c = sums.shape[:3]
        columns = columns.reshape(n, groups, len(taps), c, *(len(r) for r in box))
        for i, tap in enumerate(taps):
            if slices := tap_slices(self.problem, tap, box):
                source, met = slices
                sums[at(source)] += columns[:, :, i][at(met)]

    def rows(self, gy: Array, box: Box) -> Array:
        block = gy[at(slices_of(box))]
        block = block.astype(accumulator(gy.dtype), copy=False)
        return block.reshape(*block.shape[:3], math.prod(block.shape[3:]))

    def finish(self, sums: Array, bias: Array | None) -> Array:
        if bias is not None:
            bias = bias.astype(sums.dtype, copy=False)
            sums = sums + bias.reshape(*sums.shape[1:3], 1, 1, 1)
        return activate(sums, self.options.activation)


# ---- the choice ----


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of temporary memory: once a call, and for each output position of a block."""

    fixed: int
    position: int


def sizes_of(direction: Direction, problem: ConvProblem, algo: str) -> Sizes:
    item = accumulator(problem.dtype).itemsize
    taps = math.prod(problem.kernel)
    lowered = problem.in_channels * (taps if algo == "im2col" else 1)
    fixed = problem.out_channels * (problem.in_channels // problem.groups) * taps
    position = 2 * lowered + 2 * problem.out_channels  # columns, the patch they come from, sums
    if direction == "input_grad":
        fixed += 2 * math.prod(problem.x_shape[1:])
    return Sizes(fixed * item, position * item)


def estimated_seconds(problem: ConvProblem, algo: str) -> float:
    """Multiply-adds at the pace of BLAS, and the bytes that lowering and adding move."""
    taps = math.prod(problem.kernel)
    positions = problem.batch * math.prod(problem.output)
    c, k = problem.in_channels, problem.out_channels
    multiply_adds = positions * taps * (c // problem.groups) * k
    moved = positions * (2 * taps * c + 2 * k if algo == "im2col" else taps * (2 * c + 3 * k))
    return multiply_adds / 2e10 + moved * problem.dtype.itemsize / 5e9


class NumpyBackend(NumpyPool):
    name: str = "numpy"
    device: Literal["cpu", "cuda"] = "cpu"

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def conv_candidates(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> list[Candidate]:
        return [self.candidate(family, direction, problem, options) for family in FAMILIES]

    def candidate(
        self, family: str, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> Candidate:
        if family not in ("direct", "im2col"):
            reason = f"the {family} family has no NumPy kernel; direct and im2col do this problem"
            return Candidate(family, False, reason, 0, math.inf, "", "cpu")
        _, workspace = self.block(family, direction, problem, options)
        limit = options.workspace_limit
        reason = ""
        if limit is not None and workspace > limit:
            reason = (
                f"{family} needs at least {workspace} bytes of workspace, workspace_limit={limit}"
            )
        return Candidate(
            family,
            not reason,
            reason,
            workspace,
            estimated_seconds(problem, family),
            f"{family}_blas",
            "cpu",
        )

    @staticmethod
    def block(
        family: str, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> tuple[int, int]:
        """How many output positions a block holds, and the bytes that takes."""
        limit = DEFAULT_LIMIT if options.workspace_limit is None else options.workspace_limit
        sizes = sizes_of(direction, problem, family)
        most = max(1, problem.batch * math.prod(problem.output))
        room = min(limit - sizes.fixed, BLOCK)
        positions = min(most, max(1, room // max(1, sizes.position)))
        return positions, sizes.fixed + positions * sizes.position

    def conv(self, direction: Direction, problem: ConvProblem, options: ConvOptions) -> LoweredConv:
        candidates = self.conv_candidates(direction, problem, options)
        if options.algo in FAMILIES:
            chosen = next(c for c in candidates if c.algo == options.algo)
            if not chosen.supported:
                raise UnsupportedError(chosen.reason)
        else:
            # Where nothing keeps inside the limit, what comes closest to it: "auto" never refuses.
            chosen = min(
                (c for c in candidates if c.variant),
                key=lambda c: (not c.supported, c.workspace_bytes * (not c.supported), c.cost),
            )
        positions, workspace = self.block(chosen.algo, direction, problem, options)
        return LoweredConv(direction, problem, options, chosen.algo, positions, workspace)
