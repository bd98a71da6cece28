"""CuPy arrays through the CUDA kernels."""

from __future__ import annotations

import importlib
from typing import Any


def module() -> Any:
    """The extension module, or None where it was not built."""
    try:
        return importlib.import_module("cuconv._C")
    except ModuleNotFoundError:
        return None


def is_available() -> bool:
    return False
