"""Pooling, element-wise functions, softmax and the bias gradient by compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cuconv._backends._operands import Operands, element_strides
from cuconv._backends._protocol import Array
from cuconv._problem import PoolProblem

MAX_AXES = 8  # that an element-wise kernel can step along

Axes = list[tuple[int, tuple[int, ...]]]  # (size, a stride for each operand)


def sizes_of(problem: PoolProblem) -> tuple[int, ...]:
    """A problem's sizes as the extension module takes them."""
    return (
        problem.batch,
        problem.channels,
        *problem.input,
        *problem.window,
        *problem.output,
        *problem.stride,
        *problem.pad_low,
        *problem.pad_high,
        *problem.dilation,
    )


def planes(gx: Array, gy: Array) -> tuple[int, ...]:
    """The sizes of a gradient by indices, which knows no windows."""
    ones = (1, 1, 1)
    none = (0, 0, 0)
    return (*gx.shape[:2], *gx.shape[2:], *ones, *gy.shape[2:], *ones, *none, *none, *ones)


def merged_axes(*arrays: Array) -> Axes:
    """The axes of arrays of one shape, those merged that all arrays step through as through one."""
    merged: Axes = []
    strides = zip(*(element_strides(a) for a in arrays), strict=True)
    for size, steps in zip(arrays[0].shape, strides, strict=True):
        if size == 1:
            continue
        if merged and all(s == t * size for s, t in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * size, steps)
        else:
            merged.append((size, steps))
    return merged


def shape_and_strides(axes: Axes, operands: int) -> tuple[list[int], list[list[int]]]:
    return [size for size, _ in axes], [[s[i] for _, s in axes] for i in range(operands)]


def same_memory(a: Array, b: Array) -> bool:
    return pointer(a) == pointer(b) and a.strides == b.strides and a.dtype == b.dtype


def pointer(array: Array) -> int:
    if isinstance(array, np.ndarray):
        return int(array.__array_interface__["data"][0])
    return int(array.data.ptr)


class PoolKernels:
    """The part of `KernelBackend` that is not convolution."""

    _module: Any
    _operands: Callable[[], Operands]
    forced_variant: str | None

    def _forced(self, variants: Callable[[], list[str]]) -> str:
        """The variant of these that is forced, if one is; "" lets the launcher choose."""
        name = self.forced_variant
        return "" if name is None or name not in variants() else name

    @property
    def _pool_variant(self) -> str:
        return self._forced(self._module.pool_variants)

    @property
    def _pool_grad_variant(self) -> str:
        return self._forced(self._module.pool_grad_variants)

    def bias_grad(self, gy: Array, gb: Array) -> None:
        with self._operands() as place:
            self._module.bias_grad(
                gy.dtype.name,
                gy.shape,
                element_strides(gy),
                element_strides(gb)[0],
                place.input(gy, "grad of y"),
                place.output(gb, "grad of bias"),
                place.stream,
            )

    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        with self._operands() as place:
            self._module.max_pool(
                self._pool_variant,
                x.dtype.name,
                sizes_of(problem),
                element_strides(x),
                element_strides(y),
                (0,) * 5 if indices is None else element_strides(indices),
                place.input(x, "x"),
                place.output(y, "y"),
                0 if indices is None else place.output(indices, "indices"),
                place.stream,
            )

    def max_pool_grad(
        self, problem: PoolProblem | None, gy: Array, indices: Array, gx: Array
    ) -> None:
        with self._operands() as place:
            call = (
                self._pool_grad_variant,
                gy.dtype.name,
                planes(gx, gy) if problem is None else sizes_of(problem),
                problem is not None,
                element_strides(gx),
                element_strides(gy),
                element_strides(indices),
                place.input(gy, "grad of y"),
                place.input(indices, "indices"),
                place.output(gx, "grad of x"),
            )
            workspace = place.workspace(self._module.max_pool_grad_workspace(*call))
            self._module.max_pool_grad(*call, workspace, place.stream)

    def avg_pool(self, problem: PoolProblem, x: Array, y: Array) -> None:
        with self._operands() as place:
            self._module.avg_pool(
                self._pool_variant,
                x.dtype.name,
                sizes_of(problem),
                problem.count_include_pad,
                element_strides(x),
                element_strides(y),
                place.input(x, "x"),
                place.output(y, "y"),
                place.stream,
            )

    def avg_pool_grad(self, problem: PoolProblem, gy: Array, gx: Array) -> None:
        with self._operands() as place:
            self._module.avg_pool_grad(
                self._pool_grad_variant,
                gy.dtype.name,
                sizes_of(problem),
                problem.count_include_pad,
                element_strides(gx),
                element_strides(gy),
                place.input(gy, "grad of y"),
                place.output(gx, "grad of x"),
                place.stream,
            )

    def relu(self, x: Array, y: Array) -> None:
        self._elementwise("relu", [(x, "x")], (y, "y"))

    def sigmoid(self, x: Array, y: Array) -> None:
        self._elementwise("sigmoid", [(x, "x")], (y, "y"))

    def relu_grad(self, gy: Array, y: Array, gx: Array) -> None:
        self._elementwise("relu_grad", [(gy, "grad of y"), (y, "y")], (gx, "grad of x"))

    def _elementwise(
        self, function: str, inputs: list[tuple[Array, str]], out: tuple[Array, str]
    ) -> None:
        arrays = [a for a, _ in inputs] + [out[0]]
        if out[0].size == 0:
            return
        axes = merged_axes(*arrays)
        if len(axes) > MAX_AXES:
            for i in range(out[0].shape[0]):
                rest = [(a[i], name) for a, name in inputs]
                self._elementwise(function, rest, (out[0][i], out[1]))
            return
        with self._operands() as place:
            in_place = {i for i, (a, _) in enumerate(inputs) if same_memory(a, out[0])}
            target = place.inout(*out) if in_place else place.output(*out)
            addresses = [
                target if i in in_place else place.input(a, name)
                for i, (a, name) in enumerate(inputs)
            ]
            getattr(self._module, function)(
                out[0].dtype.name,
                *shape_and_strides(axes, len(arrays)),
                *addresses,
                target,
                place.stream,
            )

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        if y.size == 0:
            return
        others = (slice(None),) * axis + (0,)
        axes = merged_axes(x[others], y[others])
        if len(axes) > MAX_AXES:
            for i in range(x.shape[axis == 0]):  # along any axis but that of the softmax
                part = (slice(None), i) if axis == 0 else (i,)
                self.softmax(x[part], 0 if axis == 0 else axis - 1, y[part])
            return
        with self._operands() as place:
            self._module.softmax(
                x.dtype.name,
                *shape_and_strides(axes, 2),
                x.shape[axis],
                element_strides(x)[axis],
                element_strides(y)[axis],
                place.input(x, "x"),
                place.output(y, "y"),
                place.stream,
            )
