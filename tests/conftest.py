"""The backends that one body of tests runs on, and where each is to be had."""

import importlib.util
import itertools
import os

import numpy as np
import pytest

import cuconv
from cuconv import _answers, autotune

ORDERS = ("forward", "reverse", "shuffled")


class Target:
    """A backend under test: `run(function, ...)` calls with host arrays and returns host arrays."""

    def __init__(self, name):
        self.name = name
        self._calls = itertools.count()

    def options(self):
        """Of emulation: every call gets the next schedule."""
        if self.name != "emulated":
            return {}
        call = next(self._calls)
        flavour = os.environ.get("CUCONV_TEST_FLAVOUR", "race")
        return {"flavour": flavour, "order": ORDERS[call % 3], "seed": call}

    def select(self, **options):
        return cuconv.use_backend(self.name, **self.options(), **options)

    def run(self, function, *arguments, **options):
        with self.select():
            moved = [self.to_device(a) for a in arguments]
            moved_options = {name: self.to_device(o) for name, o in options.items()}
            return self.to_host(function(*moved, **moved_options))

    def to_device(self, value):
        if self.name == "cuda" and isinstance(value, np.ndarray):
            return cuda_view(value)
        return value

    def to_host(self, value):
        if isinstance(value, (tuple, list)):
            return [self.to_host(v) for v in value]
        return value.get() if self.name == "cuda" else value


def cuda_view(array):
    """A CuPy array with the same strides over a copy of the same memory."""
    import cupy

    steps = [s if n > 1 else 0 for s, n in zip(array.strides, array.shape, strict=True)]
    reach = [s * (n - 1) for s, n in zip(steps, array.shape, strict=True)]
    if array.size == 0:
        return cupy.asarray(array)
    low, high = sum(min(0, r) for r in reach), sum(max(0, r) for r in reach)
    count = (high - low) // array.itemsize + 1
    corner = array[tuple(-1 if r < 0 else 0 for r in reach)]
    memory = cupy.asarray(np.lib.stride_tricks.as_strided(corner, (count,), (array.itemsize,)))
    return cupy.ndarray(array.shape, array.dtype, memory.data - low, steps)


def missing(name):
    if name == "emulated" and importlib.util.find_spec("cuconv._C_emulated_race") is None:
        return "the emulated modules were not built (CUCONV_EMULATION=ON)"
    if name == "cuda" and importlib.util.find_spec("cuconv._C") is None:
        return "the CUDA module was not built"
    if name == "cuda" and not cuconv.is_cuda_available():
        return "no CUDA device (and CuPy) on this machine"
    return ""


def target_or_skip(name):
    reason = missing(name)
    if reason and name == "emulated" and os.environ.get("CUCONV_REQUIRE_EMULATION") == "1":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    return Target(name)


@pytest.fixture(params=["numpy", "emulated", "cuda"])
def backend(request):
    return target_or_skip(request.param)


@pytest.fixture
def emulated():
    return target_or_skip("emulated")


@pytest.fixture
def reference():
    return Target("reference")


@pytest.fixture
def nothing_known():
    """autotune begins and ends without an answer in memory, and warns anew."""
    autotune.forget()
    _answers._warned.clear()
    yield
    autotune.forget()


@pytest.fixture
def file():
    """The answers' file, in a folder that exists."""
    found = _answers.cache_file()
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """No test reads or writes what the user's machine was found to do."""
    monkeypatch.setenv("CUCONV_CACHE_DIR", str(tmp_path_factory.mktemp("cuconv") / "cache"))
