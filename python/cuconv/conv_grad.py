"""Gradients of a convolution with respect to its input, its filters and its bias."""

from __future__ import annotations

from typing import Any

from cuconv import _arguments as arguments
from cuconv._arrays import operands
from cuconv._backends._protocol import Array
from cuconv._conv import (
    Convolution,
    Options,
    check_shape,
    conv_operands,
    conv_options,
    how_options,
    shape_options,
)
from cuconv._docstrings import documented
from cuconv._layout import read_layout
from cuconv._problem import conv_call

_INPUT_GRAD = """Gradient of `conv<rank>d` with respect to its input.

    gx[n,c][i] = sum over k, p, <taps> with i = p*stride + tap*dilation - pad
                 of grad_out[n,k][p] * conj(w[k,c]<tap>)

    Parameters
    ----------
    grad_out : array, <y>, or without N
        Gradient with respect to the result.
    w : array, <w>
        The filters of the forward call.
    input_shape : sequence of int
        The shape of its input, with N or without as `grad_out`.
    stride, padding, dilation, groups, padding_mode, layout, flip_kernel
        As in the forward call. The adjoint of a border that is not zeros adds each of its elements
        to the one it was made of.
    precision, algo, workspace_limit, out
        As in `conv<rank>d`.

    Returns
    -------
    array of shape `input_shape`

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`; ValueError where `grad_out` is not of the forward call's shape.

    Notes
    -----
    A fused activation is not undone here: apply `cuconv.relu_grad` to `grad_out` first. The error
    bound is that of `conv<rank>d` with the terms of this sum. Source: V. Dumoulin and F.
    Visin, A guide to convolution arithmetic for deep learning (2016), arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> g, w = np.ones((2, 4, <half>), "float32"), np.ones((4, 3, <kernel>), "float32")
    >>> cuconv.conv<rank>d_input_grad(g, w, (2, 3, <sizes>), stride=2, padding="same").shape
    (2, 3, <sizes>)
    """

_WEIGHT_GRAD = """Gradient of `conv<rank>d` with respect to its filters.

    gw[k,c]<tap> = sum over n, p of grad_out[n,k][p] * conj(x[n,c][p*stride + tap*dilation - pad])

    Parameters
    ----------
    grad_out : array, <y>, or without N
        Gradient with respect to the result.
    x : array, <x>, or without N
        The input of the forward call.
    weight_shape : sequence of int
        The shape of its filters.
    stride, padding, dilation, groups, padding_mode, layout, flip_kernel
        As in the forward call.
    precision, algo, workspace_limit, out
        As in `conv<rank>d`.

    Returns
    -------
    array of shape `weight_shape`

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`; ValueError where `grad_out` is not of the forward call's shape.

    Notes
    -----
    The sum runs over the batch and all positions, in an order fixed by the problem. The error bound
    is that of `conv<rank>d` with the terms of this sum.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> g, x = np.ones((2, 4, <half>), "float32"), np.ones((2, 3, <sizes>), "float32")
    >>> cuconv.conv<rank>d_weight_grad(g, x, (4, 3, <kernel>), stride=2, padding="same").shape
    (4, 3, <kernel>)
    """

_BIAS_GRAD = """Gradient of `conv<rank>d` with respect to its bias.

    gb[k] = sum over all axes but k of grad_out[n,k]

    Parameters
    ----------
    grad_out : array, <y>, or without N
        Gradient with respect to the result.
    layout : {"<layout>", "<last>"}, default "<layout>"

    Returns
    -------
    array, (K,)

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`.

    Notes
    -----
    With M terms in the sum the error is at most (M + 2) * eps * sum of |grad_out|, eps that of the
    dtype summed in.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.conv<rank>d_bias_grad(np.ones((2, 3, <kernel>))).shape
    (3,)
    """


def _input_grad(
    rank: int, grad_out: Any, w: Any, input_shape: Any, shape: Options, how: Options, out: Any
) -> Array:
    inputs = conv_operands(("grad_out", grad_out), ("w", w), out=out)
    options = conv_options(inputs.dtype, conjugate=True, **how)
    gy, w = inputs.arrays
    x_shape = arguments.shape("input_shape", input_shape)
    call = conv_call(rank, inputs.dtype, x_shape, w.shape, x_name="input_shape", **shape)
    check_shape("grad_out", gy.shape, call.y_shape, f"for an input of shape {x_shape}")
    return Convolution("input_grad", call, options).run(inputs, out)


def _weight_grad(
    rank: int, grad_out: Any, x: Any, weight_shape: Any, shape: Options, how: Options, out: Any
) -> Array:
    inputs = conv_operands(("grad_out", grad_out), ("x", x), out=out)
    options = conv_options(inputs.dtype, conjugate=True, **how)
    gy, x = inputs.arrays
    w_shape = arguments.shape("weight_shape", weight_shape)
    call = conv_call(rank, inputs.dtype, x.shape, w_shape, w_name="weight_shape", **shape)
    check_shape("grad_out", gy.shape, call.y_shape, f"for x of shape {x.shape}")
    return Convolution("weight_grad", call, options).run(inputs, out)


def _bias_grad(rank: int, grad_out: Any, layout: Any) -> Array:
    order = read_layout(layout, rank)
    inputs = operands(("grad_out", grad_out))
    (gy,) = inputs.arrays
    _, filters, _ = order.split("grad_out", gy.shape)
    return inputs.result((filters,), None).finish(
        lambda gb: inputs.backend.bias_grad(order.view(gy), gb)
    )


@documented(_INPUT_GRAD, 1)
def conv1d_input_grad(
    grad_out: Any,
    w: Any,
    input_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _input_grad(1, grad_out, w, input_shape, shape, how, out)


@documented(_INPUT_GRAD, 2)
def conv2d_input_grad(
    grad_out: Any,
    w: Any,
    input_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _input_grad(2, grad_out, w, input_shape, shape, how, out)


@documented(_INPUT_GRAD, 3)
def conv3d_input_grad(
    grad_out: Any,
    w: Any,
    input_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _input_grad(3, grad_out, w, input_shape, shape, how, out)


@documented(_WEIGHT_GRAD, 1)
def conv1d_weight_grad(
    grad_out: Any,
    x: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _weight_grad(1, grad_out, x, weight_shape, shape, how, out)


@documented(_WEIGHT_GRAD, 2)
def conv2d_weight_grad(
    grad_out: Any,
    x: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _weight_grad(2, grad_out, x, weight_shape, shape, how, out)


@documented(_WEIGHT_GRAD, 3)
def conv3d_weight_grad(
    grad_out: Any,
    x: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit)
    return _weight_grad(3, grad_out, x, weight_shape, shape, how, out)


@documented(_BIAS_GRAD, 1)
def conv1d_bias_grad(grad_out: Any, *, layout: str | None = None) -> Array:
    return _bias_grad(1, grad_out, layout)


@documented(_BIAS_GRAD, 2)
def conv2d_bias_grad(grad_out: Any, *, layout: str | None = None) -> Array:
    return _bias_grad(2, grad_out, layout)


@documented(_BIAS_GRAD, 3)
def conv3d_bias_grad(grad_out: Any, *, layout: str | None = None) -> Array:
    return _bias_grad(3, grad_out, layout)
