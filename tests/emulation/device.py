"""One emulated device running the selftest kernels: what the tests of the checkers drive."""

import importlib
import os
from types import ModuleType
from typing import Any

import numpy as np

ORDERS = ["forward", "reverse", "shuffled", "one_warp_far"]
WHY_MISSING = "the emulated modules were not built: CUCONV_EMULATION=ON builds them"


def load(flavour: str) -> ModuleType | None:
    """The selftest module of a flavour, or None where it may be missing and is."""
    name = f"cuconv._C_emulated_selftest_{flavour}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        if os.environ.get("CUCONV_REQUIRE_EMULATION") == "1":
            raise
        return None


class Device:
    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.emulation = module.emulation
        self.flavour: str = module.emulation.flavour()

    def place(self, how: str, array: np.ndarray, name: str) -> int:
        place = getattr(self.emulation, f"place_{how}")
        address = array.__array_interface__["data"][0]
        return place(address, array.shape, array.strides, array.itemsize, name)

    def collect(self, device_address: int, array: np.ndarray, name: str) -> None:
        address = array.__array_interface__["data"][0]
        self.emulation.collect(
            device_address, address, array.shape, array.strides, array.itemsize, name
        )

    def run(
        self,
        kernel: str,
        x: np.ndarray | None = None,
        y: np.ndarray | None = None,
        *,
        threads: int = 64,
        blocks: int = 1,
        shared_bytes: int = 4096,
        order: str = "forward",
        seed: int = 1,
        arrival: str = "late",
        through: str | int = 0,
        **arguments: Any,
    ) -> np.ndarray:
        """Launches a kernel on x -> y and returns y; x is 1, 2, 3... unless given.

        `through` is "y" or "workspace" where a kernel takes a third address.
        """
        if x is None:
            x = np.arange(1, threads * blocks + 1, dtype=np.float32)
        if y is None:
            y = np.zeros(x.size, np.float32)
        self.emulation.reset()
        self.emulation.configure(order, seed, arrival)
        try:
            x_address = self.place("input", x, "x")
            y_address = self.place("output", y, "y")
            if through == "y":
                through = y_address
            elif through == "workspace":
                through = self.emulation.workspace(4 * threads)
            self.module.launch(
                kernel,
                grid=(blocks, 1, 1),
                block=(threads, 1, 1),
                shared_bytes=shared_bytes,
                x=x_address,
                y=y_address,
                through=through,
                **arguments,
            )
            self.collect(y_address, y, "y")
        finally:
            self.emulation.reset()
        return y
