"""One convolution from the caller's arrays to the backend and back, in any direction.

What shapes and options can decide is in a `Convolution`; it is made once for each call, and once
for all calls of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cuconv import _arguments as arguments
from cuconv import autotune
from cuconv._arrays import Operands, on_device, operands
from cuconv._backends._protocol import Array, Backend, ConvExecutor, ConvOptions, Direction
from cuconv._padding import fold, pad
from cuconv._problem import ConvCall, ConvProblem

Options = dict[str, Any]  # by name, as the caller gave them


SHAPE_OPTIONS = (
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
    "layout",
    "flip_kernel",
)
HOW_OPTIONS = ("activation", "precision", "algo", "workspace_limit")


def shape_options(
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: Any,
    layout: Any,
    flip_kernel: Any,
) -> Options:
    """The options that a convolution shares with its gradients: what is computed."""
    return {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "layout": layout,
        "flip_kernel": flip_kernel,
    }


def how_options(precision: Any, algo: Any, workspace_limit: Any, activation: Any = None) -> Options:
    """And how."""
    return {
        "activation": activation,
        "precision": precision,
        "algo": algo,
        "workspace_limit": workspace_limit,
    }


def conv_options(
    dtype: np.dtype,
    *,
    activation: Any = None,
    precision: Any = "ieee",
    algo: Any = "auto",
    workspace_limit: Any = None,
    conjugate: bool = False,
) -> ConvOptions:
    activation = arguments.choice("activation", activation, arguments.ACTIVATIONS)
    if activation is not None and dtype.kind == "c":
        raise TypeError(f"activation={activation!r} takes real numbers, x is {dtype}")
    if workspace_limit is not None:
        workspace_limit = arguments.integer("workspace_limit", workspace_limit, 0)
    return ConvOptions(
        activation=activation,
        conjugate=conjugate,
        precision=arguments.choice("precision", precision, arguments.PRECISIONS),
        algo=arguments.choice("algo", algo, arguments.ALGOS),
        workspace_limit=workspace_limit,
    )


@dataclass(frozen=True, slots=True)
class Convolution:
    direction: Direction
    call: ConvCall
    options: ConvOptions

    @property
    def result_shape(self) -> tuple[int, ...]:
        return self.call.shapes(self.direction)[2]

    @property
    def bias_size(self) -> int:
        problem = self.call.problem
        return problem.out_channels if self.direction == "forward" else problem.in_channels

    @property
    def folds_halves(self) -> bool:
        """Whether sums of float16 or bfloat16 go on when the border is folded back.

        They are kept in float32 until then, so that they are rounded once.
        """
        folds = self.direction == "input_grad" and self.call.border is not None
        return folds and self.call.problem.dtype.itemsize == 2

    @property
    def problem(self) -> ConvProblem:
        """What the backend computes."""
        if self.folds_halves:
            return replace(self.call.problem, dtype=np.dtype(np.float32))
        return self.call.problem

    @property
    def request(self) -> ConvOptions:
        """The options as the backend gets them."""
        return replace(self.options, channels_last=self.call.layout.channels_last)

    def executor(self, backend: Backend) -> ConvExecutor:
        """For any `algo` but "autotune", which needs arrays."""
        return backend.conv(self.direction, self.problem, self.request)

    def run(self, inputs: Operands, out: Any, executor: ConvExecutor | None = None) -> Array:
        """`inputs.arrays` are the two operands of the direction, and the bias if there is one."""
        with on_device(inputs.backend):
            return self._run(inputs, out, executor)

    def _run(self, inputs: Operands, out: Any, executor: ConvExecutor | None) -> Array:
        a, b, *rest = inputs.arrays
        a, b = self.canonical(a, b)
        bias = rest[0] if rest else None
        if bias is not None:
            check_bias(bias, self.bias_size)
        result = inputs.result(self.result_shape, out)

        def compute(target: Array) -> None:
            chosen = executor
            if chosen is None and self.options.algo == "autotune":
                chosen = self.tuned(inputs.backend, lambda e: self.apply(e, a, b, bias, target))
            elif chosen is None:
                chosen = self.executor(inputs.backend)
            self.apply(chosen, a, b, bias, target)

        return result.finish(compute)

    def tuned(self, backend: Backend, run: Any, again: bool = False) -> ConvExecutor:
        problem = self.problem
        family = autotune.fastest_family(
            backend, self.direction, problem, self.request, run, again, self.call.layout.name
        )
        return backend.conv(self.direction, problem, replace(self.request, algo=family))

    def canonical(self, a: Array, b: Array) -> tuple[Array, Array]:
        """The operands as the backend wants them: views, and a padded copy where borders ask."""
        call = self.call
        if self.folds_halves:
            a, b = a.astype(np.float32), b.astype(np.float32)
        a = call.layout.view(a)
        if self.direction == "weight_grad":
            return a, self.bordered(call.layout.view(b))
        if self.direction == "forward":
            a = self.bordered(a)
        return a, call.layout.weight_view(b, call.flip)

    def bordered(self, x: Array) -> Array:
        return pad(x, self.call.padding_mode, self.call.border) if self.call.border else x

    def apply(
        self, executor: ConvExecutor, a: Array, b: Array, bias: Array | None, out: Array
    ) -> None:
        call = self.call
        if self.direction == "weight_grad":
            executor(a, b, None, call.layout.weight_view(out, call.flip))
        elif self.direction == "input_grad" and call.border:
            padded = type(out)(self.problem.x_shape, self.problem.dtype)
            executor(a, b, bias, padded)
            call.layout.view(out)[...] = fold(padded, call.padding_mode, call.border)
        else:
            executor(a, b, bias, call.layout.view(out))


def conv_operands(
    a: tuple[str, Any], b: tuple[str, Any], bias: Any = None, out: Any = None
) -> Operands:
    named = [a, b] if bias is None else [a, b, ("bias", bias)]
    return operands(*named, out=out)


def check_bias(bias: Array, size: int) -> None:
    if bias.shape != (size,):
        raise ValueError(f"bias must have shape ({size},), one for each filter, got {bias.shape}")


def check_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...], why: str) -> None:
    if found != expected:
        raise ValueError(f"{name} has shape {found}, but {why} it must have {expected}")
