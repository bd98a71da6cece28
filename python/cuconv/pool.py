"""Max- and average-pooling, in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

from cuconv import _arguments as arguments
from cuconv._arguments import DTYPES, INDEX, REAL_DTYPES
from cuconv._arrays import Operands, operands
from cuconv._backends._protocol import Array
from cuconv._docstrings import documented
from cuconv._layout import read_layout
from cuconv._problem import PoolCall, average_call, pool_call

_MAX_POOL = """<rank>-D max-pooling.

    y[n,c][p] = max over taps t of x[n,c][p*stride + t*dilation - pad]

    Outside its bounds x is minus infinity. A NaN in a window gives NaN.

    Parameters
    ----------
    x : array, <x>, or without N
        float16, bfloat16, float32 or float64; NumPy or CuPy; any strides.
    kernel_size : int or one per axis
    stride : int or one per axis, optional
        The kernel size, unless given.
    padding : int, one per axis, one (low, high) pair per axis, "valid", "same" or "same_lower"
        No side may reach the size of the (dilated) window.
    dilation : int or one per axis
    ceil_mode : bool
        True takes in a last window that reaches past the padding, if it starts before it.
    return_indices : bool
        Also return where each maximum was found.
    layout : {"<layout>", "<last>"}, default "<layout>"
    out : array, optional
        Where the result goes: exact shape, dtype and device.

    Returns
    -------
    array, <pool_y>, or without N
        New and C-contiguous, or `out`.
    int64 array of the same shape
        With `return_indices`: the flat position in the unpadded plane of the first maximum, or of
        the first NaN. A window of nothing but minus infinity gives its first position.

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`.

    Notes
    -----
    Exact: the result is one of the elements.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x = np.ones((2, 3, <sizes>), "float32")
    >>> cuconv.max_pool<rank>d(x, 3, stride=2, padding=1).shape
    (2, 3, <half>)
    """

_AVG_POOL = """<rank>-D average-pooling.

    y[n,c][p] = (sum over taps t of x[n,c][p*stride + t - pad]) / count(p)      (outside x: 0)

    Parameters
    ----------
    x : array, <x>, or without N
        float16, bfloat16, float32, float64, complex64 or complex128; NumPy or CuPy; any strides.
    kernel_size, stride, padding, ceil_mode, layout, out
        As in `max_pool<rank>d`.
    count_include_pad : bool
        Whether a window's taps in the padding count. Those past the padding (`ceil_mode`) never do.

    Returns
    -------
    array, <pool_y>, or without N

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`.

    Notes
    -----
    For windows of M elements the error is at most (M + 2) * eps * (sum of |x|) / count, eps that of
    the dtype summed in (float32 for float16 and bfloat16).

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x = np.ones((2, 3, <sizes>), "float32")
    >>> cuconv.avg_pool<rank>d(x, 2).shape
    (2, 3, <half>)
    """


def _max_pool(
    rank: int, x: Any, kernel_size: Any, return_indices: Any, out: Any, **options: Any
) -> Any:
    wanted = arguments.flag("return_indices", return_indices)
    inputs = operands(("x", x), out=out, dtypes=REAL_DTYPES)
    (x,) = inputs.arrays
    call = pool_call(rank, inputs.dtype, x.shape, kernel_size, **options)
    view = call.layout.view
    indices = inputs.backend.empty(call.y_shape, INDEX) if wanted else None
    result = inputs.result(call.y_shape, out).finish(
        lambda y: inputs.backend.max_pool(
            call.problem, view(x), view(y), None if indices is None else view(indices)
        )
    )
    return (result, indices) if wanted else result


def _avg_pool(rank: int, x: Any, kernel_size: Any, out: Any, **options: Any) -> Array:
    inputs = operands(("x", x), out=out, dtypes=DTYPES)
    (x,) = inputs.arrays
    call = average_call(rank, inputs.dtype, x.shape, kernel_size, **options)
    return run_avg_pool(inputs, call, out)


def run_avg_pool(inputs: Operands, call: PoolCall, out: Any) -> Array:
    view = call.layout.view
    return inputs.result(call.y_shape, out).finish(
        lambda y: inputs.backend.avg_pool(call.problem, view(inputs.arrays[0]), view(y))
    )


def global_avg_pool(x: Any, *, layout: str | None = None) -> Array:
    """Average of each channel's whole plane.

    y[n,c] = mean over all positions of x[n,c]; the spatial axes stay, with size 1.

    Parameters
    ----------
    x : array with a batch axis, one to three spatial axes and channels
        float16, bfloat16, float32, float64, complex64 or complex128; NumPy or CuPy; any strides.
    layout : {"NCL", "NCHW", "NCDHW", "NLC", "NHWC", "NDHWC"}, optional
        By default channels first, and the number of axes tells which. Given, `x` may be without its
        batch axis.

    Returns
    -------
    array of the shape of `x`, with size 1 along its spatial axes

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `avg_pool2d`.

    Notes
    -----
    The error bound is that of `avg_pool2d` with a window of the whole plane. Source: M. Lin, Q.
    Chen and S. Yan, Network in network (2013), arXiv:1312.4400.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.global_avg_pool(np.ones((2, 3, 7, 7))).shape
    (2, 3, 1, 1)
    """
    inputs = operands(("x", x), dtypes=DTYPES)
    (x,) = inputs.arrays
    if layout is None:
        if x.ndim not in (3, 4, 5):
            raise ValueError(
                f"x must have 3, 4 or 5 axes (N, C and one to three more), got {x.ndim}: "
                f"shape {x.shape}"
            )
        order = read_layout(None, x.ndim - 2)
    else:
        order = read_layout(layout)
    _, _, sizes = order.split("x", x.shape)
    call = pool_call(order.rank, inputs.dtype, x.shape, tuple(sizes) or 1, layout=order.name)
    return run_avg_pool(inputs, call, None)


@documented(_MAX_POOL, 1)
def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Any:
    return _max_pool(
        1,
        x,
        kernel_size,
        return_indices,
        out,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
    )


@documented(_MAX_POOL, 2)
def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Any:
    return _max_pool(
        2,
        x,
        kernel_size,
        return_indices,
        out,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
    )


@documented(_MAX_POOL, 3)
def max_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Any:
    return _max_pool(
        3,
        x,
        kernel_size,
        return_indices,
        out,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        layout=layout,
    )


@documented(_AVG_POOL, 1)
def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    return _avg_pool(
        1,
        x,
        kernel_size,
        out,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )


@documented(_AVG_POOL, 2)
def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    return _avg_pool(
        2,
        x,
        kernel_size,
        out,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )


@documented(_AVG_POOL, 3)
def avg_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    return _avg_pool(
        3,
        x,
        kernel_size,
        out,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        layout=layout,
    )
