"""What this installation is and what it found: for users, and for reports of faults."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import platform
from typing import Any

import numpy as np

from cuconv._backends import VARIABLE, current_choice, is_cuda_available
from cuconv._machine import processor
from cuconv._version import __version__

Section = dict[str, str]


def collect() -> dict[str, Section]:
    """Sections of facts, by name. Works on any machine: what is missing is said, not raised."""
    return {
        "cuconv": package(),
        "CUDA kernels": cuda_kernels(),
        "GPU": gpu(),
        "CPU": cpu(),
    }


def package() -> Section:
    flavours = [f for f in ("plain", "asan", "race") if has_module(f"_C_emulated_{f}")]
    return {
        "version": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "backend for NumPy arrays": current_choice().name,
        VARIABLE: os.environ.get(VARIABLE, "not set"),
        "emulated kernels": ", ".join(flavours) or "not built (CUCONV_EMULATION=ON builds them)",
    }


def has_module(name: str) -> bool:
    return importlib.util.find_spec(f"cuconv.{name}") is not None


def cuda_kernels() -> Section:
    from cuconv._backends import cuda

    module = cuda.module()
    if module is None:
        return {"built": "no (install with -C cmake.define.CUCONV_CUDA=ON)"}
    facts: dict[str, Any] = module.build_info()
    return {
        "built": "yes",
        "architectures": str(facts["architectures"]),
        "CUDA driver": version_of(module.driver_version()) or "none",
    }


def version_of(number: int) -> str:
    """CUDA counts 13.1 as 13010."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def gpu() -> Section:
    if importlib.util.find_spec("cupy") is None:
        return {"usable": "no", "CuPy": "not installed (the extras cuda12 and cuda13 bring it)"}
    import cupy

    facts = {"usable": "yes" if is_cuda_available() else "no", "CuPy": cupy.__version__}
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        for i in range(count):
            properties = cupy.cuda.runtime.getDeviceProperties(i)
            memory = properties["totalGlobalMem"] / 2**30
            capability = f"{properties['major']}.{properties['minor']}"
            name = properties["name"].decode()
            facts[f"GPU {i}"] = f"{name}, compute capability {capability}, {memory:.0f} GiB"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        facts["GPUs"] = str(error)
    return facts


def cpu() -> Section:
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "NumPy": np.__version__,
        "BLAS": blas(),
    }


def blas() -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        except (TypeError, KeyError):
            return "unknown"
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def show_config() -> None:
    """Print what this installation is and what it found.

    Version, build, architectures in the binary, device, driver, CuPy and BLAS.

    Examples
    --------
    >>> import cuconv
    >>> cuconv.show_config()  # doctest: +ELLIPSIS
    cuconv
      version ...
    """
    for section, facts in collect().items():
        print(section)
        for name, value in facts.items():
            print(f"  {name:24} {value}")
