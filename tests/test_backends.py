"""Which backend computes, and what is said where one is missing."""

import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import cuconv
from cuconv import _backends
from cuconv._backends import cuda, emulated


def name():
    return _backends.host_backend().name


def test_numpy_is_the_default(monkeypatch):
    monkeypatch.delenv("CUCONV_BACKEND", raising=False)
    assert name() == "numpy"


def test_choices_nest_and_end():
    with cuconv.use_backend("reference"):
        assert name() == "reference"
        with cuconv.use_backend("numpy"):
            assert name() == "numpy"
        assert name() == "reference"
        with pytest.raises(ZeroDivisionError), cuconv.use_backend("numpy"):
            _ = 1 / 0
        assert name() == "reference"


def test_a_choice_is_of_one_thread():
    found = []
    with cuconv.use_backend("reference"):
        thread = threading.Thread(target=lambda: found.append(name()))
        thread.start()
        thread.join()
    assert found == ["numpy"]


def test_the_environment_sets_the_default(monkeypatch):
    monkeypatch.setenv("CUCONV_BACKEND", "reference")
    assert name() == "reference"
    with cuconv.use_backend("numpy"):
        assert name() == "numpy"


@pytest.mark.parametrize("value", ["cudnn", "numpy:fast", "emulated:quick"])
def test_a_wrong_environment_is_named(monkeypatch, value):
    monkeypatch.setenv("CUCONV_BACKEND", value)
    with pytest.raises((ValueError, cuconv.UnsupportedError), match=r"CUCONV_BACKEND|flavour"):
        cuconv.relu(np.ones(3))


def test_the_environment_takes_a_flavour(emulated, monkeypatch):
    monkeypatch.setenv("CUCONV_BACKEND", "emulated:plain")
    assert _backends.host_backend().flavour == "plain"
    assert cuconv.relu(np.array([-1.0, 2.0])).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("option", "value"),
    [("flavour", "fast"), ("order", "backwards"), ("arrival", "never"), ("seed", -1)],
)
def test_wrong_options_of_emulation(emulated, option, value):
    with pytest.raises(ValueError, match=option):
        cuconv.use_backend("emulated", **{option: value})
    with pytest.raises(TypeError, match="speed"):
        cuconv.use_backend("emulated", speed=2)


def test_emulation_that_was_not_built(monkeypatch):
    _backends.build.cache_clear()
    monkeypatch.setattr(emulated.importlib, "import_module", not_found)
    with pytest.raises(cuconv.UnsupportedError, match="CUCONV_EMULATION=ON"):
        cuconv.use_backend("emulated", seed=987)


def test_asan_without_its_library(emulated, monkeypatch):
    def fail(name):
        raise ImportError("undefined symbol: __asan_init")

    _backends.build.cache_clear()
    monkeypatch.setattr("cuconv._backends.emulated.importlib.import_module", fail)
    with pytest.raises(cuconv.UnsupportedError, match="LD_PRELOAD"):
        cuconv.use_backend("emulated", flavour="asan")


def not_found(name):
    raise ModuleNotFoundError(name)


def test_cuda_that_was_not_built(monkeypatch):
    _backends.build.cache_clear()
    monkeypatch.setattr(cuda, "module", lambda: None)
    with pytest.raises(cuconv.CudaUnavailableError, match="CUCONV_CUDA=ON"):
        cuconv.use_backend("cuda")
    assert not cuconv.is_cuda_available()


def test_cuda_without_a_driver(monkeypatch):
    class Module:
        @staticmethod
        def driver_version():
            return 0

    _backends.build.cache_clear()
    monkeypatch.setattr(cuda, "module", Module)
    with pytest.raises(cuconv.CudaUnavailableError, match="driver"):
        cuconv.algorithms((1, 1, 4), (1, 1, 2), "f4", device="cuda")


def test_numpy_arrays_are_not_moved_to_the_gpu(monkeypatch):
    token = _backends._chosen.set(_backends.Choice("cuda"))
    try:
        with pytest.raises(TypeError, match=r"cupy\.asarray"):
            cuconv.relu(np.ones(3))
    finally:
        _backends._chosen.reset(token)


def test_kinds_of_arrays_are_not_mixed(monkeypatch):
    class Device:
        id = 0

    class FakeCupyArray:
        dtype, shape, ndim, strides, itemsize = np.dtype("f4"), (1, 1, 3), 3, (12, 12, 4), 4
        device = Device()

    fake = type(sys)("cupy")
    fake.ndarray = FakeCupyArray
    monkeypatch.setitem(sys.modules, "cupy", fake)
    x = np.ones((1, 1, 5), "f4")
    with pytest.raises(TypeError, match="x is a NumPy array, but w is a CuPy array"):
        cuconv.conv1d(x, FakeCupyArray())
    with pytest.raises(TypeError, match="x is a CuPy array, but w is a NumPy array"):
        cuconv.conv1d(FakeCupyArray(), x)
    other = FakeCupyArray()
    other.device = type("Device", (), {"id": 1})()
    with pytest.raises(TypeError, match="x is on GPU 0, but w is on GPU 1"):
        cuconv.conv1d(FakeCupyArray(), other)


def test_dlpack_arrays_come_in_without_a_copy():
    class Foreign:
        """An array of another library."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    x = np.array([[-1.0, 2.0]])
    assert cuconv.relu(Foreign(x)).tolist() == [[0, 2]]


def test_importing_is_light():
    """No CuPy, no SciPy, no command line: what the core needs is NumPy."""
    script = (
        "import sys, cuconv; "
        "heavy = {'cupy', 'scipy', 'click', 'rich', 'matplotlib', 'cuconv._C'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_show_config_names_what_is_here(capsys):
    cuconv.show_config()
    shown = capsys.readouterr().out
    for words in (cuconv.__version__, np.__version__, "CUDA kernels", "BLAS", "backend"):
        assert words in shown


FUNCTIONS = [n for n in cuconv.__all__ if n.islower() and not n.startswith("__")]


@pytest.mark.parametrize("entry", FUNCTIONS)
def test_every_function_is_documented(entry):
    text = getattr(cuconv, entry).__doc__
    assert ">>> " in text
    assert not re.search(r"<\w+>", text), "a word of the template was not filled in"
    if entry not in ("show_config", "is_cuda_available"):
        for part in ("Parameters", "Returns", "Raises"):
            assert f"    {part}\n    ---" in text
