"""Arrays as kernels see them: an address, and strides counted in elements."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np

from cuconv._backends._protocol import Array


def element_strides(array: Array) -> tuple[int, ...]:
    """Strides in elements; of axes that nobody steps along, which may have absurd ones, zero."""
    return tuple(
        step // array.itemsize if size > 1 else 0
        for step, size in zip(array.strides, array.shape, strict=True)
    )


class Operands(Protocol):
    """The arrays of one launch, or of a few that share them. Used in a `with` block.

    `input`, `output` and `inout` give the device address of element [0, 0, ...], or 0 for an array
    without elements; `workspace` that of uninitialised memory which lives as long as the launches.
    """

    stream: int

    def input(self, array: Array, name: str) -> int: ...

    def output(self, array: Array, name: str) -> int: ...

    def inout(self, array: Array, name: str) -> int: ...

    def workspace(self, nbytes: int) -> int: ...

    def __enter__(self) -> Operands: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class EmulatedOperands:
    """Copies into the emulated device's memory; results come back when the block ends well."""

    stream = 0

    def __init__(self, emulation: Any) -> None:
        self._emulation = emulation
        self._results: list[tuple[int, Array, str]] = []

    def _place(self, place: Any, array: np.ndarray, name: str) -> int:
        if array.size == 0:
            return 0
        strides = [s * array.itemsize for s in element_strides(array)]
        address = array.__array_interface__["data"][0]
        return int(place(address, array.shape, strides, array.itemsize, name))

    def input(self, array: Array, name: str) -> int:
        return self._place(self._emulation.place_input, array, name)

    def output(self, array: Array, name: str) -> int:
        return self._result(self._emulation.place_output, array, name)

    def inout(self, array: Array, name: str) -> int:
        return self._result(self._emulation.place_inout, array, name)

    def _result(self, place: Any, array: Array, name: str) -> int:
        address = self._place(place, array, name)
        if array.size:
            self._results.append((address, array, name))
        return address

    def workspace(self, nbytes: int) -> int:
        return int(self._emulation.workspace(nbytes)) if nbytes else 0

    def __enter__(self) -> EmulatedOperands:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for address, array, name in self._results:
                    host = array.__array_interface__["data"][0]
                    strides = [s * array.itemsize for s in element_strides(array)]
                    self._emulation.collect(
                        address, host, array.shape, strides, array.itemsize, name
                    )
        finally:
            self._emulation.reset()


class CudaOperands:
    """CuPy arrays where they are, on CuPy's current stream.

    Workspace goes back to CuPy's pool when the block ends: the pool hands it to later work of the
    same stream only, which runs after these launches.
    """

    def __init__(self, cupy: Any, device_id: int) -> None:
        self._cupy = cupy
        self._device = cupy.cuda.Device(device_id)
        self._held: list[Any] = []
        self.stream = 0

    def input(self, array: Array, name: str) -> int:
        return int(array.data.ptr)

    output = inout = input

    def workspace(self, nbytes: int) -> int:
        if not nbytes:
            return 0
        memory = self._cupy.cuda.alloc(nbytes)
        self._held.append(memory)
        return int(memory.ptr)

    def __enter__(self) -> CudaOperands:
        self._device.__enter__()
        self.stream = int(self._cupy.cuda.get_current_stream().ptr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.clear()
        self._device.__exit__(kind, error, trace)
