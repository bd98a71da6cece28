"""What the emulator counts: the kernels that a call launches, the bytes that each moves, and the
tensor maps that are made."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path


def emulator():
    flavour = os.environ.get("CUCONV_TEST_FLAVOUR", "race")
    return importlib.import_module(f"cuconv._C_emulated_{flavour}").emulation


def traffic(function, *arguments, **options):
    """(kernel, bytes read, bytes written) of all that a call launches in emulation."""
    emulation = emulator()
    emulation.record_traffic()
    try:
        function(*arguments, **options)
    finally:
        found = emulation.recorded_traffic()
    return found


def launched(function, *arguments, **options):
    return [kernel for kernel, _, _ in traffic(function, *arguments, **options)]


def maps_encoded(function, *arguments, **options):
    """How many tensor maps a call has the encoders make."""
    before = emulator().encoded_maps()
    function(*arguments, **options)
    return emulator().encoded_maps() - before


def benchmark(name):
    """The module bench/NAME.py, which counts bytes."""
    path = Path(__file__).resolve().parents[1] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
