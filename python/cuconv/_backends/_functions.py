"""Activations and softmax on arrays, computed in the precision of their argument."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import numpy as np

Array = Any


def quietly(function: Callable[..., None]) -> Callable[..., None]:
    """Infinities and NaN are results like others, not warnings."""

    @wraps(function)
    def call(*arguments: Any) -> None:
        with np.errstate(all="ignore"):
            function(*arguments)

    return call


def relu(x: Array, xp: Any = np) -> Array:
    return xp.where(x <= 0, x.dtype.type(0), x)  # NaN is not <= 0: it stays


def relu_into(x: Array, out: Array) -> None:
    """The same without temporaries; `out` may be x."""
    np.maximum(x, 0, out=out)  # NaN stays
    if not maximum_clears_signs(out.dtype):
        np.add(out, 0, out=out)


@lru_cache(maxsize=8)
def maximum_clears_signs(dtype: np.dtype) -> bool:
    """Whether the larger of -0 and 0 is 0 here, in vectors and in what is left over."""
    zeros = (-np.zeros(n, dtype) for n in range(1, 130))
    return not any(np.signbit(np.maximum(z, 0).astype(np.float32)).any() for z in zeros)


def sigmoid(x: Array, xp: Any = np) -> Array:
    small = xp.exp(-xp.abs(x))  # of negative numbers alone, so nothing overflows
    one = x.dtype.type(1)
    return xp.where(x < 0, small, one) / (one + small)


def activate(x: Array, activation: str | None, xp: Any = np) -> Array:
    """`xp` is NumPy, or CuPy for its arrays."""
    if activation is None:
        return x
    if activation == "tanh":
        return xp.tanh(x)
    return relu(x, xp) if activation == "relu" else sigmoid(x, xp)


def softmax(x: Array, axis: int) -> Array:
    if x.size == 0:
        return x
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)
