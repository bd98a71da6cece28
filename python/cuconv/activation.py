"""Activations, element by element, and softmax."""

from __future__ import annotations

from typing import Any

from cuconv import _arguments as arguments
from cuconv._arguments import REAL_DTYPES
from cuconv._arrays import operands
from cuconv._backends._protocol import Array


def relu(x: Any, *, out: Array | None = None) -> Array:
    """Rectified linear unit: y = 0 where x <= 0, else x. NaN stays NaN.

    Parameters
    ----------
    x : array of any shape
        float16, bfloat16, float32 or float64; NumPy or CuPy; any strides.
    out : array, optional
        Where the result goes: exact shape, dtype and device. `relu(x, out=x)` is in place.

    Returns
    -------
    array of the shape, dtype and device of `x`

    Raises
    ------
    TypeError
        For other dtypes, complex ones among them, and mixed devices.
    ValueError
        If `out` does not fit.
    cuconv.CudaUnavailableError, cuconv.CudaError
        For CuPy arrays where the CUDA kernels were not built; if a launch fails.

    Notes
    -----
    Exact. Source: V. Nair and G. Hinton, Rectified linear units improve restricted Boltzmann
    machines, ICML 2010.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.relu(np.array([-1.0, 0.0, 2.0, np.nan]))
    array([ 0.,  0.,  2., nan])
    """
    inputs = operands(("x", x), out=out, dtypes=REAL_DTYPES)
    (x,) = inputs.arrays
    return inputs.result(x.shape, out, in_place=True).finish(lambda y: inputs.backend.relu(x, y))


def relu_grad(grad_out: Any, y: Any, *, out: Array | None = None) -> Array:
    """Gradient of `relu` from its result: 0 where y <= 0, else grad_out.

    Where y is NaN the gradient passes.

    Parameters
    ----------
    grad_out : array of any shape
        Gradient with respect to the result.
    y : array of the same shape and dtype
        The result of `relu` (or its input, which has the same sign).
    out : array, optional
        Where the result goes; `grad_out` and `y` themselves will do.

    Returns
    -------
    array of the shape, dtype and device of `grad_out`

    Raises
    ------
    TypeError, ValueError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `relu`; ValueError if the shapes differ.

    Notes
    -----
    Exact: elements are copied or zero.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.relu_grad(np.array([5.0, 6.0]), cuconv.relu(np.array([-1.0, 2.0])))
    array([0., 6.])
    """
    inputs = operands(("grad_out", grad_out), ("y", y), out=out, dtypes=REAL_DTYPES)
    grad_out, y = inputs.arrays
    if grad_out.shape != y.shape:
        raise ValueError(f"grad_out has shape {grad_out.shape}, but y has {y.shape}")
    result = inputs.result(y.shape, out, in_place=True)
    return result.finish(lambda gx: inputs.backend.relu_grad(grad_out, y, gx))


def sigmoid(x: Any) -> Array:
    """Logistic function: y = 1 / (1 + exp(-x)), without overflow for any x.

    Parameters
    ----------
    x : array of any shape
        float16, bfloat16, float32 or float64; NumPy or CuPy; any strides.

    Returns
    -------
    array of the shape, dtype and device of `x`

    Raises
    ------
    TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `relu`.

    Notes
    -----
    Relative error at most 8 eps of the dtype computed in (float32 for float16 and bfloat16), and
    one rounding to the dtype stored: an exponential of at most 2 ulp (CUDA C++ Programming Guide,
    mathematical functions), an addition and a division.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    inputs = operands(("x", x), dtypes=REAL_DTYPES)
    (x,) = inputs.arrays
    return inputs.result(x.shape, None).finish(lambda y: inputs.backend.sigmoid(x, y))


def softmax(x: Any, axis: int = -1) -> Array:
    """Softmax along an axis: y_i = exp(x_i - m) / sum over j of exp(x_j - m), m the largest x_j.

    Parameters
    ----------
    x : array of at least one axis
        float16, bfloat16, float32 or float64; NumPy or CuPy; any strides.
    axis : int
        Counted from the end where negative.

    Returns
    -------
    array of the shape, dtype and device of `x`
        Sums to 1 along `axis`. A NaN in a row, or a largest element that is infinite, makes the
        whole row NaN.

    Raises
    ------
    ValueError
        If there is no such axis.
    TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `relu`.

    Notes
    -----
    For a row of M elements the relative error is at most (M + 8) eps of the dtype computed in, and
    where x spreads over d = m - x_i further d eps. Source: P. Blanchard, D. Higham and N. Higham,
    Accurately computing the log-sum-exp and softmax functions (2021), IMA J. Numer. Anal. 41.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> cuconv.softmax(np.array([[0.0, 0.0], [0.0, 1000.0]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    inputs = operands(("x", x), dtypes=REAL_DTYPES)
    (x,) = inputs.arrays
    number = arguments.integer("axis", axis)
    if not -x.ndim <= number < x.ndim:
        raise ValueError(f"axis is {number}, but x has {x.ndim} axes: shape {x.shape}")
    result = inputs.result(x.shape, None)
    return result.finish(lambda y: inputs.backend.softmax(x, number % x.ndim, y))
