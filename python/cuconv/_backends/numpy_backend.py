"""The everyday backend for NumPy arrays: families of algorithms, and the choice among them.

float16 and bfloat16 are computed in float32 and rounded once, at the store.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal

import numpy as np

from cuconv._arguments import FAMILIES
from cuconv._backends._cpu import adjoint, cost, forms, threads
from cuconv._backends._cpu.blocks import Scratch, accumulator, spans
from cuconv._backends._cpu.elementwise import Elementwise
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._backends._cpu.forms import PARTS, Form
from cuconv._backends._cpu.small import Small
from cuconv._backends._geometry import at
from cuconv._backends._protocol import Array, Candidate, ConvOptions, Direction
from cuconv._backends._rules import Estimate, not_for_auto
from cuconv._problem import ConvCall, ConvProblem
from cuconv.errors import UnsupportedError

DEFAULT_LIMIT = 256 << 20  # what `workspace_limit=None` allows
COMPARED = 1 << 20  # 16-bit words a thread compares at a time


@dataclass(frozen=True)
class Piece:
    """A forward convolution into some of the inputs, for an input gradient; or zeros there."""

    form: Form | None
    problem: ConvProblem
    inputs: tuple[slice, ...]
    taps: tuple[slice, ...]


@dataclass(frozen=True)
class Decision:
    """A family's way to do a problem: its forms, what they need and cost."""

    family: str
    variant: str
    workspace: int
    work: cost.Work
    pieces: tuple[Piece, ...]
    reason: str = ""  # why it cannot

    @cached_property
    def estimate(self) -> Estimate:
        return cost.estimate(self.work)


EVERYTHING = (slice(None),) * 3


@lru_cache(maxsize=4096)
def decide(
    family: str, direction: Direction, problem: ConvProblem, limit: int, last: bool, workers: int
) -> Decision:
    """`last`: whether the first operand has its channels last."""

    def refused(reason: str) -> Decision:
        return Decision(family, "", 0, cost.Work(), (), reason)

    if family not in forms.FAMILIES:
        return refused(f"{family} has no form for the CPU")
    # Without channels or filters nothing is computed, but decided all the same: as if there were.
    problem = replace(
        problem,
        in_channels=problem.in_channels or problem.groups,
        out_channels=problem.out_channels or problem.groups,
    )
    residues = math.prod(min(s, n) for s, n in zip(problem.stride, problem.input, strict=True))
    scatters = direction == "input_grad" and residues > PARTS
    if scatters or direction != "input_grad":
        form = forms.cheapest("scatter" if scatters else direction, family, problem, limit, last)
        if isinstance(form, str):
            return refused(form)
        piece = Piece(form, problem, EVERYTHING, EVERYTHING)
        return Decision(family, form.variant, form.workspace, form.work, (piece,))
    pieces, work, workspace, variant = [], cost.Work(), 0, ""
    swapped = math.prod(problem.w_shape) * accumulator(problem.dtype).itemsize
    for part in adjoint.parts_of(problem):
        if part.problem is None:
            pieces.append(Piece(None, problem, part.inputs, part.taps))
            continue
        form = forms.cheapest("forward", family, part.problem, limit, last)
        if isinstance(form, str):
            return refused(form)
        pieces.append(Piece(form, part.problem, part.inputs, part.taps))
        work += form.work
        workspace = max(workspace, form.workspace)
        variant = variant or form.variant
    if problem.groups > 1:
        workspace += swapped
    return Decision(family, variant or f"{family}_zero", workspace, work, tuple(pieces))


class CpuConv:
    """A convolution with everything decided.

    Keeps its buffers from call to call; from the second call on, which only a plan makes, it also
    keeps the filters as its form wants them, with a copy of those they were made from: a call with
    equal filters makes nothing anew.
    """

    def __init__(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions, decision: Decision
    ) -> None:
        self.direction = direction
        self.problem = problem
        self.options = options
        self.decision = decision
        self.algo = decision.family
        self.variant = decision.variant
        self.workspace_bytes = decision.workspace
        self.scratch = Scratch()
        self.forms: dict[tuple[int, bool], Any] = {}  # by piece, and whether channels are last
        self.calls = 0
        self.kept: tuple[Array, list[Any], bool] | None = None

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        if out.size == 0:
            return
        with np.errstate(all="ignore"):  # infinities and NaN are results like others
            last = a.shape[1] > 1 and 0 < a.strides[1] < abs(a.strides[4]) and a.shape[4] > 1
            decision = self.decision
            if last:
                decision = decide(
                    self.algo,
                    self.direction,
                    self.problem,
                    limit_of(self.options),
                    True,
                    threads.count(),
                )
            if bias is not None:
                bias = bias.astype(accumulator(bias.dtype), copy=False)
            epilogue = Epilogue(bias, self.options.activation)
            if a.size == 0 or b.size == 0:
                no_terms(out, epilogue)
                return
            if self.direction == "weight_grad":
                self.weight_grad(decision, a, b, out)
                return
            for piece, (form, filters) in zip(
                decision.pieces, self.prepared(decision, b, last), strict=True
            ):
                target = out[at(piece.inputs)]
                if form is not None:
                    form.compute(a, filters, target, epilogue)
                else:
                    no_terms(target, epilogue)

    def weight_grad(self, decision: Decision, gy: Array, x: Array, gw: Array) -> None:
        (piece,) = decision.pieces
        assert piece.form is not None
        form = piece.form.build(piece.problem, self.scratch)
        if decision.family == "fft":
            # sum of gy conj(x) is the conjugate of the sum of conj(gy) x
            conjugate = self.options.conjugate and gy.dtype.kind == "c"
            form.weight_grad(gy.conj() if conjugate else gy, x, gw)
            if conjugate:
                np.conj(gw, out=gw)
        else:
            form.compute(gy, x, gw, self.options.conjugate and gy.dtype.kind == "c")

    def prepared(self, decision: Decision, w: Array, last: bool) -> list[Any]:
        self.calls += 1
        if self.kept is not None:
            copy, found, for_last = self.kept
            if for_last == last and same_bits(copy, w):
                return found
        found = [
            self.prepare(piece, self.built(piece, i, last), w)
            for i, piece in enumerate(decision.pieces)
        ]
        made = all(f is None or not np.may_share_memory(f, w) for _, f in found)
        if self.calls > 1 and made:
            self.kept = (w.copy(order="K"), found, last)
        return found

    def built(self, piece: Piece, index: int, last: bool) -> Any:
        if piece.form is None:
            return None
        if (index, last) not in self.forms:
            self.forms[index, last] = piece.form.build(piece.problem, self.scratch)
        return self.forms[index, last]

    def quick(self, call: ConvCall) -> Callable[..., Array | None] | None:
        """See `ConvExecutor`."""
        if self.direction == "forward":
            form = self.built(self.decision.pieces[0], 0, False)
            if isinstance(form, Small) and (run := form.quick(call, self.options.activation)):
                return run
        shape = call.shapes(self.direction)[2]

        def plain(a: Array, b: Array, bias: Array | None) -> Array | None:
            if not (a.flags.carray and b.flags.carray):
                return None
            result = np.empty(shape, call.problem.dtype)
            a, b, out = call.views(self.direction, a, b, result)
            self(a, b, bias, out)
            return result

        return plain

    def prepare(self, piece: Piece, form: Any, w: Array) -> tuple[Any, Array | None]:
        if piece.form is None:
            return None, None
        if self.direction == "input_grad":
            if self.options.conjugate and w.dtype.kind == "c":
                w = w.conj()
            w = w[at(piece.taps)]
            if not piece.form.variant.endswith("scatter"):
                w = adjoint.swapped(w, self.problem.groups)
        return form, form.prepare(w)


def no_terms(out: Array, epilogue: Epilogue) -> None:
    """Where there is nothing to sum."""
    one = np.zeros((1, out.shape[1], 1, 1, 1), accumulator(out.dtype))
    epilogue.apply(one, 1)
    out[...] = one


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape and dtype hold the same bits."""
    axes = sorted(range(a.ndim), key=lambda axis: -abs(a.strides[axis]))
    flat = [np.ascontiguousarray(c.transpose(axes).reshape(c.size)) for c in (a, b)]
    one, other = (c.view(np.uint16) for c in flat)
    equal = []

    def compare(part: slice) -> None:
        equal.append(np.array_equal(one[part], other[part]))

    cut = [slice(r.start, r.stop) for r in spans(one.size, COMPARED)]
    threads.run([partial(compare, part) for part in cut])
    return all(equal)


def limit_of(options: ConvOptions) -> int:
    return DEFAULT_LIMIT if options.workspace_limit is None else options.workspace_limit


@lru_cache(maxsize=4096)
def chosen(
    direction: Direction, problem: ConvProblem, options: ConvOptions, workers: int
) -> Decision:
    limit = limit_of(options)
    if options.algo in FAMILIES:
        decision = decide(options.algo, direction, problem, limit, False, workers)
        if reason := why_not(decision, options):
            others = [
                family
                for family in FAMILIES
                if not why_not(decide(family, direction, problem, limit, False, workers), options)
            ]
            raise UnsupportedError(f"{reason}; {listed(others)} can do this")
        return decision
    found = [decide(family, direction, problem, limit, False, workers) for family in FAMILIES]
    found = [d for d in found if not d.reason and not not_for_auto(d.family, problem)]
    # Where nothing keeps inside the limit, what comes closest to it: "auto" never refuses.
    return min(found, key=lambda d: (max(0, d.workspace - limit), d.estimate.seconds))


def listed(families: list[str]) -> str:
    if len(families) < 2:
        return "".join(families) or "no family"
    return f"{', '.join(families[:-1])} and {families[-1]}"


def why_not(decision: Decision, options: ConvOptions) -> str:
    limit = options.workspace_limit
    if not decision.reason and limit is not None and decision.workspace > limit:
        return (
            f"{decision.family} needs at least {decision.workspace} bytes of workspace, "
            f"workspace_limit={limit}"
        )
    return decision.reason


class NumpyBackend(Elementwise):
    name: str = "numpy"
    device: Literal["cpu", "cuda"] = "cpu"

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def conv_candidates(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> list[Candidate]:
        found = []
        for family in FAMILIES:
            decision = decide(family, direction, problem, limit_of(options), False, threads.count())
            reason = why_not(decision, options)
            estimate = decision.estimate
            found.append(
                Candidate(
                    family,
                    not reason,
                    reason,
                    decision.workspace,
                    math.inf if reason else estimate.seconds,
                    decision.variant,
                    "cpu",
                    estimate.parts,
                    not_for_auto(family, problem),
                )
            )
        return found

    def conv(self, direction: Direction, problem: ConvProblem, options: ConvOptions) -> CpuConv:
        decision = chosen(direction, problem, options, threads.count())
        return CpuConv(direction, problem, options, decision)
