"""The bound of Winograd's algorithm, docs/bounds.md: (C + 2 points + 4) eps W.

W is what the algorithm gives when every number in it is replaced by its absolute value. It is
computed here from the matrices alone, whatever the backend: as a stand-in for the convolution of
the reference backend, so that the public functions take care of layouts, borders and directions.
"""

from dataclasses import replace
from functools import partial
from unittest import mock

import ml_dtypes
import numpy as np

from compare import summed_eps, wide
from cuconv._backends import reference
from cuconv._backends._cpu import winograd

SPATIAL = range(3)


def axis_matrices(m, kernel):
    """(G, B^T, A^T) along an axis, of absolute values; of an axis without taps, the identity."""
    if kernel == 1:
        return (np.ones((1, 1)),) * 3
    of = winograd.matrices(m, 1, np.dtype(np.float64))
    return np.abs(of.filter), np.abs(of.input), np.abs(of.output)


def tiles_along(x, axis, problem, m, points):
    """x with its spatial axis replaced by tiles, and the inputs of each as a last axis."""
    taps = problem.kernel[axis]
    step = m if taps == 3 else 1
    tiles = -(-problem.output[axis] // step)
    positions = np.arange(tiles)[:, None] * step + np.arange(points) - problem.pad_low[axis]
    inside = (positions >= 0) & (positions < x.shape[2 + axis])
    moved = np.moveaxis(x, 2 + axis, -1)
    if moved.shape[-1] == 0:
        taken = np.zeros((*moved.shape[:-1], *positions.shape))
    else:
        taken = np.where(inside, moved[..., positions.clip(0, moved.shape[-1] - 1)], 0)
    return np.moveaxis(taken, -2, 2 + axis)


def absolute_winograd(m, problem, x, w):
    """W of a canonical problem of stride 1, of 3 taps along an axis or 1."""
    x, w = np.abs(wide(x)), np.abs(wide(w))
    for axis in SPATIAL:
        filters, inputs, _ = axis_matrices(m, problem.kernel[axis])
        x = tiles_along(x, axis, problem, m, inputs.shape[1]) @ inputs.T
        w = np.moveaxis(w, 2, -1) @ filters.T  # each axis in turn becomes the last
    groups = problem.groups
    x = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    w = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    y = np.einsum("ngcdhwtrs,gkctrs->ngkdhwtrs", x, w)
    y = y.reshape(y.shape[0], problem.out_channels, *y.shape[3:])
    for axis in SPATIAL:
        # What is left of the points comes from the front, the outputs of a tile go behind.
        y = np.moveaxis(y, 5, -1) @ axis_matrices(m, problem.kernel[axis])[2].T
    for axis in SPATIAL:  # tiles and their outputs are neighbours
        y = np.moveaxis(y, 5, 3 + axis)
        y = y.reshape(*y.shape[: 2 + axis], -1, *y.shape[4 + axis :])
    return y[(..., *(slice(n) for n in problem.output))]


def absolute_winograd_grad(m, problem, gy, w, conjugate):
    """W of an input gradient: of the forward problem that it is."""
    groups = problem.groups
    filters, channels = problem.out_channels // groups, problem.in_channels // groups
    w = w.reshape(groups, filters, channels, *problem.kernel).swapaxes(1, 2)
    w = np.flip(w, (3, 4, 5)).reshape(groups * channels, filters, *problem.kernel)
    backwards = replace(
        problem,
        in_channels=problem.out_channels,
        out_channels=problem.in_channels,
        input=problem.output,
        output=problem.input,
        pad_low=tuple(k - 1 - p for k, p in zip(problem.kernel, problem.pad_low, strict=True)),
    )
    return absolute_winograd(m, backwards, gy, w)


def winograd_bound(target, m, function, arguments, options, dtype):
    """What a call in two dimensions may be wrong by; `target` is the reference backend."""
    numbers = [np.abs(wide(a)) if isinstance(a, np.ndarray) else a for a in arguments]
    plain = {k: v for k, v in options.items() if k != "activation"}
    with (
        mock.patch.object(reference, "correlate", partial(absolute_winograd, m)),
        mock.patch.object(reference, "input_grad", partial(absolute_winograd_grad, m)),
    ):
        absolute = target.run(function, *numbers, **plain)
    terms = terms_of(arguments, options) + 2 * (m + 2) ** 2 + 4
    return terms * summed_eps(dtype) * absolute


def terms_of(arguments, options):
    """Channels that are summed over, and one for the bias: those of w, or of gy a group."""
    first, w, *_ = arguments
    last = options.get("layout", "NC")[-1] == "C"
    if len(arguments) > 2 and isinstance(arguments[2], tuple):
        return first.shape[-1 if last else -(w.ndim - 1)] // options.get("groups", 1)
    return w.shape[-1 if last else 1] + 1


def rounding(exact, dtype):
    """Of the store, to the dtype."""
    info = ml_dtypes.finfo(dtype)
    return np.abs(exact) * float(info.eps) + float(info.smallest_subnormal)
