"""CuPy arrays through the CUDA kernels: on the arrays' device and CuPy's current stream."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from cuconv._backends import _full_plane
from cuconv._backends._cupy_fft import CupyFullPlane
from cuconv._backends._kernels import KernelBackend
from cuconv._backends._kernels_conv import STATUS, KernelConv, QuickCall
from cuconv._backends._operands import CudaOperands
from cuconv._backends._protocol import Array, Candidate, ConvExecutor, ConvOptions, Direction
from cuconv._backends._rules import gpu_estimate, gpu_rates
from cuconv._problem import ConvCall, ConvProblem
from cuconv.errors import CudaUnavailableError


@lru_cache(maxsize=1)
def module() -> Any:
    """The extension module, or None where it was not built. Importing it needs no driver."""
    try:
        return importlib.import_module("cuconv._C")
    except ModuleNotFoundError:
        return None


def missing() -> str:
    """What keeps CuPy arrays from being computed with; empty if nothing does."""
    if module() is None:
        return (
            "the CUDA kernels were not built: install cuconv with -C cmake.define.CUCONV_CUDA=ON, "
            "and CuPy with the extra cuda13 or cuda12"
        )
    if module().driver_version() == 0:
        return "there is no NVIDIA driver on this machine"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is needed, which the extras cuda13 and cuda12 install ({error})"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA reports no GPU: {error}"
    return "" if count else "CUDA reports no GPU"


def is_available() -> bool:
    return not missing()


MOST_STRIDES = 64  # of arrays that a convolution remembers


class CudaBackend(KernelBackend):
    name = "cuda"
    device: Literal["cpu", "cuda"] = "cuda"

    def __init__(self, device_id: int = 0, variant: str | None = None) -> None:
        if what := missing():
            raise CudaUnavailableError(what)
        super().__init__(module(), variant)
        self.device_id = device_id

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        import cupy

        with cupy.cuda.Device(self.device_id):
            return cupy.empty(shape, dtype)

    def _best(
        self, family: str, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> Candidate:
        """Of the fft family also whole planes by cuFFT, where asked for by name."""
        best = super()._best(family, direction, problem, options)
        if family != "fft" or self.forced_variant not in (None, _full_plane.NAME):
            return best
        found = self._full_plane(direction, problem, options)
        if self.forced_variant is not None:
            return found
        if not (best.supported or found.supported):
            return replace(best, reason=f"{best.reason}; {found.reason}")
        by_name = options.algo in ("fft", "autotune")
        if best.supported and not (by_name and found.cost < best.cost):
            return best
        return found

    def _full_plane(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> Candidate:
        name = _full_plane.NAME
        plan = _full_plane.plan_of(direction, problem, options.workspace_limit)
        if plan.refusal:
            return Candidate("fft", False, f"{name}: {plan.refusal}", 0, math.inf, name, STATUS)
        rates = gpu_rates(self._module.compute_capability())
        found = gpu_estimate(plan.counted, problem, options.precision, rates)
        held_back = "when asked for by name: it makes cuFFT plans, which no CUDA graph captures"
        return Candidate(
            "fft", True, "", plan.workspace, found.seconds, name, STATUS, found.parts, held_back
        )

    def conv(
        self, direction: Direction, problem: ConvProblem, options: ConvOptions
    ) -> ConvExecutor:
        if self._decide_once(direction, problem, options).variant == _full_plane.NAME:
            return CupyFullPlane(self.device_id, direction, problem, options)
        return super().conv(direction, problem, options)

    def _quick(self, conv: KernelConv, call: ConvCall) -> QuickCall:
        """Kernels get addresses alone: all else about arrays of the same strides is known."""
        import cupy

        current_device = cupy.cuda.runtime.getDevice
        current_stream = cupy.cuda.get_current_stream
        alloc, empty = cupy.cuda.alloc, cupy.empty
        shape, dtype = call.shapes(conv.direction)[2], conv.problem.dtype
        needed, device_id = conv.workspace_bytes, self.device_id
        known: dict[Any, Any] = {}

        def bind(a: Array, b: Array, bias: Array | None, result: Array) -> Any:
            """The call, and how far the first tap of a flipped filter lies from its address."""
            views = call.views(conv.direction, a, b, result)
            apart = [v.data.ptr - m.data.ptr for v, m in zip(views, (a, b, result), strict=True)]
            return conv.bound(*views, bias).run, *apart[1:]

        def quick(a: Array, b: Array, bias: Array | None) -> Array | None:
            at_a, at_b, at_bias = a.data, b.data, None if bias is None else bias.data
            if (
                current_device() != device_id
                or at_a.device_id != device_id
                or at_b.device_id != device_id
                or (at_bias is not None and at_bias.device_id != device_id)
            ):
                return None
            if (at_a.ptr | at_b.ptr | (0 if at_bias is None else at_bias.ptr)) % dtype.itemsize:
                return None
            key = (a.strides, b.strides, None if bias is None else bias.strides)
            result = empty(shape, dtype)
            found = known.get(key)
            if found is None:
                arrays = (a, b) if bias is None else (a, b, bias)
                if any(step % dtype.itemsize for array in arrays for step in array.strides):
                    return None
                if len(known) >= MOST_STRIDES:
                    known.clear()
                found = known[key] = bind(a, b, bias, result)
            run, b_apart, result_apart = found
            workspace = alloc(needed) if needed else None
            run(
                at_a.ptr,
                at_b.ptr + b_apart,
                0 if at_bias is None else at_bias.ptr,
                result.data.ptr + result_apart,
                0 if workspace is None else workspace.ptr,
                current_stream().ptr,
            )
            return result

        return quick

    def _operands(self) -> CudaOperands:
        import cupy

        return CudaOperands(cupy, self.device_id)
