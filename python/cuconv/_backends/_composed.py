"""What a backend without kernels of its own for it puts together from its other operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cuconv._backends._protocol import Array, ConvOptions, ConvPart, Direction
from cuconv._problem import ConvProblem, PoolProblem


class Composed:
    """`conv_together` as one convolution after the other."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        raise NotImplementedError

    def conv(self, direction: Direction, problem: ConvProblem, options: ConvOptions) -> Any:
        raise NotImplementedError

    def max_pool(self, problem: PoolProblem, x: Array, y: Array, indices: Array | None) -> None:
        raise NotImplementedError

    def conv_together(self, parts: Sequence[ConvPart]) -> None:
        for part in parts:
            x = part.x
            if part.pool is not None:
                x = self.empty(part.pool.y_shape, part.problem.dtype)
                self.max_pool(part.pool, part.x, x, None)
            self.conv("forward", part.problem, part.options)(x, part.w, part.bias, part.y)
