"""Convolution by compiled kernels: the choice among their variants, and the call."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cuconv._arguments import FAMILIES
from cuconv._backends._operands import Operands, element_strides
from cuconv._backends._protocol import Array, Candidate, ConvExecutor, ConvOptions, Direction
from cuconv._backends._rules import gpu_estimate, gpu_rates, not_for_auto_on_gpu
from cuconv._problem import ConvCall, ConvProblem
from cuconv.errors import UnsupportedError

NO_LIMIT = 2**63 - 1
STATUS = "emulated only"  # until a run on a device is on record


def sizes_of(problem: ConvProblem) -> tuple[int, ...]:
    """A problem's sizes as the extension module takes them; channels are counted by group."""
    return (
        problem.batch,
        problem.groups,
        problem.in_channels // problem.groups,
        problem.out_channels // problem.groups,
        *problem.input,
        *problem.kernel,
        *problem.output,
        *problem.stride,
        *problem.pad_low,
        *problem.dilation,
    )


def asked_of(problem: ConvProblem, options: ConvOptions) -> tuple[str, str, int]:
    """(dtype, precision, most bytes of workspace) of a request."""
    limit = options.workspace_limit
    return problem.dtype.name, options.precision, NO_LIMIT if limit is None else limit


def image_strides(array: Array, channels: int) -> tuple[int, ...]:
    """(n, group, channel, d, h, w) for x and y, with so many channels a group."""
    n, c, *spatial = element_strides(array)
    return (n, c * channels, c, *spatial)


def filter_strides(array: Array, filters: int) -> tuple[int, ...]:
    """(group, k, c, t, r, s) with so many filters a group."""
    k, *rest = element_strides(array)
    return (k * filters, k, *rest)


@dataclass(frozen=True, slots=True)
class KernelConv:
    """A convolution by one kernel variant."""

    backend: ConvKernels
    direction: Direction
    problem: ConvProblem
    options: ConvOptions
    algo: str
    variant: str
    workspace_bytes: int

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        names = {
            "forward": ("x", "w", "y"),
            "input_grad": ("grad of y", "w", "grad of x"),
            "weight_grad": ("grad of y", "x", "grad of w"),
        }[self.direction]
        with self.backend._operands() as place:
            self.bound(a, b, out, bias).run(
                place.input(a, names[0]),
                place.input(b, names[1]),
                0 if bias is None else place.input(bias, "bias"),
                place.output(out, names[2]),
                place.workspace(self.workspace_bytes),
                place.stream,
            )

    def quick(self, call: ConvCall) -> QuickCall | None:
        """See `ConvExecutor`."""
        return self.backend._quick(self, call)

    def bound(self, a: Array, b: Array, out: Array, bias: Array | None) -> Any:
        """The call for arrays of these strides, whatever their addresses."""
        problem = self.problem
        x, w, y = {
            "forward": (a, b, out),
            "input_grad": (out, b, a),
            "weight_grad": (b, out, a),
        }[self.direction]
        c, k = problem.in_channels // problem.groups, problem.out_channels // problem.groups
        return self.backend._module.BoundConv(
            self.direction,
            self.variant,
            *asked_of(problem, self.options),
            sizes_of(problem),
            image_strides(x, c),
            filter_strides(w, k),
            image_strides(y, k),
            self.options.conjugate,
            self.options.activation or "",
            0 if bias is None else element_strides(bias)[0],
        )


QuickCall = Callable[[Array, Array, "Array | None"], "Array | None"]


class ConvKernels:
    """The part of `KernelBackend` that is convolution."""

    _module: Any
    _operands: Callable[[], Operands]
    _decide_once: Callable[[Direction, ConvProblem, ConvOptions], Candidate]
    forced_variant: str | None

    def _quick(self, conv: KernelConv, call: ConvCall) -> QuickCall | None:
        """For arrays that kernels read where they are."""
        return None

    def conv_candidates(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> list[Candidate]:
        """One candidate a family: its best variant, or the reason why there is none."""
        with self._operands():  # a device can have its say
            return [self._best(family, direction, problem, options) for family in FAMILIES]

    def _best(
        self, family: str, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> Candidate:
        listed = [v for v in self._module.conv_variants() if v[2] == direction]
        variants = [
            self._candidate(name, algorithm, direction, problem, options)
            for name, algorithm, _ in listed
            if algorithm == family and self.forced_variant in (None, name)
        ]
        if not variants:
            able = ", ".join(dict.fromkeys(algorithm for _, algorithm, _ in listed))
            reason = f"the {family} family has no CUDA kernel in this direction; {able} have"
            if self.forced_variant is not None:
                reason = f"variant={self.forced_variant!r} is forced"
            return Candidate(family, False, reason, 0, math.inf, "", STATUS)
        return min(variants, key=lambda c: (not c.supported, c.cost))

    def _candidate(
        self,
        variant: str,
        family: str,
        direction: Direction,
        problem: ConvProblem,
        options: ConvOptions,
    ) -> Candidate:
        refusal, workspace, work = self._module.conv_suits(
            direction,
            variant,
            *asked_of(problem, options),
            sizes_of(problem),
            options.channels_last,
        )
        limit = options.workspace_limit
        if not refusal and limit is not None and workspace > limit:
            refusal = f"it needs {workspace} bytes of workspace, workspace_limit={limit}"
        if refusal:
            reason = f"{variant}: {refusal}"
            return Candidate(family, False, reason, workspace, math.inf, variant, STATUS)
        rates = gpu_rates(self._module.compute_capability())
        found = gpu_estimate(work, problem, options.precision, rates)
        held_back = not_for_auto_on_gpu(family, problem, options.precision)
        return Candidate(
            family, True, "", workspace, found.seconds, variant, STATUS, found.parts, held_back
        )

    def _decide(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> Candidate:
        candidates = self.conv_candidates(direction, problem, options)
        others = [c.algo for c in candidates if c.supported and c.algo != options.algo]
        named = options.algo in FAMILIES or self.forced_variant is not None
        if options.algo in FAMILIES:
            candidates = [c for c in candidates if c.algo == options.algo]
        supported = [c for c in candidates if c.supported and (named or not c.not_for_auto)]
        if not supported:
            able = [c for c in candidates if c.variant] or candidates[:1]
            can = f"; {', '.join(others)} can do this" if others else ""
            raise UnsupportedError("; ".join(c.reason for c in able) + can)
        return min(supported, key=lambda c: c.cost)

    def conv(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> ConvExecutor:
        best = self._decide_once(direction, problem, options)
        return KernelConv(
            self, direction, problem, options, best.algo, best.variant, best.workspace_bytes
        )
