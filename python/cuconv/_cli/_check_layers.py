"""Problems for `cuconv check`: pooling, activations and Inception, drawn as in `_check_cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

import cuconv
from cuconv._cli._check_cases import Case, Generator, case, integers, with_nan

# ---- pooling ----


def draw_window(rng: Generator, rank: int) -> dict[str, Any]:
    window = tuple(int(n) for n in rng.integers(1, 4, rank))
    return {
        "kernel_size": window,
        "stride": tuple(int(n) for n in rng.integers(1, 4, rank)),
        "padding": tuple((int(rng.integers(k)), int(rng.integers(k))) for k in window),
        "ceil_mode": bool(rng.integers(2)),
    }


def draw_planes(rng: Generator, dtype: np.dtype, rank: int) -> np.ndarray:
    return integers(rng, (2, 3, *rng.integers(5, 9, rank)), dtype)


def max_pool(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    options = draw_window(rng, rank)
    options["dilation"] = tuple(int(n) for n in rng.integers(1, 3, rank))
    x = with_nan(rng, draw_planes(rng, dtype, rank))
    return case(getattr(cuconv, f"max_pool{rank}d"), x, **options, return_indices=True)


def max_pool_grad(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    x = draw_planes(rng, dtype, rank)
    windows = draw_window(rng, rank)
    with cuconv.use_backend("reference"):
        pool = getattr(cuconv, f"max_pool{rank}d")
        y, indices = pool(x, **windows, return_indices=True)
    function = getattr(cuconv, f"max_pool{rank}d_grad")
    known = windows if rng.integers(2) else {}
    return case(function, integers(rng, y.shape, dtype), indices, x.shape, **known)


def avg_pool(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    options = draw_window(rng, rank) | {"count_include_pad": bool(rng.integers(2))}
    function = getattr(cuconv, f"avg_pool{rank}d")
    return case(function, draw_planes(rng, dtype, rank), exact=False, **options)


def avg_pool_grad(rng: Generator, dtype: np.dtype, rank: int) -> Case:
    options = draw_window(rng, rank) | {"count_include_pad": bool(rng.integers(2))}
    x = draw_planes(rng, dtype, rank)
    with cuconv.use_backend("reference"):
        y = getattr(cuconv, f"avg_pool{rank}d")(x, **options)
    function = getattr(cuconv, f"avg_pool{rank}d_grad")
    return case(function, integers(rng, y.shape, dtype), x.shape, exact=False, **options)


def global_avg_pool(rng: Generator, dtype: np.dtype) -> Case:
    x = integers(rng, (2, 3, *rng.integers(1, 7, 2)), dtype)
    return case(cuconv.global_avg_pool, x, layout="NCHW", exact=False)


# ---- activations ----


def relu(rng: Generator, dtype: np.dtype) -> Case:
    x = with_nan(rng, integers(rng, (3, int(rng.integers(1, 70))), dtype))
    return case(cuconv.relu, x[:, ::-1] if rng.integers(2) else x)


def relu_grad(rng: Generator, dtype: np.dtype) -> Case:
    shape = (3, int(rng.integers(1, 70)))
    y = np.maximum(integers(rng, shape, dtype), 0)
    return case(cuconv.relu_grad, integers(rng, shape, dtype), y.astype(dtype))


def sigmoid(rng: Generator, dtype: np.dtype) -> Case:
    return case(cuconv.sigmoid, integers(rng, (3, int(rng.integers(1, 70))), dtype), exact=False)


def softmax(rng: Generator, dtype: np.dtype) -> Case:
    x = integers(rng, (2, int(rng.integers(1, 20)), 3), dtype)
    return case(cuconv.softmax, x, int(rng.integers(-3, 3)), exact=False)


# ---- Inception ----


def inception_reduce(rng: Generator, dtype: np.dtype) -> Case:
    """Two 1 × 1 convolutions of one input, described by their joint arrays."""
    c = int(rng.integers(1, 5))
    x = integers(rng, (2, c, *rng.integers(1, 6, 2)), dtype)
    weights = [integers(rng, (int(k), c, 1, 1), dtype) for k in rng.integers(1, 4, 2)]
    biases = [integers(rng, (w.shape[0],), dtype) for w in weights]
    described = case(cuconv.inception_reduce, x, *weights, *biases)
    return Case(
        described.text,
        described.arrays,
        lambda x, w1, w2, b1, b2: cuconv.inception_reduce(x, [w1, w2], [b1, b2]),
        exact=True,
    )


def max_pool_project(rng: Generator, dtype: np.dtype) -> Case:
    c, k = (int(n) for n in rng.integers(1, 4, 2))
    x = integers(rng, (2, c, *rng.integers(3, 7, 2)), dtype)
    return case(
        cuconv.max_pool_project,
        x,
        integers(rng, (k, c, 1, 1), dtype),
        integers(rng, (k,), dtype),
        kernel_size=3,
        stride=int(rng.integers(1, 3)),
        padding=1,
    )


def inception(rng: Generator, dtype: np.dtype) -> Case:
    """A whole module, described by its thirteen arrays."""
    c, k1, r3, k3, r5, k5, k4 = (int(n) for n in rng.integers(1, 4, 7))
    sizes = ((k1, c, 1), (r3, c, 1), (k3, r3, 3), (r5, c, 1), (k5, r5, 5), (k4, c, 1))
    arrays = [integers(rng, (1, c, *rng.integers(4, 7, 2)), dtype)]
    for filters, channels, kernel in sizes:
        # of one sign and sparse, so that sums of sums stay exact in the shortest dtype
        arrays.append((rng.random((filters, channels, kernel, kernel)) < 0.2).astype(dtype))
        arrays.append(integers(rng, (filters,), dtype))
    return Case(
        case(cuconv.Inception, *arrays).text,
        tuple(arrays),
        lambda x, *weights: cuconv.Inception(cuconv.InceptionWeights(*weights))(x),
        exact=True,
    )
