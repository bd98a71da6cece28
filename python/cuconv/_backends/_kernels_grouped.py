"""Convolutions that do not depend on each other by compiled kernels: one launch for several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cuconv._backends._composed import Composed
from cuconv._backends._kernels_conv import filter_strides, image_strides
from cuconv._backends._kernels_conv import sizes_of as conv_sizes
from cuconv._backends._kernels_pool import pointer
from cuconv._backends._operands import Operands, element_strides
from cuconv._backends._protocol import ConvPart

MOST = 4  # convolutions a launch

NO_WINDOW = (1, 1, 1)


def sizes_of(part: ConvPart) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(sizes of a convolution that reads x itself, the window whose maxima it reads)."""
    sizes = conv_sizes(part.problem)
    if part.pool is None:
        return sizes, NO_WINDOW
    pool = part.pool
    shape, kernel, output = sizes[:4], sizes[7:10], sizes[10:13]
    steps = (*pool.stride, *pool.pad_low, *part.problem.dilation)
    return (*shape, *pool.input, *kernel, *output, *steps), pool.window


def launches(parts: Sequence[ConvPart]) -> list[Sequence[ConvPart]]:
    """The parts of each launch."""
    return [parts[i : i + MOST] for i in range(0, len(parts), MOST)]


class GroupedKernels(Composed):
    """The part of `KernelBackend` that is convolutions in one launch."""

    _module: Any
    _operands: Callable[[], Operands]
    forced_variant: str | None

    def conv_together(self, parts: Sequence[ConvPart]) -> None:
        for some in launches(parts):
            if self.forced_variant is None and not self._refusal(some):
                self._run_together(some)
            else:
                super().conv_together(some)

    def _refusal(self, parts: Sequence[ConvPart]) -> str:
        if any(part.pool is not None and part.pool.dilation != NO_WINDOW for part in parts):
            return "maxima are of windows without dilation"
        with self._operands():  # a device can have its say
            sizes = [sizes_of(part) for part in parts]
            return str(self._module.conv_grouped_refusal(parts[0].problem.dtype.name, sizes))

    def _run_together(self, parts: Sequence[ConvPart]) -> None:
        with self._operands() as place:
            placed: dict[tuple[Any, ...], int] = {}  # inputs that several parts share

            def address(array: Any, name: str) -> int:
                key = (pointer(array), array.shape, array.strides)
                if key not in placed:
                    placed[key] = place.input(array, name)
                return placed[key]

            calls = []
            for part in parts:
                c = part.problem.in_channels // part.problem.groups
                k = part.problem.out_channels // part.problem.groups
                arrays = (
                    image_strides(part.x, c),
                    filter_strides(part.w, k),
                    image_strides(part.y, k),
                    part.options.activation or "",
                    address(part.x, "x"),
                    address(part.w, "w"),
                    0 if part.bias is None else address(part.bias, "bias"),
                    place.output(part.y, "y"),
                    0 if part.bias is None else element_strides(part.bias)[0],
                )
                calls.append((sizes_of(part), arrays))
            self._module.conv_grouped_run(parts[0].problem.dtype.name, calls, place.stream)
