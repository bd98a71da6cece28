"""Convolution by Fourier transforms of whole planes, by a library of transforms for arrays of any
kind: for kernels of the order of the image, where tiles would overlap by most of themselves.

Every direction is one circular correlation or convolution of an image with a kernel, both laid in
a grid of zeros that is long enough for what is wanted not to wrap around:

=========== ========================= ============================== =====
direction   image, kernel             spectra of the result          sums over
=========== ========================= ============================== =====
forward     x, w with its dilation    x^ conj(w^)                    channels
input_grad  gy with its stride, w     gy^ w^                         filters
weight_grad x, gy with its stride     x^ conj(gy^)                   images
=========== ========================= ============================== =====

Floor: 5/2 n log2 n operations a real plane of n elements, and 4 n/2 for each pair of a channel and
a filter; memory decides. Images go one by one, and groups in chunks that fit the workspace, so the
bits of an image do not depend on its batch. Sums run in order.

Source: J. Cooley, P. Lewis and P. Welch (1967), on convolution by transforms of finite series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from cuconv._backends import _functions
from cuconv._backends._geometry import at, unit_output
from cuconv._backends._protocol import Array, ConvOptions, Direction
from cuconv._backends._rules import NOMINAL_BATCH, Counted
from cuconv._problem import ConvProblem, Triple, window_span

NAME = "fft_full_plane"
DEFAULT_BYTES = 256 << 20  # without a workspace_limit, unless one group needs more
# Of a plane: up to 128 million elements cuFFT was long documented, 64 million in double precision.
MOST_ELEMENTS = 1 << 27
MOST_BATCH = (1 << 31) - 1  # elements of a transform of several planes
# By cuFFT's documentation a plan's work area has, in the worst case, eight complex elements for
# each element of the batch.
WORK_AREA = 8
# What the host takes to make a cuFFT plan, in kernel launches. An assumption, not a measurement.
PLAN_LAUNCHES = 100
# Lengths have the factors 2, 3, 5 and 7, for which cuFFT has kernels.
ODD_LENGTHS = sorted(
    n
    for n in (3**b * 5**c * 7**d for b in range(18) for c in range(12) for d in range(10))
    if n <= MOST_ELEMENTS
)


@lru_cache(maxsize=1024)
def good_length(least: int) -> int:
    """The shortest length of small factors that is not below."""
    return min(odd << (-(-least // odd) - 1).bit_length() for odd in ODD_LENGTHS)


class Axis(NamedTuple):
    """Where the image begins in the grid, and where the result lies in it."""

    length: int
    image: slice
    kernel: slice
    found: slice  # in the grid
    wanted: slice  # of the result; the rest of it is zeros


def axis_of(direction: Direction, p: ConvProblem, axis: int) -> Axis:
    stride, dilation, pad = p.stride[axis], p.dilation[axis], p.pad_low[axis]
    outputs, taps, inputs = unit_output(p)[axis], p.kernel[axis], p.input[axis]
    by_w = slice(0, window_span(taps, dilation), dilation)
    by_y = slice(0, max(1, outputs), stride)
    if direction == "forward":
        image, kernel, low, step, count = slice(0, inputs, 1), by_w, -pad, stride, p.output[axis]
    elif direction == "input_grad":
        image, kernel, low, step, count = by_y, by_w, pad, 1, inputs
    else:
        image, kernel, low, step, count = slice(0, inputs, 1), by_y, -pad, dilation, taps
    # Where the two meet at all: a correlation begins with the kernel's last element on the first.
    first = 0 if direction == "input_grad" else 1 - kernel.stop
    last = first + max(1, image.stop) + kernel.stop - 2
    begin, end = max(0, -((low - first) // step)), min(count, (last - low) // step + 1)
    if begin >= end:
        return Axis(1, image, kernel, slice(0, 0), slice(0, 0))
    nearest, farthest = low + begin * step, low + (end - 1) * step
    offset = max(0, -nearest)
    length = max(image.stop + offset, kernel.stop, last - nearest + 1, farthest - first + 1)
    return Axis(
        good_length(length),
        slice(offset, offset + image.stop, image.step),
        kernel,
        slice(nearest + offset, farthest + offset + 1, step),
        slice(begin, end),
    )


@dataclass(frozen=True)
class Sizes:
    """Of one group: planes of each kind, elements of a plane, and bytes of an element."""

    axes: tuple[Axis, Axis, Axis]
    image: int
    kernel: int
    result: int
    item: int
    spectrum_item: int
    is_complex: bool

    @property
    def lengths(self) -> Triple:
        d, h, w = (axis.length for axis in self.axes)
        return d, h, w

    @property
    def compact(self) -> tuple[int, ...]:
        """Lengths of the axes that are transformed."""
        return tuple(n for n in self.lengths if n > 1) or (1,)

    @property
    def elements(self) -> int:
        return math.prod(self.lengths)

    @property
    def frequencies(self) -> tuple[int, ...]:
        *others, last = self.compact
        return (*others, last if self.is_complex else last // 2 + 1)

    @property
    def most(self) -> int:
        return max(self.image, self.kernel, self.result)

    @property
    def bytes(self) -> int:
        """All spectra, twice those of the result because a term is added to it; a grid, its copy
        where a transform back makes one, and the work area of one plan."""
        spectrum = math.prod(self.frequencies) * self.spectrum_item
        grid = self.elements * self.item + spectrum
        work = WORK_AREA * self.elements * self.spectrum_item
        return (self.image + self.kernel + 2 * self.result) * spectrum + self.most * (grid + work)


def sizes_of(direction: Direction, p: ConvProblem) -> Sizes:
    c, k = p.in_channels // p.groups, p.out_channels // p.groups
    image, kernel, result = {
        "forward": (c, c * k, k),
        "input_grad": (k, c * k, c),
        "weight_grad": (c, k, c * k),
    }[direction]
    real = 8 if p.dtype.name in ("float64", "complex128") else 4
    is_complex = p.dtype.kind == "c"
    axes = axis_of(direction, p, 0), axis_of(direction, p, 1), axis_of(direction, p, 2)
    item = 2 * real if is_complex else real
    return Sizes(axes, image, kernel, result, item, 2 * real, is_complex)


@dataclass(frozen=True)
class Plan:
    refusal: str
    sizes: Sizes | None = None
    groups: int = 0  # of a chunk
    workspace: int = 0
    counted: Counted = (0, "cuda_cores", 0, 0)


@lru_cache(maxsize=1024)
def plan_of(direction: Direction, p: ConvProblem, limit: int | None) -> Plan:
    """How, or why not. The batch has no say."""
    if math.prod(p.kernel) == 1:
        return Plan("it transforms planes, and this kernel has a single tap")
    reach = max(
        size + outputs + window_span(taps, dilation) + abs(pad)
        for size, outputs, taps, dilation, pad in zip(
            p.input, unit_output(p), p.kernel, p.dilation, p.pad_low, strict=True
        )
    )
    if reach > MOST_ELEMENTS:
        return Plan("its windows reach over more than 2^27 positions along one axis")
    sizes = sizes_of(direction, p)
    doubled = sizes.spectrum_item // 8
    if sizes.elements * doubled > MOST_ELEMENTS or sizes.elements * sizes.most > MOST_BATCH:
        return Plan(
            f"a plane has {sizes.elements} elements and a group {sizes.most} planes: more than "
            "2^27 (in double precision 2^26), or than 2^31 in all"
        )
    if limit is not None and sizes.bytes > limit:
        return Plan(f"one group takes {sizes.bytes} bytes of workspace, the limit is {limit}")
    fit = max(DEFAULT_BYTES if limit is None else limit, sizes.bytes) // max(1, sizes.bytes)
    most = MOST_BATCH // max(1, sizes.elements * sizes.most)
    groups = max(1, min(p.groups, fit, most))
    return Plan("", sizes, groups, groups * sizes.bytes, counted(direction, p, sizes, groups))


def counted(direction: Direction, p: ConvProblem, sizes: Sizes, groups: int) -> Counted:
    """Of one image: the filters are shared by NOMINAL_BATCH images of nobody in particular."""
    n, passes = sizes.elements, len(sizes.compact)
    spectrum = math.prod(sizes.frequencies)
    shared = sizes.result if direction == "weight_grad" else sizes.kernel
    planes = sizes.image + sizes.kernel + sizes.result - shared * (1 - 1 / NOMINAL_BATCH)
    terms = p.in_channels * p.out_channels / p.groups**2  # of a group
    operations = planes * (5.0 if sizes.is_complex else 2.5) * n * math.log2(max(2, n))
    operations += 4 * terms * spectrum
    # A grid is cleared, filled and read; each pass of a transform reads and writes; a product
    # reads a factor, and a term is written, read and added.
    moved = planes * (3 * n * sizes.item + 2 * passes * spectrum * sizes.spectrum_item)
    moved += 5 * terms * spectrum * sizes.spectrum_item
    loops = {"forward": sizes.image, "input_grad": sizes.image, "weight_grad": 1}[direction]
    chunks = -(-p.groups // groups)
    launches = chunks * (3 * PLAN_LAUNCHES + 3 * passes + 2 * loops + 6)
    real = operations / (4 if sizes.is_complex else 1)  # in the problem's numbers
    return p.groups * real, "cuda_cores", p.groups * moved, launches


# ---- the arithmetic ----


@dataclass(frozen=True)
class Library:
    """Arrays and transforms of one kind: NumPy and scipy.fft, or CuPy and its likeness of it.

    `planned` makes a plan (of "R2C", "C2R" or "C2C", for that array) that holds while it is entered
    and is freed after.
    """

    arrays: Any
    transforms: Any
    planned: Callable[[Array, tuple[int, ...], tuple[int, ...], str], AbstractContextManager[Any]]


class FullPlane:
    """One convolution."""

    def __init__(
        self,
        library: Library,
        direction: Direction,
        problem: ConvProblem,
        options: ConvOptions,
        plan: Plan,
    ) -> None:
        assert plan.sizes is not None
        self.library, self.xp = library, library.arrays
        self.direction, self.problem, self.options = direction, problem, options
        self.plan, self.sizes = plan, plan.sizes
        kind = np.complex64 if self.sizes.is_complex else np.float32
        self.dtype = np.result_type(kind, f"f{self.sizes.spectrum_item // 2}")
        self.axes = tuple(range(-len(self.sizes.compact), 0))

    def compute(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        if out.size == 0:
            return
        wanted = tuple(axis.wanted for axis in self.sizes.axes)
        nothing = a.size == 0 or b.size == 0 or any(w.start == w.stop for w in wanted)
        if nothing or any(w != slice(0, n) for w, n in zip(wanted, out.shape[2:], strict=True)):
            out[...] = self.finished(self.xp.zeros((out.shape[1], 1, 1, 1), self.dtype), bias)
        if nothing:
            return
        p, out = self.problem, out[at(wanted)]
        c, k = p.in_channels // p.groups, p.out_channels // p.groups
        for first in range(0, p.groups, self.plan.groups):
            groups = min(self.plan.groups, p.groups - first)
            of_c = slice(first * c, (first + groups) * c)
            of_k = slice(first * k, (first + groups) * k)
            if self.direction == "weight_grad":
                self.weight_grad(groups, a[:, of_k], b[:, of_c], out[of_k])
                continue
            read, written = (of_c, of_k) if self.direction == "forward" else (of_k, of_c)
            some = None if bias is None else bias[written]
            self.images(groups, a[:, read], b[of_k], some, out[:, written])

    def images(self, groups: int, a: Array, w: Array, bias: Array | None, out: Array) -> None:
        """y of x, or gx of gy."""
        filters = self.filters(groups, w)
        for image, result in zip(a, out, strict=True):
            result[...] = self.finished(self.image(groups, image, filters), bias)

    def filters(self, groups: int, w: Array) -> Array:
        """(groups, summed over, results, ...)"""
        forward = self.direction == "forward"
        # A correlation is a product with the conjugate of the spectrum of the conjugate.
        found = self.spectra(w, "kernel", self.options.conjugate != forward)
        if forward:
            self.xp.conj(found, out=found)
        found = found.reshape(groups, -1, w.shape[1], *self.sizes.frequencies)
        return found.swapaxes(1, 2) if forward else found

    def image(self, groups: int, image: Array, filters: Array) -> Array:
        spectra = self.spectra(image, "image", False)
        spectra = spectra.reshape(groups, -1, 1, *self.sizes.frequencies)
        return self.restored(
            self.sum_of((spectra[:, i], filters[:, i]) for i in range(spectra.shape[1]))
        )

    def weight_grad(self, groups: int, gy: Array, x: Array, gw: Array) -> None:
        frequencies = self.sizes.frequencies

        def pair(gy: Array, x: Array) -> tuple[Array, Array]:
            of_gy = self.spectra(gy, "kernel", True)
            self.xp.conj(of_gy, out=of_gy)
            of_x = self.spectra(x, "image", self.options.conjugate)
            of_gy = of_gy.reshape(groups, -1, 1, *frequencies)
            return of_gy, of_x.reshape(groups, 1, -1, *frequencies)

        found = self.restored(self.sum_of(map(pair, gy, x)))
        gw[...] = found.reshape(gw.shape)

    def sum_of(self, pairs: Iterable[tuple[Array, Array]]) -> Array:
        """Of their products, one after the other."""
        total = term = None
        for a, b in pairs:
            if total is None:
                total = a * b
            else:
                term = a * b if term is None else self.xp.multiply(a, b, out=term)
                total += term
            del a, b  # before the next are made
        return total

    def spectra(self, array: Array, what: str, conjugate: bool) -> Array:
        """(planes, *frequencies) of the planes of an array."""
        planes, lengths = array.shape[:-3], self.sizes.compact
        grid = self.xp.zeros((math.prod(planes), *lengths), self.dtype)
        inside = grid.reshape(*planes, *self.sizes.lengths)
        inside[at(tuple(getattr(axis, what) for axis in self.sizes.axes))] = array
        if conjugate and self.sizes.is_complex:
            self.xp.conj(grid, out=grid)
        kind = "C2C" if self.sizes.is_complex else "R2C"
        transform = self.library.transforms.fftn if kind == "C2C" else self.library.transforms.rfftn
        with self.library.planned(grid, lengths, self.axes, kind):
            return transform(grid, s=lengths, axes=self.axes, overwrite_x=True)

    def restored(self, spectra: Array) -> Array:
        """What is wanted of the planes: (planes, ...)."""
        spectra = spectra.reshape(-1, *self.sizes.frequencies)
        shape, transforms = self.sizes.compact, self.library.transforms
        kind = "C2C" if self.sizes.is_complex else "C2R"
        inverse = transforms.ifftn if self.sizes.is_complex else transforms.irfftn
        with self.library.planned(spectra, shape, self.axes, kind):
            planes = inverse(spectra, s=shape, axes=self.axes, overwrite_x=True)
        planes = planes.reshape(-1, *self.sizes.lengths)
        return planes[at(tuple(axis.found for axis in self.sizes.axes))]

    def finished(self, sums: Array, bias: Array | None) -> Array:
        """With bias and activation, not yet rounded."""
        if bias is not None:
            sums = sums + bias.astype(self.dtype)[:, None, None, None]
        return _functions.activate(sums, self.options.activation, self.xp)
