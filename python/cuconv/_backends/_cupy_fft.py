"""Convolution of whole planes by cuFFT, as CuPy offers it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cuconv._backends import _full_plane
from cuconv._backends._full_plane import FullPlane, Library
from cuconv._backends._protocol import Array, ConvOptions, Direction
from cuconv._problem import ConvCall, ConvProblem
from cuconv.errors import UnsupportedError


def planned(
    array: Array, shape: tuple[int, ...], axes: tuple[int, ...], kind: str
) -> AbstractContextManager[Any]:
    """A cuFFT plan, whose work area is of CuPy's pool and goes back with it: CuPy keeps those that
    it makes by itself in a cache, but not this one."""
    from cupyx.scipy.fft import get_fft_plan

    plan: AbstractContextManager[Any]
    plan = get_fft_plan(array, shape=shape, axes=axes, value_type=kind)
    return plan


class CupyFullPlane:
    """A convolution with everything decided but the cuFFT plans: see `ConvExecutor`."""

    algo = "fft"
    variant = _full_plane.NAME

    def __init__(
        self, device_id: int, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> None:
        import cupy
        import cupyx.scipy.fft

        plan = _full_plane.plan_of(direction, problem, options.workspace_limit)
        library = Library(cupy, cupyx.scipy.fft, planned)
        self.workspace_bytes = plan.workspace
        self._cuda, self._device_id = cupy.cuda, device_id
        self._planes = FullPlane(library, direction, problem, options, plan)

    def __call__(self, a: Array, b: Array, bias: Array | None, out: Array) -> None:
        with self._cuda.Device(self._device_id):
            if self._cuda.get_current_stream().is_capturing():
                raise UnsupportedError(
                    f"{self.variant} makes cuFFT plans as it runs, which cannot be captured in a "
                    'CUDA graph: take another family than algo="fft", or another variant'
                )
            self._planes.compute(a, b, bias, out)

    def quick(self, call: ConvCall) -> Callable[..., Array | None] | None:
        return None
