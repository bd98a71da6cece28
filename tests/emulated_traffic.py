"""What the emulator counts: the kernels that a call launches, and the bytes that each moves."""

import importlib
import os


def traffic(function, *arguments, **options):
    """(kernel, bytes read, bytes written) of all that a call launches in emulation."""
    flavour = os.environ.get("CUCONV_TEST_FLAVOUR", "race")
    emulation = importlib.import_module(f"cuconv._C_emulated_{flavour}").emulation
    emulation.record_traffic()
    try:
        function(*arguments, **options)
    finally:
        found = emulation.recorded_traffic()
    return found


def launched(function, *arguments, **options):
    return [kernel for kernel, _, _ in traffic(function, *arguments, **options)]
