"""The oracle: every operation as plainly as NumPy can say it, in float64 or complex128.

Nothing here is chosen for speed. Results are rounded once, to the dtype of the output array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cuconv._arguments import FAMILIES
from cuconv._backends import _functions
from cuconv._backends._composed import Composed
from cuconv._backends._geometry import (
    at,
    divisors,
    first_positions,
    inside_and_nearest,
    tap_slices,
    taps_of,
)
from cuconv._backends._protocol import Array, Candidate, ConvOptions, Direction
from cuconv._problem import ConvCall, ConvProblem, PoolProblem


def wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def by_group(array: Array, groups: int, axis: int) -> Array:
    """Splits a channel axis in (groups, channels of one group)."""
    shape = array.shape
    return array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def correlate(problem: ConvProblem, x: Array, w: Array) -> Array:
    """y[n,k,p] = sum over c, t of x[n, c, p*stride + t*dilation - pad_low] * w[k,c,t]"""
    x = by_group(wide(x), problem.groups, 1)
    w = by_group(wide(w), problem.groups, 0)
    y = by_group(np.zeros(problem.y_shape, x.dtype), problem.groups, 1)
    for tap in taps_of(problem.kernel):
        if slices := tap_slices(problem, tap):
            source, target = slices
            y[at(target)] += np.einsum("ngcdhw,gkc->ngkdhw", x[at(source)], w[at(tap)])
    return y.reshape(problem.y_shape)


def input_grad(problem: ConvProblem, gy: Array, w: Array, conjugate: bool) -> Array:
    """gx[n,c,i] = sum over k, p, t of gy[n,k,p] * w[k,c,t], p*stride + t*dilation - pad_low = i"""
    gy = by_group(wide(gy), problem.groups, 1)
    w = by_group(wide(w), problem.groups, 0)
    if conjugate:
        w = w.conj()
    gx = by_group(np.zeros(problem.x_shape, gy.dtype), problem.groups, 1)
    for tap in taps_of(problem.kernel):
        if slices := tap_slices(problem, tap):
            source, target = slices
            gx[at(source)] += np.einsum("ngkdhw,gkc->ngcdhw", gy[at(target)], w[at(tap)])
    return gx.reshape(problem.x_shape)


def weight_grad(problem: ConvProblem, gy: Array, x: Array, conjugate: bool) -> Array:
    """gw[k,c,t] = sum over n, p of gy[n,k,p] * x[n, c, p*stride + t*dilation - pad_low]"""
    gy = by_group(wide(gy), problem.groups, 1)
    x = by_group(wide(x), problem.groups, 1)
    if conjugate:
        x = x.conj()
    gw = by_group(np.zeros(problem.w_shape, gy.dtype), problem.groups, 0)
    for tap in taps_of(problem.kernel):
        if slices := tap_slices(problem, tap):
            source, target = slices
            gw[at(tap)] = np.einsum("ngkdhw,ngcdhw->gkc", gy[at(target)], x[at(source)])
    return gw.reshape(problem.w_shape)


@dataclass(frozen=True, slots=True)
class ReferenceConv:
    direction: Direction
    problem: ConvProblem
    options: ConvOptions
    algo: str = "direct"
    variant: str = "reference"
    workspace_bytes: int = 0

    def quick(self, call: ConvCall) -> None:
        return None

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        with np.errstate(all="ignore"):
            if self.direction == "forward":
                result = correlate(self.problem, a, b)
            elif self.direction == "input_grad":
                result = input_grad(self.problem, a, b, self.options.conjugate)
            else:
                result = weight_grad(self.problem, a, b, self.options.conjugate)
            if bias is not None:
                result = result + wide(bias)[None, :, None, None, None]
            out[...] = _functions.activate(result, self.options.activation)


def all_axes(d: Array, h: Array, w: Array) -> tuple[Array, Array, Array]:
    """Three (outputs, taps) tables shaped to broadcast to (Z, P, Q, T, R, S)."""
    return (
        d[:, None, None, :, None, None],
        h[None, :, None, None, :, None],
        w[None, None, :, None, None, :],
    )


def windows(problem: PoolProblem, x: Array) -> tuple[Array, Array, Array]:
    """All windows of x as (N, C, Z, P, Q, taps): values, whether inside x, flat positions in x.

    Taps outside x are given the nearest element's value and position.
    """
    inside, nearest = zip(*(inside_and_nearest(problem, axis) for axis in range(3)), strict=True)
    d, h, w = all_axes(*nearest)
    valid_d, valid_h, valid_w = all_axes(*inside)
    shape = (*problem.output, int(np.prod(problem.window)))
    valid = (valid_d & valid_h & valid_w).reshape(shape)
    flat = ((d * problem.input[1] + h) * problem.input[2] + w).reshape(shape)
    values = x[:, :, d, h, w].reshape(*x.shape[:2], *shape)
    return values, valid, flat


class ReferenceBackend(Composed):
    name = "reference"
    device: Literal["cpu", "cuda"] = "cpu"

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def conv_candidates(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> list[Candidate]:
        # Whatever the family asked for, the answer is the definition.
        return [
            Candidate(family, True, "", 0, float(cost), "reference", "cpu")
            for cost, family in enumerate(FAMILIES)
        ]

    def conv(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> ReferenceConv:
        named = options.algo if options.algo in FAMILIES else "direct"
        return ReferenceConv(direction, problem, options, algo=named)

    @_functions.quietly
    def bias_grad(self, gy: Array, gb: Array) -> None:
        gb[...] = wide(gy).sum(axis=(0, 2, 3, 4))

    @_functions.quietly
    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        values, valid, flat = windows(problem, x)
        candidates = np.where(valid, wide(values), -np.inf)
        best = candidates.argmax(axis=-1)  # the first NaN, else the first maximum
        largest = np.take_along_axis(candidates, best[..., None], -1)[..., 0]
        y[...] = largest
        if indices is not None:
            chosen = np.take_along_axis(np.broadcast_to(flat, values.shape), best[..., None], -1)
            nothing = largest == -np.inf
            indices[...] = np.where(nothing, first_positions(problem), chosen[..., 0])

    @_functions.quietly
    def max_pool_grad(
        self, problem: PoolProblem | None, gy: Array, indices: Array, gx: Array
    ) -> None:
        planes = gx.shape[0] * gx.shape[1]
        sums = np.zeros((planes, gx[0, 0].size if planes else 0))
        where = indices.reshape(planes, -1) if planes else indices.reshape(0, 0)
        values = wide(gy).reshape(where.shape)
        for plane in range(planes):
            inside = (where[plane] >= 0) & (where[plane] < sums.shape[1])
            np.add.at(sums[plane], where[plane][inside], values[plane][inside])
        gx[...] = sums.reshape(gx.shape)

    @_functions.quietly
    def avg_pool(self, problem: PoolProblem, x: Array, y: Array) -> None:
        values, valid, _ = windows(problem, x)
        sums = np.where(valid, wide(values), 0).sum(axis=-1)
        y[...] = sums / divisors(problem)

    @_functions.quietly
    def avg_pool_grad(self, problem: PoolProblem, gy: Array, gx: Array) -> None:
        shares = wide(gy) / divisors(problem)
        sums = np.zeros(problem.x_shape, shares.dtype)
        for tap in taps_of(problem.window):
            if slices := tap_slices(problem, tap):
                source, target = slices
                sums[at(source)] += shares[at(target)]
        gx[...] = sums

    @_functions.quietly
    def relu(self, x: Array, y: Array) -> None:
        y[...] = _functions.relu(wide(x))

    @_functions.quietly
    def relu_grad(self, gy: Array, y: Array, gx: Array) -> None:
        gx[...] = np.where(y <= 0, 0, wide(gy))

    @_functions.quietly
    def sigmoid(self, x: Array, y: Array) -> None:
        y[...] = _functions.sigmoid(wide(x))

    @_functions.quietly
    def softmax(self, x: Array, axis: int, y: Array) -> None:
        y[...] = _functions.softmax(wide(x), axis)
