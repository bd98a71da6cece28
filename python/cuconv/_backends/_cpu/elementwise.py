"""Pooling, activations and the bias gradient on NumPy arrays."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from cuconv._backends import _functions
from cuconv._backends._composed import Composed
from cuconv._backends._cpu import pooling, threads
from cuconv._backends._cpu.blocks import accumulator, spans
from cuconv._backends._geometry import at, divisors, first_positions, meeting_taps, tap_slices
from cuconv._backends._protocol import Array
from cuconv._problem import PoolProblem


def widen(array: Array) -> Array:
    return array.astype(accumulator(array.dtype), copy=False)


ELEMENTS = 1 << 17  # of a block


class Elementwise(Composed):
    """The part of `NumpyBackend` that is not convolution."""

    @_functions.quietly
    def bias_grad(self, gy: Array, gb: Array) -> None:
        gb[...] = gy.sum(axis=(0, 2, 3, 4), dtype=accumulator(gy.dtype))

    @_functions.quietly
    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        if indices is None:
            pooling.maximum(problem, x, y)
            return
        y[...] = -np.inf
        indices[...] = first_positions(problem)
        plane = np.arange(np.prod(problem.input)).reshape(problem.input)
        d, h, w = (meeting_taps(problem, axis) for axis in range(3))
        for tap in product(d, h, w):
            slices = tap_slices(problem, tap)
            if slices is None:
                continue
            source, target = slices
            value, best = x[at(source)], y[at(target)]
            replace = ~(value <= best) & (best == best)  # greater, or the first NaN
            np.copyto(best, value, where=replace)
            np.copyto(indices[at(target)], plane[source], where=replace)

    @_functions.quietly
    def max_pool_grad(
        self, problem: PoolProblem | None, gy: Array, indices: Array, gx: Array
    ) -> None:
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
        pooling.average(problem, x, y, self.real_divisors(problem, accumulator(x.dtype)))

    @_functions.quietly
    def avg_pool_grad(self, problem: PoolProblem, gy: Array, gx: Array) -> None:
        divisors = self.real_divisors(problem, accumulator(gy.dtype))
        pooling.average_grad(problem, gy, gx, divisors)

    @staticmethod
    def real_divisors(problem: PoolProblem, dtype: np.dtype) -> Array:
        # In the sums' own precision: an integer divisor would make float32 sums float64.
        return divisors(problem).astype(np.zeros((), dtype).real.dtype)

    @_functions.quietly
    def relu(self, x: Array, y: Array) -> None:
        if x.flags.c_contiguous and y.flags.c_contiguous and x.size > 2 * ELEMENTS:
            flat, into = x.reshape(x.size), y.reshape(x.size)
            cut = [slice(r.start, r.stop) for r in spans(x.size, ELEMENTS)]
            threads.run([partial(_functions.relu_into, flat[s], into[s]) for s in cut])
        else:
            _functions.relu_into(x, y)

    @_functions.quietly
    def relu_grad(self, gy: Array, y: Array, gx: Array) -> None:
        gx[...] = np.where(y <= 0, np.zeros((), gy.dtype), gy)

    @_functions.quietly
    def sigmoid(self, x: Array, y: Array) -> None:
        y[...] = _functions.sigmoid(widen(x))

    @_functions.quietly
    def softmax(self, x: Array, axis: int, y: Array) -> None:
        y[...] = _functions.softmax(widen(x), axis)
