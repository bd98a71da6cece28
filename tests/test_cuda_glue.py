"""The CuPy backend without a GPU: what it does with devices, streams and memory.

CuPy is played by arrays of host memory, the CUDA module by the emulated one, which computes with
any address it is given. So this proves the Python side: that arrays stay where they are, results
are CuPy's, launches go to the current stream, and workspace comes from CuPy's pool.
"""

import gc
import math
import sys
import types
import weakref

import numpy as np
import pytest
import scipy.fft

import cuconv
import problems
from compare import assert_equal
from conftest import target_or_skip
from cuconv import _backends
from cuconv._backends import cuda, emulated


class Memory:
    def __init__(self, ptr, device_id=0):
        self.ptr = ptr
        self.device_id = device_id


class FakeArray(np.ndarray):
    """An array on a pretended GPU."""

    gpu = 0

    def __array_finalize__(self, source):
        self.gpu = getattr(source, "gpu", 0)

    @property
    def data(self):
        return Memory(self.__array_interface__["data"][0], self.gpu)

    @property
    def device(self):
        return types.SimpleNamespace(id=self.gpu)

    def take(self, *_, **__):
        raise AssertionError("a table of indices would be copied from the host")

    def __getitem__(self, index):
        for one in index if isinstance(index, tuple) else (index,):
            assert one is None or one is Ellipsis or isinstance(one, int | slice), "see take"
        return super().__getitem__(index)


ENTERED = []  # numbers of the devices that calls switched to


class Device:
    current = 0

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        self.before, Device.current = Device.current, self.number
        ENTERED.append(self.number)
        return self

    def __exit__(self, *_):
        Device.current = self.before


PLANS = weakref.WeakSet()  # that live


class FftPlan:
    """A cuFFT plan, which says what it takes in the worst case."""

    current = None

    def __init__(self, array, shape, axes, value_type):
        assert array.flags.c_contiguous
        assert axes == tuple(range(-len(shape), 0))
        self.takes = array.shape, value_type
        item = array.dtype.itemsize * (2 if value_type == "R2C" else 1)
        self.work_area = sys.modules["cupy"].cuda.alloc(
            8 * item * array.shape[0] * math.prod(shape)
        )
        PLANS.add(self)

    def __enter__(self):
        FftPlan.current = self

    def __exit__(self, *_):
        FftPlan.current = None


def transform(name, value_type):
    def run(array, s=None, axes=None, overwrite_x=False):
        assert FftPlan.current.takes == (array.shape, value_type)
        found = getattr(scipy.fft, name)(np.asarray(array), s=s, axes=axes).view(FakeArray)
        found.gpu = Device.current
        return found

    return run


class FakeModule:
    """The emulated module, noting the stream of every launch."""

    def __init__(self, module):
        self.module = module
        self.streams = []

    @staticmethod
    def driver_version():
        return 13000

    def BoundConv(self, *arguments):
        bound = self.module.BoundConv(*arguments)

        def run(*addresses):
            self.streams.append(addresses[-1])
            bound.run(*addresses)

        return types.SimpleNamespace(run=run)

    def __getattr__(self, name):
        function = getattr(self.module, name)
        asked = (
            "conv_variants",
            "conv_suits",
            "conv_grouped_refusal",
            "max_pool_grad_workspace",
            "compute_capability",
        )
        if name in asked:
            return function

        def launch(*arguments):
            self.streams.append(arguments[-1])
            return function(*arguments)

        return launch


@pytest.fixture
def gpu(monkeypatch):
    """A pretended CuPy with two GPUs; gives the module, the pool's allocations, and a `to_gpu`."""
    target_or_skip("emulated")
    allocations = []

    def alloc(nbytes):
        block = np.empty(nbytes, np.uint8)
        allocations.append(block)
        return Memory(block.__array_interface__["data"][0])

    def empty(shape, dtype):
        array = np.full(shape, 77).astype(dtype).view(FakeArray)
        array.gpu = Device.current
        return array

    cupy = types.ModuleType("cupy")
    cupy.ndarray = FakeArray
    cupy.empty = empty
    cupy.zeros = lambda shape, dtype: empty(shape, dtype) * 0
    for name in ("may_share_memory", "multiply", "conj", "where", "exp", "abs", "tanh"):
        setattr(cupy, name, getattr(np, name))
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        alloc=alloc,
        get_current_stream=lambda: types.SimpleNamespace(
            ptr=4711 + Device.current, is_capturing=lambda: fake.capturing
        ),
        runtime=types.SimpleNamespace(
            getDevice=lambda: Device.current,
            getDeviceCount=lambda: 2,
            CUDARuntimeError=RuntimeError,
        ),
    )
    module = FakeModule(emulated.load("plain"))
    fake = types.SimpleNamespace(
        module=module, allocations=allocations, to_gpu=to_gpu, capturing=False
    )
    transforms = types.ModuleType("cupyx.scipy.fft")
    transforms.get_fft_plan = FftPlan
    for name, kind in (("fftn", "C2C"), ("ifftn", "C2C"), ("rfftn", "R2C"), ("irfftn", "C2R")):
        setattr(transforms, name, transform(name, kind))
    cupyx, cupyx_scipy = types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")
    cupyx.scipy, cupyx_scipy.fft = cupyx_scipy, transforms
    for fake_module in (cupy, cupyx, cupyx_scipy, transforms):
        monkeypatch.setitem(sys.modules, fake_module.__name__, fake_module)
    monkeypatch.setattr(cuda, "module", lambda: module)
    _backends.build.cache_clear()
    ENTERED.clear()
    yield fake
    _backends.build.cache_clear()


def to_gpu(array, number=0):
    array = array.view(FakeArray)
    array.gpu = number
    return array


def drawn(seed, *shape, dtype="float32"):
    return problems.integers(np.random.default_rng(seed), shape, np.dtype(dtype))


def test_results_are_cupy_s_on_the_arrays_own_device(gpu):
    x, w = drawn(1, 2, 3, 7, 9), drawn(2, 4, 3, 3, 2)
    want = cuconv.conv2d(x, w, padding=1)
    got = cuconv.conv2d(to_gpu(x, 1), to_gpu(w, 1), padding=1)
    assert type(got) is FakeArray
    assert got.gpu == 1  # though device 0 is the current one
    assert set(ENTERED) == {1}
    assert Device.current == 0
    assert_equal(np.asarray(got), want)
    assert gpu.module.streams == [4712]


def test_arrays_are_read_where_they_are(gpu):
    """Reversed and transposed views: no copies, so `out` may be one as well."""
    x, w = drawn(1, 1, 2, 6, 7), drawn(2, 2, 2, 3, 3)
    out = to_gpu(np.zeros((5, 4, 2, 1), "f4")).T
    result = cuconv.conv2d(to_gpu(x[..., ::-1]), to_gpu(w), out=out)
    assert result is out
    assert_equal(np.ascontiguousarray(out), cuconv.conv2d(x[..., ::-1], w))
    assert gpu.allocations == []


def test_workspace_comes_from_the_pool(gpu):
    x = drawn(1, 1, 2, 6, dtype="float16")
    y, indices = cuconv.max_pool1d(to_gpu(x), 2, return_indices=True)
    assert type(indices) is FakeArray
    gx = cuconv.max_pool1d_grad(y, indices, x.shape)
    (block,) = gpu.allocations
    assert block.size == x.size * 4
    want = cuconv.max_pool1d_grad(np.array(y), np.array(indices), x.shape)
    assert_equal(np.asarray(gx), want)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_gradients(gpu, mode):
    x, w = drawn(1, 2, 3, 7, 9), drawn(2, 4, 3, 3, 2)
    options = {"padding": (1, 2), "stride": 2, "padding_mode": mode}
    g = cuconv.conv2d(x, w, **options)
    for function, call in (
        (cuconv.conv2d_input_grad, (g, w)),
        (cuconv.conv2d_weight_grad, (g, x)),
    ):
        shape = x.shape if function is cuconv.conv2d_input_grad else w.shape
        got = function(*map(to_gpu, call), shape, **options)
        assert type(got) is FakeArray
        assert_equal(np.asarray(got), function(*call, shape, **options))


def test_functions_and_inception(gpu):
    x = drawn(1, 2, 3, 5, 4)
    for function in (cuconv.relu, cuconv.sigmoid, cuconv.softmax, cuconv.global_avg_pool):
        got = function(to_gpu(x))
        assert type(got) is FakeArray
        np.testing.assert_allclose(np.asarray(got), function(x), rtol=1e-6)
    device = to_gpu(x.copy())
    assert cuconv.relu(device, out=device) is device
    assert_equal(np.asarray(device), cuconv.relu(x))
    weights = [drawn(5, 2, 3, 1, 1), drawn(6, 4, 3, 1, 1)]
    gpu.module.streams.clear()
    got = cuconv.inception_reduce(to_gpu(x), [to_gpu(w) for w in weights])
    assert gpu.module.streams == [4711]
    for g, want in zip(got, cuconv.inception_reduce(x, weights), strict=True):
        assert_equal(np.ascontiguousarray(g), np.ascontiguousarray(want))


def test_devices_are_not_mixed(gpu):
    x, w = drawn(1, 1, 1, 5), drawn(2, 1, 1, 3)
    with pytest.raises(TypeError, match="x is on GPU 0, but w is on GPU 1"):
        cuconv.conv1d(to_gpu(x), to_gpu(w, 1))
    with pytest.raises(TypeError, match="w is a NumPy array"):
        cuconv.conv1d(to_gpu(x), w)


def test_the_gpu_is_found(gpu):
    assert cuconv.is_cuda_available()
    found = cuconv.algorithms((1, 3, 9, 9), (4, 3, 3, 3), "float16")  # the default device
    families = ["direct", "im2col", "implicit_gemm", "winograd", "fft"]
    assert [c.algo for c in found if c.supported] == families
    assert {c.status for c in found} == {"emulated only"}
    with cuconv.use_backend("cuda", variant="direct_naive"):
        plan = cuconv.Conv2dPlan((1, 3, 9, 9), (4, 3, 3, 3), "float32")
    assert plan.variant == "direct_naive"


# ---- whole planes by cuFFT ----


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex128"])
def test_whole_planes_run_on_the_arrays_device(gpu, dtype):
    """Of a kernel that no tile holds; the plans are gone with the call."""
    x, w = drawn(1, 2, 2, 140, 150, dtype=dtype), drawn(2, 4, 1, 131, 135, dtype=dtype)
    bias = drawn(3, 4, dtype=dtype)
    options = {"padding": 3, "groups": 2}
    with cuconv.use_backend("reference"):
        want = cuconv.conv2d(x, w, bias, **options)
    plan = cuconv.Conv2dPlan(x.shape, w.shape, dtype, algo="fft", device="cuda", **options)
    assert (plan.algo, plan.variant) == ("fft", "fft_full_plane")
    got = plan(*(to_gpu(a, 1) for a in (x, w, bias)))
    assert (type(got), got.gpu) == (FakeArray, 1)
    assert set(ENTERED[1:]) == {1}
    assert Device.current == 0
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-3, atol=0.05)
    gc.collect()
    assert len(gpu.allocations) == 1 + 2 * len(x)  # work areas: of the filters, two of each image
    assert not PLANS
    assert gpu.module.streams == []
    assert max(block.size for block in gpu.allocations) < plan.workspace_bytes


def test_gradients_by_whole_planes(gpu):
    x, w = drawn(1, 2, 2, 30, 20), drawn(2, 3, 2, 9, 11)
    g = cuconv.conv2d(x, w, padding=2)
    with cuconv.use_backend("cuda", variant="fft_full_plane"):
        gx = cuconv.conv2d_input_grad(to_gpu(g), to_gpu(w), x.shape, padding=2)
        gw = cuconv.conv2d_weight_grad(to_gpu(g), to_gpu(x), w.shape, padding=2)
    want = cuconv.conv2d_input_grad(g, w, x.shape, padding=2)
    np.testing.assert_allclose(np.asarray(gx), want, atol=0.05)
    want = cuconv.conv2d_weight_grad(g, x, w.shape, padding=2)
    np.testing.assert_allclose(np.asarray(gw), want, atol=0.5)
    assert gpu.module.streams == []


def fft_candidate(x_shape, w_shape, **options):
    found = cuconv.algorithms(x_shape, w_shape, "float32", device="cuda", **options)
    return next(c for c in found if c.algo == "fft")


def test_whole_planes_are_chosen_by_name_alone(gpu):
    """Where tiles waste. A graph captures none of cuFFT's plans, so "auto" keeps away."""
    large = (1, 1, 600, 700), (1, 1, 121, 121)
    assert fft_candidate(*large).variant.startswith("fft_overlap_save")
    by_name = fft_candidate(*large, algo="fft")
    assert by_name.variant == "fft_full_plane"
    assert by_name.cost < fft_candidate(*large).cost
    assert fft_candidate(*large, algo="autotune").variant == "fft_full_plane"
    small = (8, 64, 56, 56), (64, 64, 7, 7)
    assert fft_candidate(*small, algo="fft").variant.startswith("fft_overlap_save")
    beyond = (1, 1, 600, 700), (1, 1, 131, 131)
    assert fft_candidate(*beyond).variant == "fft_full_plane"  # tiles cannot
    assert "asked for by name" in fft_candidate(*beyond).not_for_auto
    assert cuconv.Conv2dPlan(*beyond, "float32", device="cuda").algo != "fft"
    with pytest.raises(cuconv.UnsupportedError, match=r"overlap_save.*full_plane: one group takes"):
        cuconv.Conv2dPlan(*beyond, "float32", device="cuda", algo="fft", workspace_limit=1000)


def test_whole_planes_are_not_captured(gpu):
    x = to_gpu(drawn(1, 1, 1, 9, 9))
    gpu.capturing = True
    with (
        cuconv.use_backend("cuda", variant="fft_full_plane"),
        pytest.raises(cuconv.UnsupportedError, match="captured in a CUDA graph"),
    ):
        cuconv.conv2d(x, x)


# ---- what a stream capture takes ----


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_borders_take_nothing_from_the_host(gpu, mode):
    """The padded copy was gathered by a table of indices: a copy from the host, which no CUDA
    graph captures. All it takes now is copies between slices and memory of the pool."""
    x, w = drawn(1, 2, 3, 7, 9), drawn(2, 4, 3, 3, 2)
    options = {"padding": ((2, 1), (3, 0)), "padding_mode": mode}
    plan = cuconv.Conv2dPlan(x.shape, w.shape, "float32", device="cuda", **options)
    gpu.capturing = True
    want = cuconv.conv2d(x, w, **options)
    assert_equal(np.asarray(plan(to_gpu(x), to_gpu(w))), want)
    got = plan.input_grad(to_gpu(want), to_gpu(w))
    assert_equal(np.asarray(got), cuconv.conv2d_input_grad(want, w, x.shape, **options))
    got = plan.weight_grad(to_gpu(want), to_gpu(x))
    assert_equal(np.asarray(got), cuconv.conv2d_weight_grad(want, x, w.shape, **options))
