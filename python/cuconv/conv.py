"""Convolution and transposed convolution, in one, two and three dimensions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cuconv._backends import is_cupy
from cuconv._backends._protocol import Array
from cuconv._conv import (
    HOW_OPTIONS,
    SHAPE_OPTIONS,
    Convolution,
    Options,
    conv_operands,
    conv_options,
    how_options,
    shape_options,
)
from cuconv._docstrings import documented
from cuconv._problem import conv_call, transposed_call
from cuconv._quick import QuickCall, quick_call

_CONV = """<rank>-D convolution of many channels, as deep learning means it (cross-correlation).

    y[n,k]<i> = act(bias[k] + sum over c, <taps> of x[n,c]<at> * w[k,c]<tap>)

    Elements of x outside its bounds are zero, unless `padding_mode` says otherwise.

    Parameters
    ----------
    x : array, <x>, or without N
        Input: NumPy or CuPy, or another GPU array through DLPack. float16, bfloat16, float32,
        float64, complex64 or complex128; any strides.
    w : array, <w>
        Filters, of the dtype and on the device of `x`.
    bias : array, (K,), optional
    stride, dilation : int or one per axis
    padding : int, one per axis, one (low, high) pair per axis, or a word
        `"valid"`: none. `"full"`: wherever kernel and input touch. `"same"` and `"same_lower"`: an
        output of ceil(input / stride), the odd cell at the end or at the beginning.
    groups : int
        Filters of group g see the channels of group g alone. Divides C and K.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
    layout : {"<layout>", "<last>"}, default "<layout>"
        With "<last>" the channels of `x`, `w` and the result come last.
    flip_kernel : bool
        True flips the kernel: the mathematical convolution.
    activation : {None, "relu", "sigmoid", "tanh"}
        Applied to the sum with its bias before it is rounded and stored. Real dtypes only.
    precision : {"ieee", "tf32", "tf32x3"}
        What a float32 product may lose. A family without such units computes as for "ieee".
    algo : {"auto", "autotune", "direct", "im2col", "implicit_gemm", "winograd", "fft"}
        See `cuconv.algorithms`. "autotune" times those that can do the problem, once.
    workspace_limit : int, optional
        Most bytes of temporary memory. Where no algorithm keeps inside it, "auto" takes the one
        that needs least.
    out : array, optional
        Where the result goes: exact shape, dtype and device. May overlap an input.

    Returns
    -------
    array, <y>, or without N
        New and C-contiguous, or `out`; the kind, dtype and device of `x`.

    Raises
    ------
    ValueError
        Shapes, values and ranges that do not fit, before anything is computed.
    TypeError
        Kinds, dtypes and devices that are not taken or differ.
    cuconv.UnsupportedError
        If the algorithm named cannot do this problem; the message names those that can.
    cuconv.CudaUnavailableError, cuconv.CudaError
        For CuPy arrays where the CUDA kernels were not built; if a launch fails.

    Notes
    -----
    The same call gives the same bits. Error of direct, im2col and implicit_gemm against exact
    arithmetic, with precision "ieee": at most
    (M + 2) * eps * (|bias[k]| + sum of |x| |w|) with M terms in the sum and eps of the dtype summed
    in (float32 for float16 and bfloat16), four times that for complex dtypes, and one rounding to
    the dtype stored: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. (2002),
    section 3.1. `"tf32"` adds 2^-10 of the sum of |x| |w|; `"tf32x3"` allows three times the
    roundings and 3 * 2^-22 of that sum. Winograd and FFT mix neighbours: their errors are measured
    by what the neighbours hold, and a NaN spreads; docs/bounds.md has their bounds. "auto" takes
    them from 2^22 multiply-adds on; on the GPU Winograd for float32 with precision "ieee" alone,
    and FFT not for 16 bits. "direct" never mixes.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x, w = np.ones((2, 3, <sizes>), "float32"), np.ones((4, 3, <kernel>), "float32")
    >>> cuconv.conv<rank>d(x, w, stride=2, padding="same").shape
    (2, 4, <half>)
    """


def _conv(rank: int, x: Any, w: Any, bias: Any, shape: Options, how: Options, out: Any) -> Array:
    key = None
    if out is None and type(w) is type(x) and (type(x) is np.ndarray or is_cupy(x)):
        key = _key(rank, x.dtype, x.shape, w.shape, shape, how)
        quick = _quick.get(key)
        if quick is not None and (y := quick(x, w, bias)) is not None:
            return y
    inputs = conv_operands(("x", x), ("w", w), bias, out)
    x_shape, w_shape = inputs.arrays[0].shape, inputs.arrays[1].shape
    known = _key(rank, inputs.dtype, x_shape, w_shape, shape, how)
    if known is None:
        return _convolution(rank, inputs.dtype, x_shape, w_shape, shape, how).run(inputs, out)
    convolution = _known(*known)
    if convolution.options.algo == "autotune":
        return convolution.run(inputs, out)
    executor = convolution.executor(inputs.backend)
    y = convolution.run(inputs, out, executor)
    # Large ones keep buffers and filters, which is for plans, and the number of threads.
    if key is not None and (inputs.backend.name == "cuda" or executor.variant == "im2col_small"):
        if len(_quick) > QUICK_CALLS:
            _quick.clear()
        call = quick_call(convolution, inputs.backend, executor)
        if call is not None:
            _quick[key] = call
    return y


QUICK_CALLS = 512
_quick: dict[Any, QuickCall] = {}


def _key(
    rank: int, dtype: Any, x_shape: Any, w_shape: Any, shape: Options, how: Options
) -> tuple[Any, ...] | None:
    """What tells equal calls: of numbers, words, and tuples of integers. None for others."""
    if not (is_plain(shape) and is_plain(how)):
        return None
    values = (*shape.values(), *how.values())
    return rank, dtype, x_shape, w_shape, values, tuple(map(type, values))  # True is no 1


def _convolution(
    rank: int, dtype: Any, x_shape: Any, w_shape: Any, shape: Options, how: Options
) -> Convolution:
    options = conv_options(dtype, **how)
    return Convolution("forward", conv_call(rank, dtype, x_shape, w_shape, **shape), options)


@lru_cache(maxsize=4096)
def _known(rank: int, dtype: Any, x_shape: Any, w_shape: Any, values: Any, _: Any) -> Convolution:
    """A call like an earlier one needs no checks: they would say the same."""
    shape = dict(zip(SHAPE_OPTIONS, values, strict=False))
    how = dict(zip(HOW_OPTIONS, values[len(shape) :], strict=True))
    return _convolution(rank, dtype, x_shape, w_shape, shape, how)


def is_plain(options: Options) -> bool:
    """Whether equal values mean equal calls: numbers, words, and tuples of integers alone."""
    return all(
        type(v) in (int, str, bool, type(None))
        or (type(v) is tuple and all(type(n) is int for n in v))
        for v in options.values()
    )


@documented(_CONV, 1)
def conv1d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit, activation)
    return _conv(1, x, w, bias, shape, how, out)


@documented(_CONV, 2)
def conv2d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit, activation)
    return _conv(2, x, w, bias, shape, how, out)


@documented(_CONV, 3)
def conv3d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    flip_kernel: bool = False,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    workspace_limit: int | None = None,
    out: Array | None = None,
) -> Array:
    shape = shape_options(stride, padding, dilation, groups, padding_mode, layout, flip_kernel)
    how = how_options(precision, algo, workspace_limit, activation)
    return _conv(3, x, w, bias, shape, how, out)


_TRANSPOSED = """<rank>-D transposed convolution: the adjoint of `conv<rank>d`, with an epilogue.

    y[n,k][j] = act(bias[k] + sum over c, i, <taps> with j = i*stride + tap*dilation - pad
                of x[n,c][i] * w[c,k]<tap>)

    The output size is (size - 1)*stride + dilation*(kernel - 1) + 1 - padding + output_padding.
    Nothing is conjugated.

    Parameters
    ----------
    x : array, <x>, or without N
        Input, as in `conv<rank>d`.
    w : array, <wt>
        Filters; with layout "<last>" the last two groups of axes change places.
    bias : array, (K,), optional
    stride, dilation : int or one per axis
    padding : int, one per axis, or one (low, high) pair per axis
        What is cut off the result, as the convolution whose adjoint this is was padded.
    output_padding : int or one per axis
        Grows the result at its end. Less than the stride or the dilation.
    groups : int
        Divides C.
    layout : {"<layout>", "<last>"}, default "<layout>"
    activation, precision, algo, out
        As in `conv<rank>d`.

    Returns
    -------
    array, <y>, or without N

    Raises
    ------
    ValueError, TypeError, cuconv.UnsupportedError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv<rank>d`.

    Notes
    -----
    The error bound is that of `conv<rank>d` with the terms of this sum. Source:
    V. Dumoulin and F. Visin, A guide to convolution arithmetic for deep learning (2016),
    arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x, w = np.ones((2, 3, <half>), "float32"), np.ones((3, 5, <kernel>), "float32")
    >>> cuconv.conv_transpose<rank>d(x, w, stride=2, padding=1, output_padding=1).shape
    (2, 5, <sizes>)
    """


def _conv_transpose(
    rank: int, x: Any, w: Any, bias: Any, shape: Options, how: Options, out: Any
) -> Array:
    inputs = conv_operands(("x", x), ("w", w), bias, out)
    options = conv_options(inputs.dtype, **how)
    x_shape, w_shape = inputs.arrays[0].shape, inputs.arrays[1].shape
    call = transposed_call(rank, inputs.dtype, x_shape, w_shape, **shape)
    return Convolution("input_grad", call, options).run(inputs, out)


@documented(_TRANSPOSED, 1)
def conv_transpose1d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    out: Array | None = None,
) -> Array:
    shape = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "groups": groups,
        "dilation": dilation,
        "layout": layout,
    }
    how = how_options(precision, algo, None, activation)
    return _conv_transpose(1, x, w, bias, shape, how, out)


@documented(_TRANSPOSED, 2)
def conv_transpose2d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    out: Array | None = None,
) -> Array:
    shape = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "groups": groups,
        "dilation": dilation,
        "layout": layout,
    }
    how = how_options(precision, algo, None, activation)
    return _conv_transpose(2, x, w, bias, shape, how, out)


@documented(_TRANSPOSED, 3)
def conv_transpose3d(
    x: Any,
    w: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    activation: str | None = None,
    precision: str = "ieee",
    algo: str = "auto",
    out: Array | None = None,
) -> Array:
    shape = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "groups": groups,
        "dilation": dilation,
        "layout": layout,
    }
    how = how_options(precision, algo, None, activation)
    return _conv_transpose(3, x, w, bias, shape, how, out)
