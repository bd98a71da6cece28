"""Whether a result is right, before it is timed: held against float64.

A convolution in float64 of a whole layer would take minutes. Instead

1. some elements of the result (corners and random ones; all of a small one) are computed one by one
   from the definition, which also gives the error that a record holds;
2. every element takes part in a check by projection (R. Freivalds, Probabilistic machines can use
   less running time, 1977). A convolution is linear in the input and in the filters, so sums of
   images and of filters with random signs are a convolution, too: of one image and of one filter a
   group, which the oracle computes in float64. The same sums of the result must equal it.

Pools, activations and Inception are compared element by element with the oracle, in float64, on the
first and the last image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import cuconv
from cuconv._bench.cases import Case, channels_first
from cuconv._bench.layers import Layer
from cuconv._bench.sides import Buffers

MOST_ELEMENTS, FEWEST_ELEMENTS = 1024, 48
MOST_PRODUCTS = 20_000_000  # that all elements computed one by one may take
LARGEST = 8.0  # error of an element that is allowed, by what errors come to on the average
# Of sums with random signs: by Hoeffding's inequality one that is right exceeds this multiple of
# its root mean square bound once in 10^13 times. (Signs of images times signs of channels are not
# all independent; with several images it is the roundings that must be so from image to image.)
SIGNS = 8.0
PEERS_ROOM = 4.0  # a peer may round more often than cuconv promises to


class WrongResult(Exception):
    """A result is too far from the one in float64."""


def allowed_error(case: Case, peer: bool = False) -> float:
    """Of one element, by the root mean square of the result: eight times what the roundings of
    operands, sums and result come to on random data.

    The bound of docs/bounds.md grows with the length of the sum and would let wrong results pass
    where that is in the millions. Tensor cores cut sums off where other units round, so their
    errors add up; split sums are short ones.
    """
    unit = 2.0**-52 if case.kind == "float64" else 2.0**-23
    stored = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "tf32": 2.0**-10}.get(case.kind, 4 * unit)
    terms = case.terms
    in_full = case.kind in ("float32", "float64")
    steps = 4 * math.sqrt(terms) if in_full else min(terms, 1 << 16) / 4 + 4
    if case.module:
        stored, steps = 4 * stored, 4 * math.sqrt(1024)
    once = stored + steps * unit
    return LARGEST * (max(PEERS_ROOM * once, stored * added_up(case)) if peer else once)


def added_up(case: Case) -> float:
    """What the roundings of a peer come to that adds up in the 16 bits it stores, by that of one.

    PyTorch does where a CPU has no units for them: input gradients tap by tap, weight gradients
    image by image. The sum of s is rounded s times; its size grows with the root of how much of it
    is there, so the squares of these roundings come to s / 2 that of the whole.
    """
    if case.dtype.itemsize != 2 or case.of != "conv":
        return 1.0
    of = case.convolution
    sums = {"forward": 0, "input_grad": of.r * of.s, "weight_grad": of.n}[case.direction]
    return math.sqrt(1 + sums / 2)


@dataclass
class Check:
    """What a case's results must be, made once for all its sides."""

    case: Case
    how: str
    # Of a result and the error allowed of an element: largest and rms error, what is wrong.
    verify: Callable[[Any, float], tuple[float, float, str]]

    def errors(self, result: Any, peer: bool) -> dict[str, float]:
        """Of a channels-first result, relative to the root mean square of the result."""
        allowed = allowed_error(self.case, peer)
        largest, rms, wrong = self.verify(result, allowed)
        if wrong or not largest <= allowed:
            found = wrong or f"off by {largest:.2g} of the results' root mean square"
            raise WrongResult(f"{found}, beside {self.how}; at most {allowed:.1e} is taken")
        return {"largest": largest, "rms": rms}


def make_check(buffers: Buffers) -> Check:
    """Of the first set of buffers."""
    if buffers.case.of == "conv":
        return conv_check(buffers)
    return image_check(buffers)


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


# ---- convolutions ----


def conv_check(buffers: Buffers) -> Check:
    case, device = buffers.case, buffers.device
    a, b = (
        channels_first(device.to_host(x[0]), case.layout) for x in (buffers.first, buffers.second)
    )
    indices = sample(case)
    exact = np.array([element(case, a, b, tuple(index)) for index in indices])
    projection = Projection(case, a, b)
    scale = max(float(np.sqrt(np.mean(exact**2))), projection.rms(), 1e-300)
    places = tuple(device.xp.asarray(axis) for axis in indices.T)

    def verify(result: Any, allowed: float) -> tuple[float, float, str]:
        if tuple(result.shape) != case.shapes[2]:
            return math.nan, math.nan, f"its shape is {tuple(result.shape)}, not {case.shapes[2]}"
        got = wide(device.to_host(result[places]))
        off = np.abs(got - exact) / scale
        fault = projection.fault(result, allowed / LARGEST * scale)
        return float(off.max()), float(np.sqrt(np.mean(off**2))), fault

    whole = len(indices) == math.prod(case.shapes[2])
    count = "all" if whole else str(len(indices))
    return Check(case, f"{count} elements in float64 and a projection of all", verify)


def sample(case: Case) -> np.ndarray:
    """Indices (count, 4) of elements of the result: the two far corners, and random ones."""
    shape = case.shapes[2]
    size = math.prod(shape)
    count = max(FEWEST_ELEMENTS, min(MOST_ELEMENTS, MOST_PRODUCTS // case.terms))
    if size <= count:
        flat = np.arange(size)
    else:
        rng = np.random.default_rng(1)
        flat = np.unique([0, size - 1, *rng.integers(0, size, count - 2)])
    return np.stack(np.unravel_index(flat, shape), axis=1)


def inside(of: Layer, axis: int, output: int) -> tuple[slice, slice]:
    """The taps that meet the image at an output position, and where they meet it."""
    size, taps = [(of.h, of.r), (of.w, of.s)][axis]
    spread = of.dilation[axis]
    start = output * of.stride[axis] - of.padding[axis]
    first = max(0, -(start // spread)) if start < 0 else 0
    last = min(taps - 1, (size - 1 - start) // spread)
    if last < first:
        return slice(0, 0), slice(0, 0)
    low, high = start + first * spread, start + last * spread
    return slice(first, last + 1), slice(low, high + 1, spread)


def sources(of: Layer, axis: int, position: int) -> tuple[list[int], list[int]]:
    """The taps that reach an input position, and from which output position each does."""
    taps, outputs = (of.r, of.s)[axis], of.output[axis]
    found = []
    for tap in range(taps):
        reach = position + of.padding[axis] - tap * of.dilation[axis]
        if reach >= 0 and reach % of.stride[axis] == 0 and reach // of.stride[axis] < outputs:
            found.append((tap, reach // of.stride[axis]))
    return [tap for tap, _ in found], [output for _, output in found]


def element(case: Case, a: np.ndarray, b: np.ndarray, index: tuple[int, ...]) -> float:
    """One element of the result by the definition; operands as in `Case.shapes`."""
    of = case.convolution
    c, k = of.c // of.groups, of.k // of.groups
    if case.direction == "forward":
        n, f, p, q = index
        (taps_r, rows), (taps_s, columns) = inside(of, 0, p), inside(of, 1, q)
        first = f // k * c
        x, w = a[n, first : first + c, rows, columns], b[f, :, taps_r, taps_s]
        return float(np.sum(wide(x) * wide(w)))
    if case.direction == "input_grad":
        n, channel, i, j = index
        (some_r, ps), (some_s, qs) = sources(of, 0, i), sources(of, 1, j)
        first = channel // c * k
        g = a[n, first : first + k][:, ps][:, :, qs]
        w = b[first : first + k, channel % c][:, some_r][:, :, some_s]
        return float(np.sum(wide(g) * wide(w)))
    f, channel, r, s = index
    (outputs_p, rows), (outputs_q, columns) = outputs_of(of, 0, r), outputs_of(of, 1, s)
    g, x = a[:, f, outputs_p, outputs_q], b[:, f // k * c + channel, rows, columns]
    return float(np.sum(wide(g) * wide(x)))


def outputs_of(of: Layer, axis: int, tap: int) -> tuple[slice, slice]:
    """The output positions where a tap meets the image, and where it meets it."""
    size, outputs, step = (of.h, of.w)[axis], of.output[axis], of.stride[axis]
    start = tap * of.dilation[axis] - of.padding[axis]
    first = -(start // step) if start < 0 else 0
    last = min(outputs - 1, (size - 1 - start) // step)
    if last < first:
        return slice(0, 0), slice(0, 0)
    return slice(first, last + 1), slice(start + first * step, start + last * step + 1, step)


class Projection:
    """Sums of a result over images and channels with random signs, and what they must be."""

    def __init__(self, case: Case, a: np.ndarray, b: np.ndarray) -> None:
        self.case = case
        of, (n, rows, *_) = case.convolution, case.shapes[2]
        rng = np.random.default_rng(2)
        self.over_n = rng.choice([-1.0, 1.0], n)  # of the weight gradient: over filters
        self.over_c = rng.choice([-1.0, 1.0], rows)  # of the weight gradient: channels of a group
        groups = of.groups
        shape = case.options
        with cuconv.use_backend("reference"):
            if case.direction == "forward":
                x = signed(a, self.over_n)[None]
                w = grouped(b, self.over_c, groups)
                self.want = cuconv.conv2d(x, w, **shape)[0]
            elif case.direction == "input_grad":
                g = signed(a, self.over_n)[None]
                per_group = self.over_c.reshape(groups, -1)
                w = np.stack(
                    [
                        np.einsum("kcrs,c->krs", wide(part), signs)
                        for part, signs in zip(np.split(b, groups), per_group, strict=True)
                    ]
                ).reshape(of.k, 1, of.r, of.s)
                image = (1, groups, of.h, of.w)
                self.want = cuconv.conv2d_input_grad(g, w, image, **shape)[0]
            else:
                g = by_group(a, self.over_n, groups)
                x = by_group(b, np.tile(self.over_c, groups), groups)
                filters = (groups, 1, of.r, of.s)
                self.want = cuconv.conv2d_weight_grad(g, x, filters, **shape)[:, 0]

    def rms(self) -> float:
        """Of the whole result, about: random signs add up as independent numbers do."""
        return float(np.sqrt(np.mean(self.want**2) / self.summed))

    @property
    def summed(self) -> float:
        """How many elements each sum has."""
        return len(self.over_n) * len(self.over_c) / self.case.convolution.groups

    def of_result(self, result: Any) -> np.ndarray:
        """(groups, ...): one image at a time, for sums in float64 take eight bytes an element."""
        groups = self.case.convolution.groups
        if self.case.direction == "weight_grad":
            parts = np.split(np.arange(result.shape[0]), groups)
            return np.stack(
                [
                    sum(
                        self.over_n[f] * np.tensordot(self.over_c, part_of(result, f), 1)
                        for f in part
                    )
                    for part in parts
                ]
            )
        total: Any = 0
        for n, sign in enumerate(self.over_n):
            image = part_of(result, n)
            split = image.reshape(groups, -1, *image.shape[1:])
            signs = self.over_c.reshape(groups, -1)
            total = total + sign * np.einsum("gchw,gc->ghw", split, signs)
        return np.asarray(total)

    def fault(self, result: Any, rms: float) -> str:
        """What is wrong, if something is; `rms` is what errors may come to on the average."""
        got = self.of_result(result)
        off = np.abs(got - self.want)
        most = rms * SIGNS * math.sqrt(self.summed)
        if np.all(off <= most):  # NaN is not
            return ""
        index = tuple(int(i) for i in np.argwhere(~(off <= most))[0])
        return (
            f"a sum of results with random signs is off by {off[index]:.2g} at {index} "
            f"({most:.2g} is allowed): some elements are wrong"
        )


def part_of(result: Any, index: int) -> np.ndarray:
    part = result[index]
    return wide(part.get() if hasattr(part, "get") else np.asarray(part))


def signed(array: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    total = np.zeros(array.shape[1:])
    for part, sign in zip(array, signs, strict=True):
        total += sign * wide(part)
    return total


def grouped(w: np.ndarray, signs: np.ndarray, groups: int) -> np.ndarray:
    """One filter a group."""
    rows = zip(np.split(w, groups), np.split(signs, groups), strict=True)
    return np.stack([signed(part, some) for part, some in rows])


def by_group(array: np.ndarray, signs: np.ndarray, groups: int) -> np.ndarray:
    """(N, groups, H, W) of (N, C, H, W)."""
    n, _, h, w = array.shape
    total = np.zeros((n, groups, h, w))
    for i, image in enumerate(array):
        split = wide(image).reshape(groups, -1, h, w)
        total[i] = np.einsum("gchw,gc->ghw", split, signs.reshape(groups, -1))
    return total


# ---- everything else ----


def image_check(buffers: Buffers) -> Check:
    """The oracle on the first and the last image."""
    case, device = buffers.case, buffers.device
    n = case.x_shape[0]
    picks = sorted({0, n - 1})
    x = wide(channels_first(device.to_host(buffers.first[0]), case.layout)[picks])
    with cuconv.use_backend("reference"):
        if case.module:
            arrays = (device.to_host(array) for array in buffers.weights)
            weights = (wide(channels_first(array, case.layout)) for array in arrays)
            exact = cuconv.Inception(cuconv.InceptionWeights(*weights))(x)
        else:
            exact = getattr(cuconv, case.of)(x, *case.window)
    scale = max(float(np.sqrt(np.mean(exact**2))), 1e-300)

    def verify(result: Any, allowed: float) -> tuple[float, float, str]:
        if tuple(result.shape) != case.y_shape:
            return math.nan, math.nan, f"its shape is {tuple(result.shape)}, not {case.y_shape}"
        got = wide(device.to_host(result)[picks])
        off = np.abs(got - exact) / scale
        return float(off.max()), float(np.sqrt(np.mean(off**2))), ""

    return Check(case, "the oracle in float64, first and last image", verify)
