"""CuPy arrays through the CUDA kernels: on the arrays' device and CuPy's current stream."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from cuconv._backends._kernels import KernelBackend
from cuconv._backends._kernels_conv import KernelConv, QuickCall
from cuconv._backends._operands import CudaOperands
from cuconv._backends._protocol import Array
from cuconv._problem import ConvCall
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
