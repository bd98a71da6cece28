"""CuPy arrays through the CUDA kernels: on the arrays' device and CuPy's current stream."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from cuconv._backends._kernels import KernelBackend
from cuconv._backends._operands import CudaOperands
from cuconv._backends._protocol import Array
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

    def _operands(self) -> CudaOperands:
        import cupy

        return CudaOperands(cupy, self.device_id)
