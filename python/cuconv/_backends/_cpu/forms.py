"""Every form of convolution that the CPU has: what it can do, needs and costs, by family.

A *form* does one forward problem. An input gradient is one forward problem for each residue modulo
the stride (`adjoint`), or one scatter. A family offers the forms that bear its name; the cheapest
that keeps inside the limit stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cuconv._backends._cpu import cost, fourier, small, threads, winograd
from cuconv._backends._cpu.blocks import (
    Box,
    Scratch,
    accumulator,
    box_shape,
    patch_shape,
    triple_of,
)
from cuconv._backends._cpu.direct import Shifted, Taps
from cuconv._backends._cpu.fourier import (
    Fourier,
    spectrum_dtype,
    tile_count,
    tile_lengths,
    unit_output,
)
from cuconv._backends._cpu.lowered import Lowered, is_pointwise
from cuconv._backends._cpu.scatter import Scatter
from cuconv._backends._cpu.small import Small
from cuconv._backends._cpu.weight_grad import WeightGrad
from cuconv._backends._cpu.winograd import Winograd
from cuconv._problem import ConvProblem, Triple, window_span

FAMILIES = ("direct", "im2col", "winograd", "fft")
COLUMNS = 16 << 20  # bytes of a block's columns
WORTH_THREADS = 1 << 26  # multiply-adds of an image
PARTS = 16  # an input gradient of more residues is scattered


@dataclass(frozen=True)
class Form:
    variant: str
    work: cost.Work
    workspace: int  # bytes
    build: Callable[[ConvProblem, Scratch], Any]  # of the problem with any batch


def fit(limit: int, fixed: int, position: int, most: int, wish: int) -> tuple[int, int]:
    """How many positions a block of one thread has, and the bytes that all of it takes."""
    workers = threads.count()
    room = min((limit - fixed) // workers, wish * position)
    positions = min(max(1, most), max(1, room // max(1, position)))
    return positions, fixed + positions * position * workers


def fit_boxes(
    limit: int, fixed: int, problem: ConvProblem, position: int, wish: int
) -> tuple[int, int]:
    """The same where a block also has the patch that its box reaches over, twice at most."""
    workers = threads.count()
    item = accumulator(problem.dtype).itemsize * problem.in_channels
    taps = math.prod(problem.kernel)
    positions = max(1, min(math.prod(problem.output), wish))
    while True:
        shape = box_shape(problem.output, positions)
        count = math.prod(shape)
        patch = min(math.prod(patch_shape(problem, box_of(shape))), taps * count)
        needed = fixed + workers * (2 * patch * item + count * position)
        if needed <= limit or positions == 1:
            return positions, needed
        positions = (positions + 1) // 2


def box_of(shape: Triple) -> Box:
    d, h, w = (range(n) for n in shape)
    return d, h, w


def share(problem: ConvProblem, wish: int) -> int:
    """At most one block's share for each thread, where an image is worth it.

    In whole rows, so that blocks are of about one size. A block costs some tenth of a millisecond
    of Python, in which threads wait for each other: BLAS alone spreads small products better.
    """
    image = max(1, math.prod(problem.output))
    if image * math.prod(problem.w_shape) < WORTH_THREADS or image < 256:
        return wish
    z, p, q = problem.output
    rows = -(-p // threads.count()) if z < threads.count() else -(-z // threads.count()) * p
    return max(1, min(wish, rows * q))


def forward(family: str, problem: ConvProblem, limit: int, x_last: bool) -> Iterator[Form | str]:
    """The family's forms for a forward problem, or why it has none."""
    if family == "direct":
        yield from direct(problem, limit)
    elif family == "im2col":
        yield from lowered(problem, limit, x_last)
    elif family == "winograd":
        yield from winograds(problem, limit)
    elif family == "fft":
        yield from fouriers(problem, limit, False)


def direct(problem: ConvProblem, limit: int) -> Iterator[Form]:
    item = accumulator(problem.dtype).itemsize
    c, k, groups = problem.in_channels, problem.out_channels, problem.groups
    most = math.prod(problem.output)
    filters = k * (c // groups) * math.prod(problem.kernel) * item
    position = (2 * c + 3 * k) * item
    wish = share(problem, max(512, COLUMNS // position))
    positions, workspace = fit(limit, filters, position, most, wish)
    yield Form(
        "direct_taps",
        cost.taps(problem),
        workspace,
        partial(Taps, positions=positions),
    )
    steps = (c // groups) * (k // groups)
    # Patches must not be much larger than what is made of them: no wide gaps between taps.
    gaps = [
        window_span(n, d) > 8 * n and window_span(n, d) > 64
        for n, d in zip(problem.kernel, problem.dilation, strict=True)
    ]
    if steps <= 64 and not any(gaps):
        few = max(1, min(cost.FEW, -(-groups * most // threads.count())))
        while (needed := filters + shifted_bytes(problem, few)) > limit and few > 1:
            few = (few + 1) // 2
        yield Form(
            "direct_shifted",
            cost.shifted(problem),
            needed,
            partial(Shifted, positions=few),
        )


def shifted_bytes(problem: ConvProblem, few: int) -> int:
    """What blocks of `few` outputs take: patches of the groups in a block, sums, and products."""
    c, k = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    groups = min(problem.groups, max(1, few // max(1, math.prod(problem.output))))
    box = box_of(box_shape(problem.output, max(1, few // groups)))
    patch = math.prod(patch_shape(problem, box))
    item = accumulator(problem.dtype).itemsize
    return threads.count() * groups * patch * (2 * c + k + 1) * item


def columns_name(last: bool) -> str:
    return "im2col_last" if last else "im2col_first"


def takes_last(problem: ConvProblem) -> bool:
    """Columns with channels last are for one group, and windows without wide gaps."""
    reach = math.prod(patch_shape(problem, box_of(problem.output)))
    most = 4 * math.prod(problem.kernel) * max(1, math.prod(problem.output))
    return problem.groups == 1 and reach <= most


def lowered(problem: ConvProblem, limit: int, x_last: bool) -> Iterator[Form]:
    if small.is_small(problem) and small.bytes_of(problem) * threads.count() <= limit:
        needed = small.bytes_of(problem) * threads.count()
        yield Form("im2col_small", cost.small(problem), needed, partial(Small))
    item = accumulator(problem.dtype).itemsize
    c, k = problem.in_channels, problem.out_channels
    taps = math.prod(problem.kernel)
    filters = k * (c // problem.groups) * taps * item
    for last in (False, True):
        if last and not takes_last(problem):
            continue
        pointwise = is_pointwise(problem) and not last
        position = ((0 if pointwise else c * taps) + 2 * k) * item
        wish = share(problem, max(256 if c * taps < 1 << 14 else 64, COLUMNS // position))
        positions, workspace = fit_boxes(limit, filters, problem, position, wish)
        yield Form(
            columns_name(last),
            cost.im2col(problem, last, x_last),
            workspace,
            partial(Lowered, positions=positions, last=last),
        )


def winograds(problem: ConvProblem, limit: int) -> Iterator[Form | str]:
    if reason := winograd.why_not(problem):
        yield reason
        return
    item = accumulator(problem.dtype).itemsize
    axes = [axis for axis in range(3) if problem.kernel[axis] == 3]
    c, k = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    for m in (2, 4):
        points = (m + 2) ** len(axes)
        filters = problem.groups * points * c * k * item
        tile = points * (2 * max(c, k) + 2 * c) + m ** len(axes) * (k + winograd.PITCH)
        wish = min(384, max(96, 49152 // (c + k))) * (16 // m**2)
        most = problem.batch * math.prod(problem.output)
        tiles, workspace = fit(limit, filters, tile * item, most, wish)
        yield Form(
            f"winograd_f{m}x3",
            cost.winograd(problem, m),
            workspace,
            partial(Winograd, m=m, tiles=tiles),
        )


def fouriers(problem: ConvProblem, limit: int, weight_grad: bool) -> Iterator[Form | str]:
    if reason := fourier.why_not(problem, weight_grad):
        yield reason
        return
    size = spectrum_dtype(problem.dtype).itemsize
    c, k = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    halved = 1 if problem.dtype.kind == "c" else 2
    tried: list[Triple] = []
    for most in (1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20):
        lengths = lengths_of(problem, most)
        if lengths in tried:
            continue
        tried.append(lengths)
        unit = unit_output(problem)
        idle = math.prod(n for n, length in zip(unit, lengths, strict=True) if length == 1)
        idle = max(1, idle)
        elements = math.prod(lengths) * idle
        filters = problem.groups * c * k * math.prod(lengths) * size // halved
        if weight_grad:
            filters *= 1 + threads.count()
        depthwise = c == 1 and not weight_grad
        tile = 3 * (c + k) * elements * size
        if not depthwise:
            tile *= problem.groups
        count = problem.groups if depthwise else problem.batch * 64
        wish = max(1, (4 << 20) // tile) if depthwise else max(1, (64 << 20) // tile)
        tiles, workspace = fit(limit, 2 * filters, tile, count, wish)
        every = tile_count(problem, lengths)
        blocks = -(-every * (problem.groups if depthwise else 1) // tiles)
        work = cost.fft(problem, math.prod(lengths), every * idle, blocks)
        yield Form(
            "fft_overlap_save",
            work * (2 if weight_grad else 1),
            workspace,
            partial(Fourier, lengths=lengths, tiles=tiles),
        )


def lengths_of(problem: ConvProblem, most: int) -> Triple:
    reach = triple_of(map(window_span, problem.kernel, problem.dilation))
    return tile_lengths(unit_output(problem), reach, most)


def weight_grads(
    family: str, problem: ConvProblem, limit: int, x_last: bool
) -> Iterator[Form | str]:
    if family == "winograd":
        yield "winograd has no weight gradient"
        return
    if family == "fft":
        yield from fouriers(problem, limit, True)
        return
    item = accumulator(problem.dtype).itemsize
    c, k = problem.in_channels, problem.out_channels
    taps = math.prod(problem.kernel)
    workers = threads.count()
    fixed = k * (c // problem.groups) * taps * item * (1 + 2 * workers)
    by_tap = family == "direct"
    for last in (False, True):
        if last and (by_tap or not takes_last(problem)):
            continue
        position = (
            c * (1 if by_tap else taps * (2 if problem.dtype.kind == "c" else 1)) + k
        ) * item
        wish = share(problem, max(512, COLUMNS // position))
        positions, workspace = fit_boxes(limit, fixed, problem, position, wish)
        work = cost.taps(problem) if by_tap else cost.im2col(problem, last, x_last)
        yield Form(
            "direct_taps" if by_tap else columns_name(last),
            work,
            workspace,
            partial(WeightGrad, positions=positions, last=last, by_tap=by_tap),
        )


def scatters(family: str, problem: ConvProblem, limit: int) -> Iterator[Form | str]:
    if family not in ("direct", "im2col"):
        yield f"{family} does input gradients of strides up to {PARTS} in all"
        return
    by_tap = family == "direct"
    item = accumulator(problem.dtype).itemsize
    filters = math.prod(problem.w_shape) * item
    if problem.dtype.itemsize == 2:
        filters += threads.count() * math.prod(problem.x_shape[1:]) * item
    taps = 1 if by_tap else math.prod(problem.kernel)
    position = 2 * (problem.in_channels * taps + problem.out_channels) * item
    wish = max(256, COLUMNS // position)
    positions, workspace = fit(limit, filters, position, math.prod(problem.output), wish)
    yield Form(
        "direct_scatter" if by_tap else "im2col_scatter",
        cost.taps(problem) * 2,
        workspace,
        partial(Scatter, positions=positions, by_tap=by_tap),
    )


def cheapest(
    direction: str, family: str, problem: ConvProblem, limit: int, x_last: bool
) -> Form | str:
    """The family's best form, one that keeps inside the limit if there is one; or why none.

    Where a form takes image by image its choice does not look at the batch, nor do its blocks: the
    bits of an image are the same in any batch.
    """
    batch = problem.batch
    if direction != "weight_grad" and family in ("direct", "im2col"):
        problem = replace(problem, batch=1)
    if direction == "weight_grad":
        found = list(weight_grads(family, problem, limit, x_last))
    elif direction == "scatter":
        found = list(scatters(family, problem, limit))
    else:
        found = list(forward(family, problem, limit, x_last))
    forms = [form for form in found if isinstance(form, Form)]
    if not forms:
        return next((reason for reason in found if isinstance(reason, str)), f"no {family} form")

    def badness(form: Form) -> tuple[float, ...]:
        # The small form whatever the rates and the layout say: plans and functions rely on it.
        over, large = max(0, form.workspace - limit), form.variant != "im2col_small"
        return over, large, cost.estimate(form.work).seconds

    best = min(forms, key=badness)
    return replace(best, work=best.work * max(1, batch)) if problem.batch != batch else best
