"""The two comparisons of all tests: element by element, NaN-safe, naming the first bad index."""

import ml_dtypes
import numpy as np


def assert_equal(got, want):
    """Same shape, dtype and values; NaN equals NaN, and 0 equals -0."""
    assert_alike(got, want)
    a, b = wide(got), wide(want)
    report(~((a == b) | (np.isnan(a) & np.isnan(b))), a, b)


def assert_within(got, want, bound):
    """|got - want| <= bound everywhere; where `want` is not finite, equal. `want` may be wider."""
    assert got.shape == want.shape
    a, b = wide(got), wide(want)
    finite = np.isfinite(b)
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= bound
        same = (a == b) | (np.isnan(a) & np.isnan(b))
    report(~np.where(finite, close, same), a, b, bound)


def assert_alike(got, want):
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)


def wide(array):
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def report(wrong, a, b, bound=None):
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    allowed = "" if bound is None else f", allowed {np.broadcast_to(bound, a.shape)[index]}"
    raise AssertionError(
        f"{int(wrong.sum())} of {wrong.size} differ, first at {index}: "
        f"got {a[index]}, expected {b[index]}{allowed}"
    )


def summed_eps(dtype):
    """eps of what sums of a dtype are kept in."""
    return float(ml_dtypes.finfo(np.float32 if dtype.itemsize == 2 else dtype).eps)


def sum_bound(dtype, terms, absolute, result):
    """The documented bound: (terms + 2) eps of the sum of absolute products, and one rounding."""
    complex_factor = 4 if dtype.kind == "c" else 1
    info = ml_dtypes.finfo(dtype)
    rounding = np.abs(result) * float(info.eps) + float(info.smallest_subnormal)
    return complex_factor * (terms + 2) * summed_eps(dtype) * absolute + rounding
