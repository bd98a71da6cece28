"""The caller's arrays: their kind, dtype and device; the array a result goes into."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuconv import _arguments as arguments
from cuconv._backends import backend_for, is_cupy
from cuconv._backends._protocol import Array, Backend


def adopt(name: str, value: Any) -> Array:
    """A NumPy or CuPy array as it is, anything else that speaks DLPack without a copy."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be ignored: fill it first")
    if is_cupy(value):
        return value
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)  # subclasses give their operators other meanings
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return from_dlpack(name, value)
    raise TypeError(f"{name} must be a NumPy or CuPy array, got {arguments.show(value)}")


def from_dlpack(name: str, value: Any) -> Array:
    on_host = int(value.__dlpack_device__()[0]) == 1  # kDLCPU
    try:
        if on_host:
            return np.from_dlpack(value)
        import cupy

        return cupy.from_dlpack(value)
    except ImportError:
        raise TypeError(
            f"{name} is on a GPU, and CuPy is needed to take it: install cuconv[cuda13]"
        ) from None
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} does not come in through DLPack: {error}") from None


def on_device(backend: Backend) -> AbstractContextManager[Any]:
    """CuPy's own operations, copies among them, run on the current device: make it the arrays'."""
    if backend.device == "cpu":
        return nullcontext()
    import cupy

    return cupy.cuda.Device(backend.device_id)  # type: ignore[attr-defined]


def readable(array: Array) -> Array:
    """The array, or a copy where its elements are not at addresses kernels can read."""
    whole = all(step % array.itemsize == 0 for step in array.strides)
    # NumPy asks of a complex number the alignment of its parts alone.
    return array if whole and address(array) % array.itemsize == 0 else array.copy()


@dataclass(frozen=True, slots=True)
class Operands:
    """Inputs that agree in kind, device and dtype, and the backend that computes with them."""

    backend: Backend
    dtype: np.dtype
    arrays: tuple[Array, ...]

    def result(self, shape: tuple[int, ...], out: Any, in_place: bool = False) -> Result:
        return Result.of(self, shape, self.dtype, out, in_place)


def operands(
    *named: tuple[str, Any],
    out: Any = None,
    dtypes: tuple[np.dtype, ...] = arguments.DTYPES,
) -> Operands:
    """Adopts the arrays of a call and holds them against each other."""
    adopted = [(name, adopt(name, value)) for name, value in named]
    first_name, first = adopted[0]
    dtype = arguments.dtype(f"{first_name}.dtype", first.dtype, dtypes)
    for name, array in adopted[1:]:
        if array.dtype != dtype:
            arguments.dtype(f"{name}.dtype", array.dtype, dtypes)
            raise TypeError(
                f"{name} is {array.dtype}, but {first_name} is {dtype}: convert one of them"
            )
    placed = list(adopted)
    if out is not None:
        placed.append(("out", check_out_kind(out)))
    backend = backend_for(placed)
    with on_device(backend):
        return Operands(backend, dtype, tuple(readable(array) for _, array in adopted))


def check_out_kind(out: Any) -> Array:
    if isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray):
        return out
    if is_cupy(out):
        return out
    raise TypeError(f"out must be a NumPy or CuPy array, got {arguments.show(out)}")


def may_share_memory(a: Array, b: Array) -> bool:
    if is_cupy(a):
        import cupy

        return bool(cupy.may_share_memory(a, b))
    return bool(np.may_share_memory(a, b))


def same_elements(a: Array, b: Array) -> bool:
    """Whether two arrays of one shape and dtype are the same memory, element by element."""
    return address(a) == address(b) and a.strides == b.strides


def address(array: Array) -> int:
    return array.data.ptr if is_cupy(array) else array.__array_interface__["data"][0]


def overlaps_itself(array: Array) -> bool:
    """Whether two elements might share memory (a broadcast view does)."""
    reach = array.itemsize
    for step, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1:
            if step < reach:
                return True
            reach += step * (size - 1)
    return False


@dataclass(frozen=True, slots=True)
class Result:
    """Where a result goes: `array` is computed into, `finish` gives the caller what he asked for.

    They differ where `out` overlaps an input, or lies at addresses kernels cannot write.
    """

    backend: Backend
    array: Array
    out: Array | None

    @staticmethod
    def of(
        inputs: Operands, shape: tuple[int, ...], dtype: np.dtype, out: Any, in_place: bool
    ) -> Result:
        if out is None:
            return Result(inputs.backend, inputs.backend.empty(shape, dtype), None)
        if out.shape != shape:
            raise ValueError(f"out has shape {out.shape}, but the result has {shape}")
        if out.dtype != dtype:
            raise ValueError(f"out is {out.dtype}, but the result is {dtype}")
        if not is_cupy(out) and not out.flags.writeable:
            raise ValueError("out is read-only")
        if out.size and overlaps_itself(out):
            raise ValueError(f"out has elements that share memory: strides {out.strides}")
        direct = readable(out) is out
        for array in inputs.arrays:
            if in_place and same_elements(array, out):
                continue
            direct = direct and not may_share_memory(array, out)
        array = out if direct else inputs.backend.empty(shape, dtype)
        return Result(inputs.backend, array, out)

    def finish(self, compute: Callable[[Array], None]) -> Array:
        """Computes into `array` and returns the result."""
        compute(self.array)
        if self.out is None or self.out is self.array:
            return self.array
        with on_device(self.backend):
            self.out[...] = self.array
        return self.out
