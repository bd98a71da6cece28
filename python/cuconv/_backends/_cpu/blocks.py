"""A convolution's outputs in blocks, and the padded input under each block.

A block is a box of outputs of one image. Its *patch* is all the input that the box's windows reach
over, with the zeros of the padding, channels first (C, D, H, W) or channels last (D, H, W, C).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from cuconv._backends._geometry import at, tap_slices
from cuconv._backends._protocol import Array
from cuconv._problem import ConvProblem, Triple

Box = tuple[range, range, range]
T = TypeVar("T")


def accumulator(dtype: np.dtype) -> np.dtype:
    """What sums of a dtype are kept in: float32 for float16 and bfloat16, else the dtype."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def triple_of(values: Iterable[Any]) -> tuple[Any, Any, Any]:
    d, h, w = values
    return d, h, w


def spans(size: int, length: int) -> list[range]:
    return [range(i, min(i + length, size)) for i in range(0, size, length)]


def pieces(size: int, most: int) -> list[range]:
    """`size` cut in as few pieces of at most `most` as can be, all of nearly one length."""
    count = max(1, -(-size // max(1, most)))
    return spans(size, max(1, -(-size // count)))


def box_shape(output: Triple, positions: int) -> Triple:
    """The largest box of about so many outputs, whole rows and planes first."""
    z, p, q = (max(1, size) for size in output)
    q = min(q, positions)
    p = min(p, max(1, positions // q))
    return min(z, max(1, positions // (p * q))), p, q


def boxes(output: Triple, positions: int) -> Iterator[Box]:
    shape = box_shape(output, max(1, positions))
    z, p, q = (pieces(size, length) for size, length in zip(output, shape, strict=True))
    for d in z:
        for h in p:
            for w in q:
                yield d, h, w


def slices_of(box: Box) -> tuple[slice, slice, slice]:
    d, h, w = (slice(r.start, r.stop) for r in box)
    return d, h, w


def patch_shape(problem: ConvProblem, box: Box) -> Triple:
    d, h, w = (
        (len(r) - 1) * stride + dilation * (kernel - 1) + 1
        for r, stride, dilation, kernel in zip(
            box, problem.stride, problem.dilation, problem.kernel, strict=True
        )
    )
    return d, h, w


def patch_slices(problem: ConvProblem, box: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where in the input the patch comes from, and where in the patch that part lies."""
    sources, targets = [], []
    for axis, size in enumerate(patch_shape(problem, box)):
        start = box[axis].start * problem.stride[axis] - problem.pad_low[axis]
        first = min(max(start, 0), problem.input[axis])
        last = max(first, min(start + size, problem.input[axis]))
        sources.append(slice(first, last))
        targets.append(slice(first - start, last - start) if last > first else slice(0, 0))
    return tuple(sources), tuple(targets)


def is_whole(shape: Sequence[int], targets: Sequence[slice]) -> bool:
    return all(t.start == 0 and t.stop == size for t, size in zip(targets, shape, strict=True))


def patch_first(x: Array, problem: ConvProblem, box: Box, scratch: Scratch) -> Array:
    """Channels first; a view of x (..., C, D, H, W) where nothing is padded or converted."""
    shape = patch_shape(problem, box)
    sources, targets = patch_slices(problem, box)
    dtype = accumulator(x.dtype)
    source = x[at(sources)]
    if is_whole(shape, targets):
        return source.astype(dtype, copy=False)
    patch = scratch("patch", (*x.shape[:-3], *shape), dtype)
    patch.fill(0)
    patch[at(targets)] = source
    return patch


def patch_last(x: Array, problem: ConvProblem, box: Box, scratch: Scratch) -> Array:
    """Channels last and contiguous, of x (..., C, D, H, W); a view where x lies so already."""
    shape = patch_shape(problem, box)
    sources, targets = patch_slices(problem, box)
    dtype = accumulator(x.dtype)
    source = x[at(sources)]
    whole = is_whole(shape, targets)
    if x.shape[-4] > 1 and abs(x.strides[-4]) > abs(x.strides[-1]):
        # Channels lie apart, often by a power of two, which caches dislike: side by side first.
        compact = scratch("compact", source.shape, dtype)
        np.copyto(compact, source, casting="same_kind")
        source = compact
    source = np.moveaxis(source, -4, -1)
    if whole and source.flags.c_contiguous:
        return source.astype(dtype, copy=False)
    patch = scratch("patch", (*x.shape[:-4], *shape, x.shape[-4]), dtype)
    if not whole:
        patch.fill(0)
    np.moveaxis(patch, -1, -4)[at(targets)] = np.moveaxis(source, -1, -4)
    return patch


def by_tap(x: Array, problem: ConvProblem, box: Box, taps: Sequence[Triple], out: Array) -> None:
    """out[..., tap, positions of the box] = x under that tap, and zeros in the padding."""
    for i, tap in enumerate(taps):
        target = out[..., i, :, :, :]
        slices = tap_slices(problem, tap, box)
        if slices is None:
            target[...] = 0
            continue
        source, met = slices
        if any(s.start > 0 or s.stop < len(r) for s, r in zip(met, box, strict=True)):
            target[...] = 0
        target[at(met)] = x[at(source)]


def windows(patch: Array, problem: ConvProblem, box: Box, first_axis: int) -> Array:
    """A view of all windows of a patch whose spatial axes start at `first_axis`.

    Those three axes are replaced by six: the kernel's taps, then the positions in the box.
    """
    steps = patch.strides[first_axis : first_axis + 3]
    positions = tuple(len(r) for r in box)
    shape = (
        *patch.shape[:first_axis],
        *problem.kernel,
        *positions,
        *patch.shape[first_axis + 3 :],
    )
    strides = (
        *patch.strides[:first_axis],
        *spread(steps, problem.dilation, problem.kernel),
        *spread(steps, problem.stride, positions),
        *patch.strides[first_axis + 3 :],
    )
    return np.lib.stride_tricks.as_strided(patch, shape, strides)


def spread(steps: Sequence[int], by: Sequence[int], counts: Sequence[int]) -> tuple[int, ...]:
    """Strides that skip elements; none where only one is taken, because `by` may be huge there."""
    axes = zip(steps, by, counts, strict=True)
    return tuple(step * factor if count > 1 else 0 for step, factor, count in axes)


def split(array: Array, groups: int, axis: int) -> Array:
    """A view with the channel axis split in (groups, channels of a group), whatever its strides."""
    size = array.shape[axis] // groups
    shape = (*array.shape[:axis], groups, size, *array.shape[axis + 1 :])
    step = array.strides[axis]
    strides = (*array.strides[:axis], size * step, *array.strides[axis:])
    return np.lib.stride_tricks.as_strided(array, shape, strides)


PAGE = 4096


class Scratch:
    """Buffers that the tasks of one thread use one after the other, so that pages stay mapped.

    They begin in the middle of a page. Large arrays of NumPy's begin 16 bytes into one, and where
    source and target lie a few bytes apart modulo a page some processors copy ten times slower.
    """

    def __init__(self) -> None:
        self.local = threading.local()

    def __call__(self, name: str, shape: Sequence[int], dtype: Any) -> Array:
        """Uninitialised; the last array of this name, in this thread, is overwritten."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        buffers = self.local.__dict__
        if name not in buffers or buffers[name].nbytes < size:
            memory = np.empty(size + PAGE, np.uint8)
            start = (PAGE // 2 - memory.__array_interface__["data"][0]) % PAGE
            buffers[name] = memory[start : start + size]
        return buffers[name][:size].view(dtype).reshape(shape)

    def kept(self, key: object, make: Callable[[], T]) -> T:
        """What `make` made of this thread's buffers when the key was new: views to be used again.

        Buffers are to be asked for in their largest shape first, else old views keep old memory."""
        found: dict[object, T] = self.local.__dict__.setdefault("kept", {})
        if key not in found:
            found[key] = make()
        return found[key]
