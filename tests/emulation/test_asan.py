"""The asan flavour, each time in a process of its own.

AddressSanitizer must be there from the process's start, and ends it when it finds something.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import numpy as np
from emulation.device import Device, load
device = Device(load("asan"))
"""


def sanitizer_libraries() -> str:
    """AddressSanitizer, and the C++ library whose `throw` it wraps and looks for at the start."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to ask where libasan is")
    paths = []
    for library in ("libasan.so", "libstdc++.so"):
        command = [compiler, f"-print-file-name={library}"]
        paths.append(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        )
    return " ".join(paths)


def run(code: str, *, preload: bool = True) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).resolve().parents[1]
    path = os.pathsep.join([str(tests), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "ASAN_OPTIONS": "detect_leaks=0"}
    environment["CUCONV_REQUIRE_EMULATION"] = "1"
    if preload:
        environment["LD_PRELOAD"] = sanitizer_libraries()
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(autouse=True)
def built(race):
    """Skips where no flavour was built."""


def test_clean_kernels_pass_in_every_order():
    done = run(
        """
from emulation import test_checkers, test_cp_async, test_tensor_core
from emulation.device import ORDERS
assert device.flavour == "asan"
cases = [c for m in (test_checkers, test_cp_async, test_tensor_core) for c in m.ALL.values()]
for order in ORDERS:
    for arrival in test_cp_async.ARRIVALS:
        for case in cases:
            device.run(case.kernel, order=order, arrival=arrival, **case.size, **case.clean)
print("all passed")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all passed\n"


def test_divergence_is_an_exception_here_too():
    done = run(
        """
import pytest
from emulation.test_checkers import DIVERGENCE, expect_fault
for _ in range(2):
    for case in DIVERGENCE.values():
        expect_fault(device, case, "forward")
        assert device.run("sum_block", argument=2)[0] == 64 * 65 // 2
print("all named")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all named\n"


@pytest.mark.parametrize(
    "launch",
    [
        '"read_global", argument=1',
        '"read_global", argument=-1',
        '"write_global", argument=1',
        '"read_shared", argument=1, shared_bytes=256',
        '"write_shared", argument=-1, shared_bytes=256',
        '"copy_bytes", argument=257',
        '"read_global", np.ones(1024, np.float32)[::4][:64], stride=4, argument=2',
    ],
)
def test_out_of_bounds_ends_the_process(launch):
    done = run(f"device.run({launch})")
    assert done.returncode != 0
    assert "AddressSanitizer: use-after-poison" in done.stderr, done.stderr


def test_without_the_sanitizer_the_import_fails_cleanly():
    done = run("", preload=False)
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "undefined symbol: __asan" in done.stderr
