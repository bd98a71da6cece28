"""Pooling, activations and the bias gradient on NumPy arrays: one pass a tap over shifted views."""

from __future__ import annotations

import numpy as np

from cuconv._backends import _functions
from cuconv._backends._composed import Composed
from cuconv._backends._geometry import at, divisors, first_positions, tap_slices, taps_of
from cuconv._backends._protocol import Array
from cuconv._problem import PoolProblem


def accumulator(dtype: np.dtype) -> np.dtype:
    """What sums of a dtype are kept in: float32 for float16 and bfloat16, else the dtype."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def widen(array: Array) -> Array:
    return array.astype(accumulator(array.dtype), copy=False)


class NumpyPool(Composed):
    """The part of `NumpyBackend` that is not convolution."""

    @_functions.quietly
    def bias_grad(self, gy: Array, gb: Array) -> None:
        gb[...] = gy.sum(axis=(0, 2, 3, 4), dtype=accumulator(gy.dtype))

    @_functions.quietly
    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        y[...] = -np.inf
        if indices is not None:
            indices[...] = first_positions(problem)
            plane = np.arange(np.prod(problem.input)).reshape(problem.input)
        for tap in taps_of(problem.window):
            slices = tap_slices(problem, tap)
            if slices is None:
                continue
            source, target = slices
            value, best = x[at(source)], y[at(target)]
            if indices is None:
                np.maximum(best, value, out=best)  # NaN from either side stays
                continue
            replace = ~(value <= best) & (best == best)  # greater, or the first NaN
            np.copyto(best, value, where=replace)
            np.copyto(indices[at(target)], plane[source], where=replace)

    @_functions.quietly
    def max_pool_grad(self, gy: Array, indices: Array, gx: Array) -> None:
        if gx.size == 0:
            return
        planes, size = gx.shape[0] * gx.shape[1], gx[0, 0].size
        positions = indices.reshape(planes, -1)
        inside = (positions >= 0) & (positions < size)
        flat = positions + size * np.arange(planes)[:, None]
        sums = np.zeros(planes * size, accumulator(gx.dtype))
        np.add.at(sums, flat[inside], widen(gy).reshape(planes, -1)[inside])
        gx[...] = sums.reshape(gx.shape)

    @_functions.quietly
    def avg_pool(self, problem: PoolProblem, x: Array, y: Array) -> None:
        sums = np.zeros(problem.y_shape, accumulator(x.dtype))
        for tap in taps_of(problem.window):
            if slices := tap_slices(problem, tap):
                source, target = slices
                sums[at(target)] += x[at(source)]
        y[...] = sums / self.real_divisors(problem, sums.dtype)

    @_functions.quietly
    def avg_pool_grad(self, problem: PoolProblem, gy: Array, gx: Array) -> None:
        shares = widen(gy) / self.real_divisors(problem, accumulator(gy.dtype))
        sums = np.zeros(problem.x_shape, shares.dtype)
        for tap in taps_of(problem.window):
            if slices := tap_slices(problem, tap):
                source, target = slices
                sums[at(source)] += shares[at(target)]
        gx[...] = sums

    @staticmethod
    def real_divisors(problem: PoolProblem, dtype: np.dtype) -> Array:
        # In the sums' own precision: an integer divisor would make float32 sums float64.
        return divisors(problem).astype(np.zeros((), dtype).real.dtype)

    @_functions.quietly
    def relu(self, x: Array, y: Array) -> None:
        y[...] = _functions.relu(x)

    @_functions.quietly
    def relu_grad(self, gy: Array, y: Array, gx: Array) -> None:
        gx[...] = np.where(y <= 0, np.zeros((), gy.dtype), gy)

    @_functions.quietly
    def sigmoid(self, x: Array, y: Array) -> None:
        y[...] = _functions.sigmoid(widen(x))

    @_functions.quietly
    def softmax(self, x: Array, axis: int, y: Array) -> None:
        y[...] = _functions.softmax(widen(x), axis)
