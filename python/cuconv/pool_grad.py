"""Gradients of max- and average-pooling, in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from cuconv import _arguments as arguments
from cuconv._arguments import DTYPES, INDEX, REAL_DTYPES
from cuconv._arrays import adopt, operands, readable
from cuconv._backends import backend_for
from cuconv._backends._protocol import Array
from cuconv._docstrings import documented
from cuconv._layout import Layout, read_layout
from cuconv._problem import PoolCall, average_call, pool_call

NO_WINDOWS = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}

_MAX_POOL_GRAD = """Gradient of `max_pool<rank>d` from the positions of the maxima.

    gx[n,c][j] = sum of grad_out[n,c][p] over all p with indices[n,c][p] = j

    Parameters
    ----------
    grad_out : array, <pool_y>, or without N
        Gradient with respect to the result; float16, bfloat16, float32 or float64.
    indices : int64 array of the same shape
        As `max_pool<rank>d` returned them. Positions outside the plane are left out.
    input_shape : sequence of int
        The shape of the pooled input.
    kernel_size, stride, padding, dilation, ceil_mode : optional
        As in the forward call, whose indices these have to be then. On a GPU elements gather from
        the windows over them, at the speed of memory; without, positions may be anywhere in the
        plane, and outputs scatter. The results are the same, but for a position outside its
        output's window, whose gradient may be left out.
    layout : {"<layout>", "<last>"}, default "<layout>"

    Returns
    -------
    array of shape `input_shape`

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`; ValueError where `grad_out` is not of the forward call's shape.

    Notes
    -----
    Sums run in the order of the outputs, in float32 for float16 and bfloat16. With M windows over
    an element the error is at most M eps times the sum of |grad_out|.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x = np.ones((2, 3, <sizes>), "float32")
    >>> y, indices = cuconv.max_pool<rank>d(x, 2, return_indices=True)
    >>> float(cuconv.max_pool<rank>d_grad(np.ones_like(y), indices, x.shape).sum()) == y.size
    True
    """

_AVG_POOL_GRAD = """Gradient of `avg_pool<rank>d`.

    gx[n,c][i] = sum of grad_out[n,c][p] / count(p) over the windows p that hold i

    Parameters
    ----------
    grad_out : array, <pool_y>, or without N
        Gradient with respect to the result.
    input_shape : sequence of int
        The shape of the pooled input.
    kernel_size, stride, padding, ceil_mode, count_include_pad, layout
        As in the forward call.

    Returns
    -------
    array of shape `input_shape`

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`; ValueError where `grad_out` is not of the forward call's shape.

    Notes
    -----
    With M windows over an element the error is at most (M + 2) * eps * sum of |grad_out| / count.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.avg_pool<rank>d_grad(np.ones((2, 3, <half>)), (2, 3, <sizes>), 2).shape
    (2, 3, <sizes>)
    """


def _max_pool_grad(
    rank: int,
    grad_out: Any,
    indices: Any,
    input_shape: Any,
    kernel_size: Any,
    layout: Any,
    **windows: Any,
) -> Array:
    order = read_layout(layout, rank)
    inputs = operands(("grad_out", grad_out), dtypes=REAL_DTYPES)
    (gy,) = inputs.arrays
    indices = readable(adopt("indices", indices))
    backend_for([("grad_out", gy), ("indices", indices)])  # one kind, one device
    if indices.dtype != INDEX:
        raise TypeError(f"indices must be int64, got {indices.dtype}")
    if indices.shape != gy.shape:
        raise ValueError(f"indices have shape {indices.shape}, but grad_out has {gy.shape}")
    x_shape = arguments.shape("input_shape", input_shape)
    problem = None
    if kernel_size is not None:
        call = pool_call(
            rank,
            inputs.dtype,
            x_shape,
            kernel_size,
            x_name="input_shape",
            layout=layout,
            **windows,
        )
        check_same_outputs(gy.shape, x_shape, call)
        problem = call.problem
    elif any(windows[name] != default for name, default in NO_WINDOWS.items()):
        raise ValueError("stride, padding, dilation and ceil_mode need a kernel_size beside them")
    check_same_planes(order, gy.shape, x_shape)
    return inputs.result(x_shape, None).finish(
        lambda gx: inputs.backend.max_pool_grad(
            problem, order.view(gy), order.view(indices), order.view(gx)
        )
    )


def check_same_outputs(y_shape: tuple[int, ...], x_shape: tuple[int, ...], call: PoolCall) -> None:
    if y_shape != call.y_shape:
        raise ValueError(
            f"grad_out has shape {y_shape}, but for an input of shape {x_shape} it must have "
            f"{call.y_shape}"
        )


def check_same_planes(order: Layout, y_shape: tuple[int, ...], x_shape: tuple[int, ...]) -> None:
    y_batch, y_channels, _ = order.split("grad_out", y_shape)
    x_batch, x_channels, _ = order.split("input_shape", x_shape)
    if (y_batch, y_channels) != (x_batch, x_channels):
        raise ValueError(
            f"grad_out {y_shape} and input_shape {x_shape} differ in their batch or channels"
        )


def _avg_pool_grad(
    rank: int, grad_out: Any, input_shape: Any, kernel_size: Any, **options: Any
) -> Array:
    inputs = operands(("grad_out", grad_out), dtypes=DTYPES)
    (gy,) = inputs.arrays
    x_shape = arguments.shape("input_shape", input_shape)
    call = average_call(rank, inputs.dtype, x_shape, kernel_size, x_name="input_shape", **options)
    check_same_outputs(gy.shape, x_shape, call)
    view = call.layout.view
    return inputs.result(x_shape, None).finish(
        lambda gx: inputs.backend.avg_pool_grad(call.problem, view(gy), view(gx))
    )


@documented(_MAX_POOL_GRAD, 1)
def max_pool1d_grad(
    grad_out: Any,
    indices: Any,
    input_shape: Any,
    *,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    return _max_pool_grad(
        1,
        grad_out,
        indices,
        input_shape,
        kernel_size,
        layout,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@documented(_MAX_POOL_GRAD, 2)
def max_pool2d_grad(
    grad_out: Any,
    indices: Any,
    input_shape: Any,
    *,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    return _max_pool_grad(
        2,
        grad_out,
        indices,
        input_shape,
        kernel_size,
        layout,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@documented(_MAX_POOL_GRAD, 3)
def max_pool3d_grad(
    grad_out: Any,
    indices: Any,
    input_shape: Any,
    *,
    kernel_size: Any = None,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    layout: str | None = None,
) -> Array:
    return _max_pool_grad(
        3,
        grad_out,
        indices,
        input_shape,
        kernel_size,
        layout,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
    )


@documented(_AVG_POOL_GRAD, 1)
def avg_pool1d_grad(
    grad_out: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
) -> Array:
    return _avg_pool_grad(
        1,
        grad_out,
        input_shape,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )


@documented(_AVG_POOL_GRAD, 2)
def avg_pool2d_grad(
    grad_out: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
) -> Array:
    return _avg_pool_grad(
        2,
        grad_out,
        input_shape,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )


@documented(_AVG_POOL_GRAD, 3)
def avg_pool3d_grad(
    grad_out: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
) -> Array:
    return _avg_pool_grad(
        3,
        grad_out,
        input_shape,
        kernel_size,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )
