"""One case made ready: its buffers, and what is called with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import cuconv
from cuconv._arguments import FAMILIES
from cuconv._bench.cases import Case, channels_first, in_layout, module_layers, nbytes
from cuconv._bench.devices import Call, Device

MOST_SETS = 2048
COPIES = 3  # of the operands: peers may want them in layouts of their own
ALGOS = ("auto", "autotune", *FAMILIES)
WITH_OUT = ("relu",)  # timed with out= on the CPU, too, cuconv's and others'
WITHOUT_OUT = ("sigmoid",)  # which have none


@dataclass
class Buffers:
    """Sets of operands, taken in turn so that none is in a cache when it comes round again.

    Where filters do not rotate, `second` repeats the same array. `outs` is what results go into,
    where they do.
    """

    case: Case
    device: Device
    first: list[Any]
    second: list[Any]
    outs: list[Any]
    weights: list[Any] = field(default_factory=list)  # of Inception
    cold: bool = True
    operand_bytes: int = 0  # of a set: what a call cannot find in a cache
    result_bytes: int = 0

    @property
    def count(self) -> int:
        return len(self.first)


def make_buffers(case: Case, device: Device, cold: bool) -> Buffers:
    a, b, out = case.shapes
    rotates_second = case.of == "conv" and (
        device.rotates_filters or case.direction == "weight_grad"
    )
    has_outs = case.of in WITH_OUT or (device.name == "cuda" and case.of not in WITHOUT_OUT)
    operands = nbytes(a, case.dtype) + (nbytes(b, case.dtype) if rotates_second else 0)
    rotating = operands + (nbytes(out, case.dtype) if has_outs else 0)
    wanted = -(-2 * device.cache_bytes // max(rotating, 1)) if cold else 1
    possible = min(MOST_SETS, max(1, device.room() // max(1, COPIES * rotating)))
    count = max(1, min(wanted, possible))
    make = device.uniform
    second: list[Any] = [None] * count
    if b:
        # Other numbers than the first's: the products of equal ones would not be random.
        second = make(in_layout(b, case.layout), count if rotates_second else 1, case.dtype, 1)
        second = second if rotates_second else second * count
    outs = make(in_layout(out, case.layout), count, case.dtype) if has_outs else []
    first = make(in_layout(a, case.layout), count, case.dtype)
    return Buffers(
        case,
        device,
        first,
        second,
        outs,
        weights=inception_weights(case, device) if case.module else [],
        cold=cold and count * rotating >= 2 * device.cache_bytes,
        operand_bytes=operands,
        result_bytes=nbytes(out, case.dtype),
    )


def inception_weights(case: Case, device: Device) -> list[Any]:
    """Filters such that a result is about as large as the input, and biases."""
    arrays: list[Any] = []
    for layer in module_layers(case.module, 1):
        shape = in_layout((layer.k, layer.c, layer.r, layer.s), case.layout)
        scale = case.dtype.type(math.sqrt(3 / (layer.c * layer.r * layer.s)))
        (w,), (b,) = device.uniform(shape, 1, case.dtype), device.uniform((layer.k,), 1, case.dtype)
        arrays += [w * scale, b]
    return arrays


@dataclass
class Side:
    """What is timed. `canonical` gives a result as a channels-first array of the device."""

    name: str
    call: Call
    canonical: Callable[[Any], Any]
    peer: bool = True
    rotates_result: bool = False  # so that its bytes cannot stay in a cache
    clock: str = "device"  # or "host": what runs on a stream of its own, timed by wall clock
    facts: dict[str, Any] = field(default_factory=dict)
    outs: list[Any] = field(default_factory=list)  # arrays its results go into, where they do


@dataclass
class Skipped:
    """A side that cannot do a case, and why."""

    name: str
    reason: str


def first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def failure(error: Exception) -> str:
    """Of a side that raises, whatever it raises: libraries have errors of their own."""
    return f"failed: {first_line(error)}"


# ---- cuconv's own ----


def selected(algo: str) -> tuple[AbstractContextManager[Any], str]:
    """How to ask for a family, or for a kernel variant of the GPU by name."""
    if algo in ALGOS:
        return nullcontext(), algo
    return cuconv.use_backend("cuda", variant=algo), "auto"


def own_sides(buffers: Buffers, algos: tuple[str, ...]) -> list[Side | Skipped]:
    """The first is the one that ratios are of."""
    case = buffers.case
    if case.of != "conv":
        return [function_side(buffers)]
    found: list[Side | Skipped] = []
    for algo in algos:
        word = "" if algo == "auto" else f" {algo}"
        name = f"cuconv plan{word}"
        try:
            found.append(conv_side(name, buffers, algo))
        except cuconv.UnsupportedError as error:
            found.append(Skipped(name, str(error)))
    if case.direction == "forward" and buffers.device.name == "cpu" and algos[0] == "auto":
        found.insert(1, one_shot(buffers))
    return found


def conv_side(name: str, buffers: Buffers, algo: str) -> Side:
    case, first, second, outs = buffers.case, buffers.first, buffers.second, buffers.outs
    context, family = selected(algo)
    with context:
        plan = plan_of(case, buffers.device.name, family)
    facts = {f: getattr(plan, f) for f in ("algo", "variant", "workspace_bytes")}
    if outs:
        function: Call = lambda i: plan(first[i], second[i], out=outs[i])  # noqa: E731
    else:
        function = lambda i: plan(first[i], second[i])  # noqa: E731

    def forced(i: int) -> Any:
        with selected(algo)[0]:
            return function(i)

    call = function if algo in ALGOS else forced
    return Side(name, call, view_of(case), False, bool(outs), facts=facts, outs=outs)


def plan_of(case: Case, device: str, algo: str) -> Any:
    x_shape, w_shape = (in_layout(s, case.layout) for s in (case.x_shape, case.w_shape))
    plan = cuconv.Conv2dPlan(
        x_shape,
        w_shape,
        case.dtype,
        device=device,
        precision=case.precision,
        layout=case.layout,
        algo=algo,
        **case.options,
    )
    return plan if case.direction == "forward" else getattr(plan, case.direction)


def one_shot(buffers: Buffers) -> Side:
    case = buffers.case
    options = {**case.options, "precision": case.precision, "layout": case.layout}
    first, second = buffers.first, buffers.second
    call: Call = lambda i: cuconv.conv2d(first[i], second[i], **options)  # noqa: E731
    return Side("cuconv one-shot", call, view_of(case), False)


def function_side(buffers: Buffers) -> Side:
    case, first, outs = buffers.case, buffers.first, buffers.outs
    if case.module:
        function: Any = cuconv.Inception(
            cuconv.InceptionWeights(*buffers.weights), layout=case.layout
        )
        arguments: tuple[Any, ...] = ()
        options: dict[str, Any] = {}
    else:
        function = getattr(cuconv, case.of)
        arguments, options = case.window, {"layout": case.layout} if case.window else {}
    if outs:
        call: Call = lambda i: function(first[i], *arguments, **options, out=outs[i])  # noqa: E731
    else:
        call = lambda i: function(first[i], *arguments, **options)  # noqa: E731
    facts = {"algo": case.of, "variant": "", "workspace_bytes": None}
    return Side("cuconv", call, view_of(case), False, bool(outs), facts=facts, outs=outs)


def view_of(case: Case) -> Callable[[Any], Any]:
    return lambda array: channels_first(array, case.layout)


def poison(side: Side, device: Device) -> None:
    """NaN in every type, so that what a side does not write is seen. Sides of cuconv share their
    arrays: one that writes nothing would else show what the one before it has written."""
    for array in side.outs:
        array.view(np.uint8)[...] = 255
    device.synchronize()
