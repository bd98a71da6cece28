"""Problems for `cuconv check`: small, drawn from a seeded generator, one function an operation.

The numbers are small integers, so sums are exact in every dtype and the results of two backends
must be equal; divisions and exponentials alone get a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

import cuconv

REAL = tuple(np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
ALL = (*REAL, np.dtype(np.complex64), np.dtype(np.complex128))

Generator = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One call: `call(*arrays)` gives an array or several."""

    text: str  # the call as one would write it, with shapes for arrays
    arrays: tuple[np.ndarray, ...]
    call: Callable[..., Any]
    exact: bool


@dataclass(frozen=True)
class Operation:
    name: str
    dtypes: tuple[np.dtype, ...]
    draw: Callable[[Generator, np.dtype], Case]


def integers(rng: Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """From -2 to 2, in both parts if complex."""
    values = rng.integers(-2, 3, shape).astype(np.float64)
    if dtype.kind == "c":
        return (values + 1j * rng.integers(-2, 3, shape)).astype(dtype)
    return values.astype(dtype)


def with_nan(rng: Generator, x: np.ndarray) -> np.ndarray:
    """Half of the time one NaN, which must come through where it matters."""
    if x.size and rng.integers(2):
        x.reshape(-1)[rng.integers(x.size)] = np.nan
    return x


def case(function: Callable[..., Any], *arguments: Any, exact: bool = True, **options: Any) -> Case:
    """A call of a public function: its leading arrays, then everything else, described."""
    arrays = tuple(a for a in arguments if isinstance(a, np.ndarray))
    rest = arguments[len(arrays) :]
    words = [f"{a.dtype}{list(a.shape)}" for a in arrays]
    words += [repr(a) for a in rest] + [f"{k}={v!r}" for k, v in options.items()]
    return Case(
        f"{function.__name__}({', '.join(words)})",
        arrays,
        lambda *moved: function(*moved, *rest, **options),
        exact,
    )


# ---- convolution ----


@dataclass(frozen=True)
class Drawn:
    """The arguments of a forward convolution."""

    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray
    options: dict[str, Any]


def channels_last(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(a, 1, -1))


def draw_conv(rng: Generator, dtype: np.dtype, rank: int) -> Drawn:
    groups = int(rng.integers(1, 3))
    c, k = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kernel = tuple(int(n) for n in rng.integers(1, 4, rank))
    size = tuple(int(n) for n in rng.integers(5, 9, rank))
    options: dict[str, Any] = {
        "stride": tuple(int(n) for n in rng.integers(1, 3, rank)),
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2))),
        "dilation": tuple(int(n) for n in rng.integers(1, 3, rank)),
        "groups": groups,
        "padding_mode": str(rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])),
        "flip_kernel": bool(rng.integers(2)),
    }
    x = integers(rng, (int(rng.integers(1, 3)), c, *size), dtype)
    w = integers(rng, (k, c // groups, *kernel), dtype)
    if rng.integers(2):
        x, w = channels_last(x), channels_last(w)
        options["layout"] = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[rank]
    return Drawn(x, w, integers(rng, (k,), dtype), options)


def forward(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    d = draw_conv(rng, dtype, rank)
    options = dict(d.options)
    if dtype.kind != "c" and rng.integers(2):
        options["activation"] = "relu"
    return case(getattr(cuconv, f"conv{rank}d"), d.x, d.w, d.bias, **options)


def grad_out(rng: Generator, d: Drawn, rank: int) -> np.ndarray:
    with cuconv.use_backend("reference"):
        y = getattr(cuconv, f"conv{rank}d")(d.x, d.w, **d.options)
    return integers(rng, y.shape, d.x.dtype)


def input_grad(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    d = draw_conv(rng, dtype, rank)
    function = getattr(cuconv, f"conv{rank}d_input_grad")
    return case(function, grad_out(rng, d, rank), d.w, d.x.shape, **d.options)


def weight_grad(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    d = draw_conv(rng, dtype, rank)
    function = getattr(cuconv, f"conv{rank}d_weight_grad")
    return case(function, grad_out(rng, d, rank), d.x, d.w.shape, **d.options)


def bias_grad(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    function = getattr(cuconv, f"conv{rank}d_bias_grad")
    return case(function, integers(rng, (2, 3, *rng.integers(1, 6, rank)), dtype))


def draw_transposed(rng: Generator, dtype: np.dtype, rank: int) -> Drawn:
    d = draw_conv(rng, dtype, rank)
    groups, stride = d.options["groups"], d.options["stride"]
    x = integers(rng, (2, 2 * groups, *rng.integers(4, 7, rank)), dtype)
    w = integers(rng, (2 * groups, int(rng.integers(1, 4)), *rng.integers(1, 4, rank)), dtype)
    options = {
        "stride": stride,
        "padding": tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (rank, 2))),
        "output_padding": tuple(s - 1 for s in stride),
        "groups": groups,
        "dilation": d.options["dilation"],
    }
    return Drawn(x, w, integers(rng, (w.shape[1] * groups,), dtype), options)


def transposed(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    d = draw_transposed(rng, dtype, rank)
    return case(getattr(cuconv, f"conv_transpose{rank}d"), d.x, d.w, d.bias, **d.options)


def planned(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    return plan_case(getattr(cuconv, f"Conv{rank}dPlan"), draw_conv(rng, dtype, rank))


def planned_transposed(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    plan = getattr(cuconv, f"ConvTranspose{rank}dPlan")
    return plan_case(plan, draw_transposed(rng, dtype, rank))


def plan_case(plan: Any, d: Drawn) -> Case:
    def call(x: Any, w: Any, bias: Any) -> Any:
        device = "cpu" if isinstance(x, np.ndarray) else "cuda"
        return plan(x.shape, w.shape, x.dtype, device=device, **d.options)(x, w, bias)

    described = case(plan, d.x, d.w, d.bias, **d.options)
    return Case(described.text, described.arrays, call, exact=True)
