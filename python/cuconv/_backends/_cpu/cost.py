"""What each form of convolution has to do on this CPU, as one table of rules.

Work is counted: operations of BLAS, elements copied, element-wise operations, transforms, calls.
The rates are measured once on a machine, in a fraction of a second, and kept beside the autotune
cache. What is done with them: `_rules.py`.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
import time
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from cuconv._atomic import read_json, update_json
from cuconv._backends._cpu import threads
from cuconv._backends._cpu.blocks import Scratch
from cuconv._backends._cpu.direct import PIECE, multiply_adds
from cuconv._backends._cpu.lowered import is_pointwise
from cuconv._backends._protocol import Array
from cuconv._backends._rules import Estimate
from cuconv._machine import processor
from cuconv._problem import ConvProblem
from cuconv._version import __version__

# Outputs of a block that is added to tap by tap. Smaller ones would stay in a core's own cache, but
# short operations make threads wait for each other: the interpreter's lock goes back and forth.
FEW = 200_000


@dataclass(frozen=True)
class Rates:
    """Of one thread, float32, in seconds."""

    flop: float = 1.1e-11  # of a large matrix product
    copy: float = 1.2e-10  # an element in a long run
    run: float = 1.5e-8  # to begin a run
    apart: float = 6.0e-10  # an element of a strided or transposing copy
    each: float = 1.4e-10  # an element of an operation on arrays in the cache
    term: float = 1.0e-10  # a number times a line, added to one
    fft: float = 3.0e-10  # an element and doubling of a transform
    call: float = 1.5e-6  # a NumPy call
    block: float = 4.0e-5  # the Python around a block


def fastest(call: Callable[[], object], seconds: float = 0.02) -> float:
    call()
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def measure() -> Rates:
    """In about a tenth of a second, on one thread."""
    from cuconv._backends._cpu import fourier

    names = iter("abcdefghij")
    scratch = Scratch()

    def filled(*shape: int) -> Array:
        found = scratch(next(names), shape, np.float32)
        found.fill(0.5)
        return found

    a, b, out = filled(256, 256), filled(256, 256), filled(256, 256)
    x, y = filled(1 << 15), filled(1 << 15)
    wide, last = filled(64, 60, 60), filled(60, 60, 64)
    lines, factors = filled(8, 1 << 11), filled(8, 16)
    shifted = np.lib.stride_tricks.as_strided(lines, (1 << 10, 8, 16), (4, lines.strides[0], 4))
    sums = np.empty((8, 1 << 10), np.float32).T
    plane, short = filled(8, 64, 64), np.empty((64, 60, 8), np.float32)
    with threads.held():
        flop = fastest(lambda: np.matmul(a, b, out=out)) / (2 * 256**3)
        copy = fastest(lambda: np.copyto(y, x)) / x.size
        run = fastest(lambda: np.copyto(short, wide[:, :, :8])) / (64 * 60) - 8 * copy
        apart = fastest(lambda: np.copyto(last, wide.transpose(1, 2, 0))) / wide.size
        each = fastest(lambda: np.multiply(x, np.float32(2), out=y)) / x.size
        term = fastest(lambda: multiply_adds(shifted, factors, sums)) / (sums.size * 16)
        fft = fastest(lambda: fourier.library().rfft2(plane)) / (plane.size * 12)
    return Rates(flop, copy, max(run, copy), apart, each, term, fft)


def rates_file() -> Path:
    """Of this processor: machines may share the folder."""
    from cuconv._folders import cache_folder

    name = re.sub(r"[^a-z0-9]+", "-", processor().lower())[:60].strip("-")
    return cache_folder() / f"cpu-{__version__}-{name}.json"


@lru_cache(maxsize=1)
def rates() -> Rates:
    """From the file, else measured and written there; a file that cannot be used is replaced."""
    file = rates_file()
    try:
        kept = read_json(file)  # whole, or of a version that measured less
        found = Rates(*(float(kept[field.name]) for field in fields(Rates)))
        if all(0 < v < 1 for v in asdict(found).values()):
            return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    found = measure()
    with contextlib.suppress(OSError):  # then the next process measures again
        update_json(file, lambda: asdict(found))
    return found


# ---- work ----


@dataclass(slots=True)
class Work:
    """How much of each there is to do; the names are those of `Rates`."""

    flop: float = 0
    copy: float = 0
    run: float = 0
    apart: float = 0
    each: float = 0
    term: float = 0
    fft: float = 0
    call: float = 0
    block: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*map(operator.add, astuple(self), astuple(other)))

    def __mul__(self, times: float) -> Work:
        return Work(*(count * times for count in astuple(self)))


PARTS = {
    "products": ("flop",),
    "copies": ("copy", "run", "apart"),
    "element-wise": ("each", "term"),
    "transforms": ("fft",),
    "Python": ("call", "block"),
}


def estimate(work: Work) -> Estimate:
    r = rates()
    parts = [
        (part, sum(getattr(work, name) * getattr(r, name) for name in names))
        for part, names in PARTS.items()
    ]
    return Estimate(
        sum(seconds for _, seconds in parts), tuple(part for part in parts if part[1] > 0)
    )


# ---- the rules ----


@dataclass(frozen=True)
class Sizes:
    """Numbers of a forward problem that the rules speak of."""

    positions: int  # outputs of all images
    taps: int
    groups: int
    c: int  # channels of a group
    k: int  # filters of a group
    inputs: int  # elements of a channel, over all images
    row: int
    weight: float  # how much slower the dtype is than float32

    @staticmethod
    def of(problem: ConvProblem) -> Sizes:
        weights = {"f": problem.dtype.itemsize / 4, "c": problem.dtype.itemsize / 2.7}
        return Sizes(
            max(1, problem.batch * math.prod(problem.output)),
            math.prod(problem.kernel),
            problem.groups,
            max(1, problem.in_channels // problem.groups),
            max(1, problem.out_channels // problem.groups),
            problem.batch * math.prod(problem.input),
            max(1, problem.output[2]),
            max(1.0, weights.get(problem.dtype.kind, 1.0)),
        )


def product(m: float, n: float, k: float) -> float:
    """Operations of an m x k by a k x n matrix. Narrow ones leave the units of BLAS half empty."""
    return 2 * m * n * k * (1 + 6 / m) * (1 + 6 / n) * (1 + 12 / k)


def im2col(problem: ConvProblem, last: bool, x_last: bool) -> Work:
    """`last`: columns with channels last; `x_last`: the input lies so."""
    s, work = Sizes.of(problem), Work()
    image = max(1, s.positions // max(1, problem.batch))
    blocks = max(1, problem.batch) * max(1, image / 4096)
    work.flop = blocks * s.groups * product(s.k, min(image, 4096), s.c * s.taps)
    if is_pointwise(problem) and (last == x_last or not last):
        return work * s.weight
    work.call = 30
    channels = s.groups * s.c
    copied = s.positions * s.taps * channels
    if last:
        if x_last:
            work.copy = s.inputs * channels * 3
        else:
            work.copy = s.inputs * channels * 4
            work.apart = s.inputs * channels
        work.apart += s.k * channels * s.taps
        work.copy += copied
        run = problem.kernel[2] * channels if problem.dilation[2] == 1 else channels
        work.run = copied / run
    else:
        if problem.stride[2] == 1 and not x_last:
            work.copy = copied
        else:
            work.apart = copied
        work.run = copied / s.row
        if x_last:
            work.apart += s.inputs * channels
        else:
            work.copy += s.inputs * channels
    return work * s.weight


def small(problem: ConvProblem) -> Work:
    s = Sizes.of(problem)
    moved = s.groups * s.c * (s.positions * s.taps + s.inputs)
    work = Work(flop=s.groups * product(s.k, s.positions, s.c * s.taps), copy=moved, call=6)
    work.run = moved / s.row
    return work * s.weight


def taps(problem: ConvProblem) -> Work:
    s = Sizes.of(problem)
    moved = s.positions * s.taps * s.groups
    work = Work(
        flop=s.groups * s.taps * product(s.k, s.positions, s.c),
        apart=moved * s.c,
        run=moved * s.c / s.row,
        each=moved * 3 * s.k,
        call=8 * s.groups * s.taps,
    )
    return work * s.weight


def shifted(problem: ConvProblem) -> Work:
    s = Sizes.of(problem)
    steps = s.positions * s.groups * s.k * s.c * s.taps
    work = Work(copy=(s.inputs * s.c + 2 * s.positions * s.k) * s.groups)
    # Rows are run together with the padding between them.
    gaps = (problem.kernel[2] - 1) * problem.dilation[2] / problem.stride[2]
    work.term = steps * (1 + gaps / s.row)
    # To begin a line takes einsum some eight times what it takes a copy.
    work.run = 8 * steps / max(1, min(PIECE, s.positions // max(1, problem.batch)))
    terms = math.prod(map(min, problem.kernel, problem.stride))
    if max(problem.stride) > 1:
        work.apart = s.inputs * s.c * s.groups
        work.each = (terms - 1) * s.positions * s.groups * s.k
    sums = s.positions * s.groups * s.k
    work.call = 20 + 4 * terms * max(s.k, sums / PIECE)
    return work * s.weight


def winograd(problem: ConvProblem, m: int) -> Work:
    s = Sizes.of(problem)
    axes = [a for a in range(3) if problem.kernel[a] == 3]
    tiles = max(1, problem.batch)
    for axis in range(3):
        size = problem.output[axis]
        tiles *= max(1, -(-size // m) if axis in axes else size)
    points, outputs = (m + 2) ** len(axes), m ** len(axes)
    work = Work(call=150)
    work.flop = points * product(min(tiles, 96), s.k, s.c) * max(1, tiles / 96) * 1.1
    work.flop += product(points, tiles * s.c, points) + product(outputs, tiles * s.k, points)
    inputs, transformed, results = s.inputs * s.c, tiles * points * s.c, tiles * outputs * s.k
    work.apart = inputs + results
    work.copy = 4 * inputs + transformed + results
    work.run = transformed / s.c + results / s.row
    # The filters' transform: a plan does it once, a function each time. A quarter counts.
    work.flop += s.k * s.c * points * s.taps
    work.copy += 0.75 * s.k * s.c * points
    return work * (s.groups * s.weight)


def fft(problem: ConvProblem, elements: int, tiles: int, blocks: int) -> Work:
    """`elements` of a transform, and how many tiles are transformed in how many blocks."""
    s = Sizes.of(problem)
    spectra = s.groups * (tiles * (s.c + s.k) + s.c * s.k)
    half = elements / 2 if problem.dtype.kind == "f" else elements
    work = Work(block=6 * blocks, fft=spectra * elements * math.log2(elements))
    if s.c == 1:
        work.each = tiles * s.groups * s.k * half * 8
    else:
        work.flop = half * s.groups * 4 * product(tiles, s.k, s.c)
        work.apart = half * spectra * 4
        work.call = half * s.groups / 4  # a small product for each frequency
    return work * s.weight
