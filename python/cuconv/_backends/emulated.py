"""NumPy arrays through the CUDA kernels, compiled for the CPU and run thread by thread.

A test build: see docs/emulation.md. The emulated device belongs to the host thread using it, and
the order of threads is set before each operation, so backends need no lock.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cuconv import _arguments as arguments
from cuconv._backends._kernels import KernelBackend
from cuconv._backends._operands import EmulatedOperands
from cuconv._backends._protocol import Array
from cuconv.errors import UnsupportedError

FLAVOURS = ("plain", "asan", "race")
ORDERS = ("forward", "reverse", "shuffled", "one_warp_far")
ARRIVALS = ("late", "eager")


def load(flavour: str) -> Any:
    try:
        return importlib.import_module(f"cuconv._C_emulated_{flavour}")
    except ModuleNotFoundError:
        raise UnsupportedError(
            "the emulated kernels were not built: install with CUCONV_EMULATION=ON in the "
            "environment"
        ) from None
    except ImportError as error:
        if flavour != "asan":
            raise
        raise UnsupportedError(
            "the asan flavour needs its libraries from the start: run Python with "
            'LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" '
            f"and ASAN_OPTIONS=detect_leaks=0 ({error})"
        ) from None


class EmulatedBackend(KernelBackend):
    name = "emulated"
    device: Literal["cpu", "cuda"] = "cpu"

    def __init__(
        self,
        flavour: str = "race",
        order: str = "forward",
        arrival: str = "late",
        seed: int = 0,
        variant: str | None = None,
    ) -> None:
        self.flavour = arguments.choice("flavour", flavour, FLAVOURS)
        self._schedule = (
            arguments.choice("order", order, ORDERS),
            arguments.integer("seed", seed, 0),
            arguments.choice("arrival", arrival, ARRIVALS),
        )
        super().__init__(load(self.flavour), variant)

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def _operands(self) -> EmulatedOperands:
        emulation = self._module.emulation
        emulation.configure(*self._schedule)
        return EmulatedOperands(emulation)
