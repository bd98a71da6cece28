"""A call whose arrays are as an earlier one's: comparisons, then the executor's shortest way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cuconv._backends import chosen_here, host_backend, is_cupy
from cuconv._backends._protocol import Array, Backend, ConvExecutor
from cuconv._conv import Convolution

QuickCall = Callable[[Any, Any, Any], "Array | None"]


def quick_call(
    convolution: Convolution, backend: Backend, executor: ConvExecutor
) -> QuickCall | None:
    """From the two operands and the bias to the result, or to None where the arrays are others or
    the user has chosen another backend meanwhile."""
    call = convolution.call
    shapes = call.shapes(convolution.direction)
    if call.border is not None or any(0 in shape for shape in shapes):
        return None
    if backend.device == "cpu" and backend is not host_backend():
        return None  # that of a block of code which is left by now
    run = executor.quick(call)
    if run is None:
        return None
    a_shape, b_shape, _ = shapes
    bias_shape, dtype = (convolution.bias_size,), call.problem.dtype
    choice, on_host = chosen_here(), backend.device == "cpu"

    def quick(a: Any, b: Any, bias: Any) -> Array | None:
        kind = type(a)
        if (
            (kind is not np.ndarray if on_host else not is_cupy(a))
            or type(b) is not kind
            or a.shape != a_shape
            or b.shape != b_shape
            or a.dtype != dtype
            or b.dtype != dtype
            or chosen_here() != choice
        ):
            return None
        if bias is not None and (
            type(bias) is not kind or bias.shape != bias_shape or bias.dtype != dtype
        ):
            return None
        return run(a, b, bias)

    return quick
