"""Which backend computes: by the kind of array, and for NumPy arrays by the user's choice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cuconv._arguments import show
from cuconv._backends._protocol import Array, Backend
from cuconv._backends.numpy_backend import NumpyBackend
from cuconv._backends.reference import ReferenceBackend

NAMES = ("numpy", "reference", "emulated", "cuda")
VARIABLE = "CUCONV_BACKEND"


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend by name, with its options."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()


_chosen: ContextVar[Choice | None] = ContextVar("cuconv_backend", default=None)


def is_cupy(array: object) -> bool:
    cupy = sys.modules.get("cupy")  # whoever has a CuPy array has imported it
    return cupy is not None and isinstance(array, cupy.ndarray)


@lru_cache(maxsize=64)
def build(choice: Choice, device_id: int = 0) -> Backend:
    """Raises what building an unavailable backend raises."""
    options = dict(choice.options)
    if choice.name in ("numpy", "reference"):
        if options:
            raise TypeError(f"the {choice.name} backend has no option {next(iter(options))!r}")
        kind: Any = NumpyBackend if choice.name == "numpy" else ReferenceBackend
        return kind()
    if choice.name == "emulated":
        from cuconv._backends.emulated import EmulatedBackend

        kind = EmulatedBackend
    else:
        from cuconv._backends.cuda import CudaBackend

        kind = CudaBackend
        options["device_id"] = device_id
    try:
        return kind(**options)
    except TypeError as error:
        raise TypeError(f"the {choice.name} backend: {error}") from None


def read_choice(source: str, name: Any, options: dict[str, Any]) -> Choice:
    if not isinstance(name, str):
        raise TypeError(f"{source} must be one of {', '.join(NAMES)}, got {show(name)}")
    if name not in NAMES:
        raise ValueError(f"{source} must be one of {', '.join(NAMES)}, got {name!r}")
    return Choice(name, tuple(sorted(options.items())))


@lru_cache(maxsize=8)
def choice_of_environment(value: str) -> Choice:
    """`numpy`, or with a flavour `emulated:race`."""
    name, _, flavour = value.partition(":")
    if flavour and name != "emulated":
        raise ValueError(f"{VARIABLE}={value}: only emulated takes a flavour")
    return read_choice(f"{VARIABLE}={value}: it", name, {"flavour": flavour} if flavour else {})


def chosen_here() -> tuple[Choice | None, str | None]:
    """All that decides about the backend for NumPy arrays, to be compared with what it was."""
    return _chosen.get(), os.environ.get(VARIABLE)


def current_choice() -> Choice:
    """What is chosen for NumPy arrays here: by `use_backend`, else by the environment."""
    return _chosen.get() or choice_of_environment(os.environ.get(VARIABLE) or "numpy")


def host_backend() -> Backend:
    """The backend for NumPy arrays."""
    choice = current_choice()
    if choice.name == "cuda":
        raise TypeError(
            "the cuda backend is chosen, but the arrays are NumPy's: move them to the GPU with "
            "cupy.asarray, or choose another backend"
        )
    return build(choice)


def device_backend(device_id: int) -> Backend:
    """The backend for CuPy arrays on one device; their kind alone decides."""
    choice = current_choice()
    return build(choice if choice.name == "cuda" else Choice("cuda"), device_id)


def backend_for(named: list[tuple[str, Array]]) -> Backend:
    """The backend for these arrays, which must be of one kind and on one device."""
    (first_name, first), *others = named
    on_device = is_cupy(first)
    for name, array in others:
        if is_cupy(array) != on_device:
            kinds = ("a CuPy array", "a NumPy array")
            first_kind, kind = kinds if on_device else kinds[::-1]
            raise TypeError(f"{first_name} is {first_kind}, but {name} is {kind}: move one of them")
        if on_device and array.device.id != first.device.id:
            raise TypeError(
                f"{first_name} is on GPU {first.device.id}, but {name} is on GPU {array.device.id}"
            )
    return device_backend(first.device.id) if on_device else host_backend()


def use_backend(name: str, **options: Any) -> AbstractContextManager[None]:
    """Choose, for a block of code, what computes with NumPy arrays.

    Parameters
    ----------
    name : {"numpy", "reference", "emulated", "cuda"}
        `"numpy"` is the default. `"reference"` is the oracle: plain, slow, float64 throughout.
        `"emulated"` runs NumPy arrays through the CUDA kernels compiled for the CPU (a test build,
        `CUCONV_EMULATION=ON`). `"cuda"` takes CuPy arrays alone; these are computed on their GPU
        whatever is chosen here.
    **options
        For `"emulated"`: `flavour` ("plain", "asan" or "race"; default "race"), `order`
        ("forward", "reverse", "shuffled" or "one_warp_far"), `arrival` ("late" or "eager") and
        `seed` say how threads are scheduled and what is checked. For `"emulated"` and `"cuda"`:
        `variant` forces one kernel variant by name.

    Returns
    -------
    context manager
        The choice holds inside the `with` block, in this thread or asynchronous task alone.

    Raises
    ------
    ValueError, TypeError
        For an unknown name or option.
    cuconv.UnsupportedError
        If the emulated kernels were not built.
    cuconv.CudaUnavailableError
        If the CUDA kernels were not built, or there is no GPU.

    Notes
    -----
    Without it, the environment variable `CUCONV_BACKEND` decides: a name, or `emulated:race` and
    the like.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> with cuconv.use_backend("reference"):
    ...     cuconv.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    choice = read_choice("name", name, options)
    build(choice)  # whatever is wrong with it is said here, not at the first call
    return _using(choice)


@contextmanager
def _using(choice: Choice) -> Iterator[None]:
    token = _chosen.set(choice)
    try:
        yield
    finally:
        _chosen.reset(token)


def is_cuda_available() -> bool:
    """Whether CuPy arrays can be computed with: kernels built, a driver, a GPU, and CuPy.

    Returns
    -------
    bool
        Never raises. `cuconv.show_config()` says what is missing.

    Examples
    --------
    >>> import cuconv
    >>> cuconv.is_cuda_available() in (True, False)
    True
    """
    from cuconv._backends.cuda import is_available

    return is_available()
