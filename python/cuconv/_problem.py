"""Validation and output shapes: the only Python copy of both.

`ConvProblem` and `PoolProblem` are canonical (see `cuconv._backends._protocol`): channels first,
three spatial axes, padding as explicit (low, high) integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """y[n,k,p] = sum over c, r of x[n, c, p*stride + r*dilation - pad_low] * w[k,c,r].

    `input`, `kernel`, `output` and the parameters are (D, H, W) triples; `rank` says how many of
    the three axes the caller has (the last ones). Channel counts are totals over all groups.
    """

    rank: int
    dtype: np.dtype
    batch: int
    groups: int
    in_channels: int
    out_channels: int
    input: Triple
    kernel: Triple
    output: Triple
    stride: Triple
    pad_low: Triple  # may exceed the kernel or be negative (cropping) in derived problems
    pad_high: Triple
    dilation: Triple

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.output)


@dataclass(frozen=True, slots=True)
class PoolProblem:
    """A pooling: window `window` every `stride`, over an input padded by pad_low and pad_high.

    `ceil_mode` has already acted on `output`; windows may then reach past pad_high, and those parts
    count for nothing (maximum) and are left out of the divisor (average).
    """

    rank: int
    dtype: np.dtype
    batch: int
    channels: int
    input: Triple
    window: Triple
    output: Triple
    stride: Triple
    pad_low: Triple
    pad_high: Triple
    dilation: Triple
    count_include_pad: bool = True  # average only

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.input)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.output)
