"""The input gradient of a convolution as forward convolutions at stride 1.

Along an axis, gx[i] sums gy[p] w[t] over i = p*stride + t*dilation - pad. Inputs of one residue
(i + pad) mod stride meet the taps t with t*dilation of that residue, in steps of stride/g, where
g = gcd(stride, dilation); with i + pad = residue + stride*a, tap t meets p = a - (t*dilation -
residue)/stride. So the inputs of a residue are a convolution of gy with those taps, reversed,
at stride 1 and dilation dilation/g, into every stride-th input.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from cuconv._backends._cpu.blocks import split, triple_of
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem


@dataclass(frozen=True, slots=True)
class AxisPart:
    inputs: slice  # of gx
    taps: slice | None  # of w, reversed; None where no tap meets these inputs
    dilation: int
    pad: int
    size: int  # how many inputs


@dataclass(frozen=True, slots=True)
class Part:
    """One forward convolution; `problem` is None where gx is zero."""

    problem: ConvProblem | None
    inputs: tuple[slice, slice, slice]
    taps: tuple[slice, slice, slice]


def axis_parts(size: int, kernel: int, stride: int, dilation: int, pad: int) -> list[AxisPart]:
    parts = []
    common = math.gcd(stride, dilation)
    step = stride // common
    for first in range(min(stride, size)):  # the first input of each residue
        residue = (first + pad) % stride
        count = (size - 1 - first) // stride + 1
        start = next(
            (t for t in range(min(step, kernel)) if t * dilation % stride == residue), None
        )
        inputs = slice(first, None, stride)
        if start is None:
            parts.append(AxisPart(inputs, None, 1, 0, count))
            continue
        taps = len(range(start, kernel, step))
        a = (first + pad - residue) // stride  # of the first input
        last = start + (taps - 1) * step
        # y[o] = sum over j of gy[o + j*spread - low] * reversed[j]
        low = (last * dilation - residue) // stride - a
        back = slice(last, start - step if start >= step else None, -step)
        parts.append(AxisPart(inputs, back, dilation // common, low, count))
    return parts


def parts_of(problem: ConvProblem) -> list[Part]:
    axes = [
        axis_parts(*numbers)
        for numbers in zip(
            problem.input,
            problem.kernel,
            problem.stride,
            problem.dilation,
            problem.pad_low,
            strict=True,
        )
    ]
    found = []
    for combined in itertools.product(*axes):
        inputs = triple_of(part.inputs for part in combined)
        taps = [part.taps for part in combined if part.taps is not None]
        if len(taps) < 3:
            found.append(Part(None, inputs, inputs))
            continue
        kernel = triple_of(
            len(range(*t.indices(k))) for t, k in zip(taps, problem.kernel, strict=True)
        )
        output = triple_of(part.size for part in combined)
        low = triple_of(part.pad for part in combined)
        dilation = triple_of(part.dilation for part in combined)
        high = triple_of(
            o - 1 + d * (k - 1) + 1 - size - p
            for o, d, k, size, p in zip(output, dilation, kernel, problem.output, low, strict=True)
        )
        forward = replace(
            problem,
            in_channels=problem.out_channels,
            out_channels=problem.in_channels,
            input=problem.output,
            kernel=kernel,
            output=output,
            stride=(1, 1, 1),
            dilation=dilation,
            pad_low=low,
            pad_high=high,
        )
        found.append(Part(forward, inputs, triple_of(taps)))
    return found


def swapped(w: Array, groups: int) -> Array:
    """Filters with inputs and outputs of each group in each other's place."""
    if groups == 1:
        return w.swapaxes(0, 1)
    rows = split(w, groups, 0).swapaxes(1, 2)
    return np.ascontiguousarray(rows).reshape(-1, *rows.shape[2:])
