"""Reading arguments: exact integers, one value per axis, padding in its several forms, dtypes.

Everything ends as Python integers, which do not overflow. Each message is one line that names the
argument, the axis and the numbers.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

LIMIT = 2**63 - 1  # what the kernels' 64-bit sizes and offsets can hold

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REAL_DTYPES = (np.dtype("float16"), BFLOAT16, np.dtype("float32"), np.dtype("float64"))
DTYPES = (*REAL_DTYPES, np.dtype("complex64"), np.dtype("complex128"))
INDEX = np.dtype(np.int64)  # of positions

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
ACTIVATIONS = (None, "relu", "sigmoid", "tanh")
PRECISIONS = ("ieee", "tf32", "tf32x3")
FAMILIES = ("direct", "im2col", "implicit_gemm", "winograd", "fft")
ALGOS = ("auto", "autotune", *FAMILIES)

Pairs = tuple[tuple[int, int], ...]


def show(value: object) -> str:
    """A value for an error message: one line, cut if long, with its type."""
    return f"{' '.join(reprlib.repr(value).split())} ({type(value).__name__})"


def integer(name: str, value: object, minimum: int | None = None) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {show(value)}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {show(value)}") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if number > LIMIT:
        raise ValueError(f"{name} = {number} is beyond the largest 64-bit integer, 2**63 - 1")
    return number


def flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {show(value)}")
    return bool(value)


def choice(name: str, value: Any, allowed: Sequence[str | None]) -> Any:
    listed = ", ".join(repr(a) for a in allowed)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, got {show(value)}")
    if value not in allowed:
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")
    return value


def is_sequence(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def per_axis(
    name: str, value: Any, axes: tuple[str, ...], minimum: int | None = None
) -> tuple[int, ...]:
    """One integer for all axes, or one for each."""
    if not is_sequence(value):
        return (integer(name, value, minimum),) * len(axes)
    if len(value) != len(axes):
        raise ValueError(
            f"{name} must be one integer or one per axis ({', '.join(axes)}), "
            f"got {len(value)} values: {show(value)}"
        )
    return tuple(
        integer(f"{name} along {axis}", v, minimum) for axis, v in zip(axes, value, strict=True)
    )


def shape(name: str, value: Any) -> tuple[int, ...]:
    if not is_sequence(value):
        raise TypeError(f"{name} must be a sequence of integers, got {show(value)}")
    return tuple(integer(f"{name}[{i}]", v, 0) for i, v in enumerate(value))


def padding_pairs(value: Any, axes: tuple[str, ...]) -> Pairs:
    """Padding as one (low, high) pair per axis, from an integer, integers per axis, or pairs."""
    if not is_sequence(value):
        return ((integer("padding", value, 0),) * 2,) * len(axes)
    paired = [is_sequence(v) for v in value]
    if len(value) != len(axes):
        hint = ""
        if len(axes) == 1 and len(value) == 2 and not any(paired):
            hint = f"; a (low, high) pair is written ({show_pair(value)},)"
        raise ValueError(
            f"padding must be one integer, one per axis, or one (low, high) pair per axis "
            f"({', '.join(axes)}), got {len(value)} values: {show(value)}{hint}"
        )
    if not any(paired):
        return tuple((p, p) for p in per_axis("padding", value, axes, 0))
    if not all(paired):
        raise TypeError(f"padding mixes integers and (low, high) pairs: {show(value)}")
    result = []
    for axis, pair in zip(axes, value, strict=True):
        if len(pair) != 2:
            raise ValueError(
                f"padding along {axis} must be a (low, high) pair, got {len(pair)} values: "
                f"{show(pair)}"
            )
        low = integer(f"padding before {axis}", pair[0], 0)
        high = integer(f"padding after {axis}", pair[1], 0)
        result.append((low, high))
    return tuple(result)


def show_pair(pair: Sequence[object]) -> str:
    return f"({pair[0]!r}, {pair[1]!r})"


def dtype(name: str, value: Any, allowed: tuple[np.dtype, ...] = DTYPES) -> np.dtype:
    """The dtype of an array or a dtype-like argument, checked against those taken."""
    try:
        found = np.dtype(value)
    except TypeError:
        raise TypeError(f"{name} is not a dtype: {show(value)}") from None
    if found in allowed:
        return found
    if not found.isnative and found.newbyteorder("=") in allowed:
        raise TypeError(
            f"{name} is {found.str} with foreign byte order; convert it with "
            f"x.astype({found.newbyteorder('=').name!r})"
        )
    taken = ", ".join(d.name for d in allowed)
    kind = ""
    if found in DTYPES:
        kind = " (complex numbers have no order)"
    raise TypeError(f"{name} is {found}{kind}; the dtypes taken are {taken}")
