"""What the Inception module is put together from: parts for the backend, and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cuconv._backends._protocol import Array, ConvPart
from cuconv._conv import conv_options
from cuconv._layout import Layout
from cuconv._problem import conv_call, pool_call
from cuconv.activation import relu_grad
from cuconv.conv import conv2d
from cuconv.conv_grad import conv2d_bias_grad, conv2d_input_grad, conv2d_weight_grad
from cuconv.pool import max_pool2d
from cuconv.pool_grad import max_pool2d_grad

POOL: dict[str, Any] = {"kernel_size": 3, "stride": 1, "padding": 1}  # of the fourth branch


def channels(order: Layout, array: Array, first: int, last: int) -> Array:
    """The view of some channels."""
    if order.channels_last:
        return array[..., first:last]
    return array[..., first:last, :, :]


def filter_count(name: str, order: Layout, w: Array, size: int) -> int:
    """How many filters an array holds, once its kernel is seen to be of the size wanted."""
    count, _, kernel = order.split_weight(name, w.shape)
    if kernel != (size, size):
        raise ValueError(f"{name} must have a kernel of {size} x {size}, got {w.shape}")
    return count


def conv_part(
    order: Layout,
    dtype: np.dtype,
    arrays: tuple[Array, Array, Array | None],
    y: Array,
    activation: Any = "relu",
    padding: int = 0,
    pool: dict[str, Any] | None = None,
) -> ConvPart:
    """A convolution of (x, w, bias) into y, or of the maxima of x, as the backend takes it."""
    x, w, bias = arrays
    pooling = None
    shape = x.shape
    if pool is not None:
        called = pool_call(2, dtype, shape, layout=order.name, **pool)
        pooling, shape = called.problem, called.y_shape
    problem = conv_call(2, dtype, shape, w.shape, padding=padding, layout=order.name).problem
    options = conv_options(dtype, activation=activation)
    view = order.view
    return ConvPart(problem, options, view(x), view(w), bias, view(y), pooling)


def split_channels(order: Layout, block: Array, counts: Sequence[int]) -> list[Array]:
    """Views of an array, one after the other along its channels."""
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [
        channels(order, block, end - count, end) for end, count in zip(ends, counts, strict=True)
    ]


def gradients(
    order: Layout,
    arrays: dict[str, Array],
    counts: Sequence[int],
    x: Array,
    y: Array,
    grad_out: Array,
) -> tuple[Array, dict[str, Array]]:
    """(gradient of x, gradients of the twelve arrays by name) of a module that gives y for x."""
    layout = order.name
    found: dict[str, Array] = {}

    def back(name: str, source: Array, result: Array, grad: Array, padding: int = 0) -> Array:
        """Through one convolution and its ReLU: the gradient of what it read."""
        w = arrays[f"{name}_w"]
        grad = relu_grad(grad, result)
        options: dict[str, Any] = {"padding": padding, "layout": layout}
        found[f"{name}_w"] = conv2d_weight_grad(grad, source, w.shape, **options)
        found[f"{name}_b"] = conv2d_bias_grad(grad, layout=layout)
        return conv2d_input_grad(grad, w, source.shape, **options)

    def reduced(name: str) -> Array:
        w, bias = arrays[f"{name}_w"], arrays[f"{name}_b"]
        return conv2d(x, w, bias, activation="relu", layout=layout)

    y1, y3, y5, y4 = split_channels(order, y, counts)
    g1, g3, g5, g4 = split_channels(order, grad_out, counts)
    total = back("conv1", x, y1, g1)
    for size, result, grad in ((3, y3, g3), (5, y5, g5)):
        middle = reduced(f"reduce{size}")
        grad_middle = back(f"conv{size}", middle, result, grad, size // 2)
        total += back(f"reduce{size}", x, middle, grad_middle)
    pooled, indices = max_pool2d(x, **POOL, return_indices=True, layout=layout)
    grad_pooled = back("project", pooled, y4, g4)
    total += max_pool2d_grad(grad_pooled, indices, x.shape, **POOL, layout=layout)
    return total, found
