"""Bugs that convolution libraries really had, each a named test over every backend.

The comments name reports of the kind in other projects.
"""

import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within
from cuconv._problem import conv_call, pool_call

F = np.dtype("float32")


def drawn(seed, *shape, dtype=F):
    return problems.integers(np.random.default_rng(seed), shape, dtype)


# ---- memory ----


@pytest.mark.parametrize("arrange", problems.ARRANGEMENTS, ids=lambda f: f.__name__)
def test_any_strides(backend, reference, arrange):  # cupy#10303, pytorch#345, cutlass#651
    x, w, g = drawn(1, 2, 3, 7, 9), drawn(2, 4, 3, 3, 2), drawn(3, 2, 4, 5, 8)
    y = reference.run(cuconv.conv2d, x, w)
    assert_equal(backend.run(cuconv.conv2d, arrange(x), arrange(w)), y)
    got = backend.run(cuconv.conv2d_input_grad, arrange(g), arrange(w), x.shape)
    assert_equal(got, reference.run(cuconv.conv2d_input_grad, g, w, x.shape))
    got = backend.run(cuconv.conv2d_weight_grad, arrange(g), arrange(x), w.shape)
    assert_equal(got, reference.run(cuconv.conv2d_weight_grad, g, x, w.shape))
    assert_equal(
        backend.run(cuconv.max_pool2d, arrange(x), 2), reference.run(cuconv.max_pool2d, x, 2)
    )
    assert_equal(backend.run(cuconv.relu, arrange(x)), np.maximum(x, 0))


@pytest.mark.parametrize(
    "arrange", [np.asfortranarray, problems.reversed_view, problems.sliced_view]
)
def test_any_strides_of_out(backend, arrange):
    x, w = drawn(1, 2, 3, 7, 9), drawn(2, 4, 3, 3, 2)
    want = backend.run(cuconv.conv2d, x, w)
    with backend.select():
        out = backend.to_device(arrange(np.zeros_like(want)))
        cuconv.conv2d(backend.to_device(x), backend.to_device(w), out=out)
    assert_equal(np.ascontiguousarray(backend.to_host(out)), want)


def test_broadcast_inputs(backend, reference):
    x = np.broadcast_to(drawn(1, 1, 1, 1, 9), (2, 3, 7, 9))
    w = np.broadcast_to(drawn(2, 1, 3, 1, 1), (4, 3, 3, 2))
    assert_equal(backend.run(cuconv.conv2d, x, w), reference.run(cuconv.conv2d, x, w))


def test_elements_at_odd_addresses(backend):
    if backend.name == "cuda":
        pytest.skip("CuPy has no arrays at odd addresses")
    memory = np.zeros(1 + 4 * 60, np.uint8)
    x = memory[1:].view(F).reshape(1, 2, 5, 6)
    x[...] = drawn(1, 1, 2, 5, 6)
    w = drawn(2, 2, 2, 2, 2)
    assert not x.flags.aligned
    assert_equal(backend.run(cuconv.conv2d, x, w), backend.run(cuconv.conv2d, x.copy(), w))
    out_memory = np.zeros(1 + 4 * 40, np.uint8)
    out = out_memory[1:].view(F).reshape(1, 2, 4, 5)
    with backend.select():
        cuconv.conv2d(x, w, out=out)
    assert_equal(out.copy(), backend.run(cuconv.conv2d, x.copy(), w))


def test_fields_of_a_record(backend):
    if backend.name == "cuda":
        pytest.skip("CuPy has no records")
    records = np.zeros((1, 1, 5, 6), [("tag", "u2"), ("value", "f4")])
    records["value"] = drawn(1, 1, 1, 5, 6)
    w = drawn(2, 2, 1, 2, 2)
    got = backend.run(cuconv.conv2d, records["value"], w)
    assert_equal(got, backend.run(cuconv.conv2d, records["value"].copy(), w))


# ---- sizes ----


def test_windows_far_apart_in_a_huge_input(backend):  # pytorch#117736, #44109; cupy#10290
    """Offsets past 2**31: a broadcast input of 2**33 columns, of which three windows are read."""
    if backend.name == "emulated":
        pytest.skip("the emulated device lays every element of an array out")
    if backend.name == "cuda":
        pytest.skip("the same index arithmetic is exercised by the stride test below")
    x = np.broadcast_to(np.float32(2), (1, 1, 2**33))
    w = np.ones((1, 1, 3), F)
    y = backend.run(cuconv.conv1d, x, w, stride=2**32 - 2)
    assert_equal(y, np.full((1, 1, 3), 6, F))


def test_lowered_size_past_two_to_the_31(backend):  # pytorch PR#39198
    """C * R * S * P * Q > 2**31 as a problem: only its plan is made, in exact integers."""
    if backend.name == "cuda":
        pytest.skip("plans for CuPy arrays are made by tests/test_plan.py")
    with backend.select():
        plan = cuconv.Conv2dPlan(
            (1, 64, 2048, 2048), (1, 64, 7, 7), "float32", padding=3, device="cpu"
        )
        assert plan.workspace_bytes <= 256 << 20


def test_more_than_65535_of_everything(backend):  # theano#657, pytorch PR#28931
    n = 65537
    one = np.ones((1, 1, 1, 1), F)
    for shape in ((n, 1, 1, 1), (1, 1, n, 1), (1, 1, 1, n)):
        x = (np.arange(n) % 7).astype(F).reshape(shape)
        assert_equal(backend.run(cuconv.conv2d, x, one), x)
    x = (np.arange(n) % 7).astype(F).reshape(1, n, 1, 1)
    assert_equal(backend.run(cuconv.conv2d, x, np.ones((n, 1, 1, 1), F), groups=n), x)
    assert_equal(backend.run(cuconv.max_pool2d, x.reshape(1, 1, n, 1), 1), x.reshape(1, 1, n, 1))


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
def test_kernels_larger_than_shared_memory(backend, reference, dtype):  # pytorch#34083
    x, w = np.ones((1, 1, 70, 61), dtype), np.zeros((1, 1, 65, 60), dtype)
    w[..., ::9, ::7] = 1
    assert_equal(backend.run(cuconv.conv2d, x, w), reference.run(cuconv.conv2d, x, w))


def test_257_channels(backend, reference):  # cucim#408
    x, w = drawn(1, 1, 257, 5, 4), drawn(2, 3, 257, 3, 3)
    assert_equal(backend.run(cuconv.conv2d, x, w), reference.run(cuconv.conv2d, x, w))


def test_empty_batch(backend):  # pytorch#19599, #31425, #38115
    x, w, b = np.ones((0, 3, 5, 4), F), np.ones((2, 3, 3, 3), F), np.ones(2, F)
    y = backend.run(cuconv.conv2d, x, w, b)
    assert_equal(y, np.ones((0, 2, 3, 2), F))
    assert_equal(backend.run(cuconv.conv2d_input_grad, y, w, x.shape), x)
    assert_equal(backend.run(cuconv.conv2d_weight_grad, y, x, w.shape), np.zeros_like(w))
    assert_equal(backend.run(cuconv.conv2d_bias_grad, y), np.zeros(2, F))
    assert backend.run(cuconv.conv_transpose2d, x, np.ones((3, 2, 2, 2), F)).shape == (0, 2, 6, 5)


def test_nothing_but_padding_gives_the_bias(backend):
    b = np.array([1, 2], F)
    want = np.broadcast_to(b[:, None, None], (1, 2, 2, 4))
    for x, w in (
        (np.ones((1, 3, 0, 4), F), np.ones((2, 3, 3, 3), F)),  # an empty axis
        (np.ones((1, 0, 0, 4), F), np.ones((2, 0, 3, 3), F)),  # and no channels
    ):
        got = backend.run(cuconv.conv2d, x, w, b, padding=((2, 2), (1, 1)))
        assert_equal(got, want.astype(F))
    got = backend.run(cuconv.conv2d, np.ones((1, 0, 4, 6), F), np.ones((2, 0, 3, 3), F), b)
    assert_equal(got, want.astype(F))


def test_gradients_of_empty_things_are_zero(backend):
    g, w = np.ones((1, 2, 2, 4), F), np.ones((2, 3, 3, 3), F)
    options = {"padding": ((2, 2), (1, 1))}
    gx = backend.run(cuconv.conv2d_input_grad, g, w, (1, 3, 0, 4), **options)
    assert gx.shape == (1, 3, 0, 4)
    gw = backend.run(cuconv.conv2d_weight_grad, g, np.ones((1, 3, 0, 4), F), w.shape, **options)
    assert_equal(gw, np.zeros_like(w))
    no_filters = np.ones((0, 3, 3, 3), F)
    gx = backend.run(cuconv.conv2d_input_grad, np.ones((1, 0, 2, 3), F), no_filters, (1, 3, 4, 5))
    assert_equal(gx, np.zeros((1, 3, 4, 5), F))


@pytest.mark.parametrize(("channels", "filters"), [(3, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_no_filters_and_no_channels(backend, channels, filters, kernel):
    """Choosing divided by the bytes of a position, which a pointwise convolution without filters
    has none of."""
    x, w = np.ones((2, channels, 9, 8), F), np.ones((filters, channels, kernel, kernel), F)
    size = 10 - kernel, 9 - kernel
    for algo in ("auto", "direct", "im2col", *(["winograd", "fft"] if kernel > 1 else [])):
        y = backend.run(cuconv.conv2d, x, w, algo=algo)
        assert_equal(y, np.zeros((2, filters, *size), F))
    assert_equal(backend.run(cuconv.conv2d_input_grad, y, w, x.shape), np.zeros_like(x))
    assert_equal(backend.run(cuconv.conv2d_weight_grad, y, x, w.shape), np.zeros_like(w))


def test_output_sizes_are_exact_integers():  # pytorch#13386, #143489
    wide = 19_000_001
    assert conv_call(1, F, (1, 1, wide), (1, 1, 3), stride=2).y_shape[-1] == (wide - 3) // 2 + 1
    huge = 2**53 + 1  # not a float64
    assert conv_call(1, F, (1, 1, huge), (1, 1, 1)).y_shape[-1] == huge
    assert (
        conv_call(1, F, (1, 1, huge), (1, 1, 1), padding="same", stride=2).y_shape[-1] == 2**52 + 1
    )
    assert pool_call(1, F, (1, 1, huge), 2, stride=2, ceil_mode=True).y_shape[-1] == 2**52 + 1


def test_parameters_far_beyond_the_input(backend, reference):
    x, w = drawn(1, 1, 2, 3, 4), drawn(2, 2, 2, 1, 2)
    options = {"stride": (2**40, 2**62), "dilation": (2**60, 1), "padding": ((0, 7), (5, 40))}
    assert_equal(
        backend.run(cuconv.conv2d, x, w, **options), reference.run(cuconv.conv2d, x, w, **options)
    )


def test_axes_are_not_swapped(backend, reference):  # pytorch#37844
    x, w = drawn(1, 2, 2, 5, 9, 14), drawn(2, 3, 2, 1, 2, 3)
    options = {"stride": (1, 2, 3), "padding": ((0, 1), (2, 0), (1, 3)), "dilation": (3, 2, 1)}
    want = reference.run(cuconv.conv3d, x, w, **options)
    assert want.shape == (2, 3, 6, 5, 6)
    assert_equal(backend.run(cuconv.conv3d, x, w, **options), want)


# ---- values ----


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_nan_in_every_window_position(backend, dtype):  # pytorch#39846, #7645; cupy#4090
    for at in range(9):
        x = np.arange(9, dtype=np.float64)
        x[at] = np.nan
        x = x.reshape(1, 1, 3, 3).astype(dtype)
        y, index = backend.run(cuconv.max_pool2d, x, 3, return_indices=True)
        assert np.isnan(y.astype("f8")).all()
        assert index.item() == at
        assert np.isnan(backend.run(cuconv.max_pool2d, x, 3).astype("f8")).all()


def test_first_of_several_nan_and_of_equal_maxima(backend):
    x = np.array([[[1, np.nan, np.nan, 5, 5, 5]]])
    y, index = backend.run(cuconv.max_pool1d, x, 3, return_indices=True)
    assert_equal(y, np.array([[[np.nan, 5]]]))
    assert_equal(index, np.array([[[1, 3]]]))


def test_window_of_minus_infinity(backend):  # pytorch#39044
    x = np.full((1, 1, 2, 4), -np.inf, F)
    options = {"padding": ((1, 0), (1, 1)), "return_indices": True}
    y, index = backend.run(cuconv.max_pool2d, x, 3, **options)
    assert_equal(y, np.full((1, 1, 1, 2), -np.inf, F))
    assert_equal(index, np.array([[[[0, 2]]]]))


def test_relu_keeps_nan_fused_and_not(backend):  # pytorch#7999, mxnet#11115
    x = np.array([[[np.nan, -1, -0.0, 2]]], F)
    one = np.ones((1, 1, 1), F)
    want = np.array([[[np.nan, 0, 0, 2]]], F)
    assert_equal(backend.run(cuconv.relu, x), want)
    assert_equal(backend.run(cuconv.conv1d, x, one, activation="relu"), want)
    assert not np.signbit(backend.run(cuconv.relu, x)[0, 0, 2])


def test_nan_stays_local(backend):  # scipy#15927
    x = np.ones((1, 1, 9, 9), F)
    x[0, 0, 4, 4] = np.nan
    for algo in ("direct", "auto"):
        y = backend.run(cuconv.conv2d, x, np.ones((1, 1, 3, 3), F), algo=algo)
        want = np.full((7, 7), 9, F)
        want[2:5, 2:5] = np.nan
        assert_equal(y[0, 0], want)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_ceil_mode_windows_start_inside(backend, size):  # pytorch#45357; onnxruntime#15446
    x = np.arange(1, size + 1, dtype="f4").reshape(1, 1, size)
    y = backend.run(cuconv.max_pool1d, x, 1, 2, ceil_mode=True)
    assert_equal(y, x[..., ::2])
    y = backend.run(cuconv.max_pool1d, x, 2, 2, 1, ceil_mode=True)
    starts = [s for s in range(-1, size + 1, 2) if s < size][: (size + 2 - 2 + 1) // 2 + 1]
    want = [max(x[0, 0, max(0, s) : s + 2]) for s in starts]
    assert_equal(y, np.array(want, F).reshape(1, 1, -1))


def test_ceil_mode_does_not_count_past_the_padding(backend):  # pytorch#57178
    x = np.ones((1, 1, 4), F)
    y = backend.run(cuconv.avg_pool1d, x, 3, 2, 1, ceil_mode=True)
    assert_within(y, np.array([[[2 / 3, 1, 1 / 2]]]), 1e-7)


def test_float16_sums_past_its_range(backend):  # cupy#6047
    half = np.float16
    x = np.array([[[40000, 40000, -40000]]], half)
    assert_equal(
        backend.run(cuconv.conv1d, x, np.ones((1, 1, 3), half)), np.array([[[40000]]], half)
    )
    ones = np.ones((1, 1, 4096), half)
    assert backend.run(cuconv.conv1d, ones, ones).item() == 4096  # adding 1 to 2048 changes nothing
    assert backend.run(cuconv.global_avg_pool, ones).item() == 1
    g = np.ones((1, 1, 4096), ml_dtypes.bfloat16)
    assert float(backend.run(cuconv.conv1d_bias_grad, g)[0]) == 4096


# ---- processes, threads, memory, messages ----

DIGEST = """
import hashlib, numpy as np, cuconv
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 5, 17, 19)), rng.standard_normal((4, 5, 3, 3))
with cuconv.use_backend({backend!r}):
    y = cuconv.conv2d(x, w)
    gw = cuconv.conv2d_weight_grad(y, x, w.shape)
print(hashlib.sha256(y.tobytes() + gw.tobytes()).hexdigest())
"""


def test_same_bits_in_two_processes(backend):  # pytorch#6351, #3614
    if backend.name == "cuda":
        pytest.skip("one process of its own for a GPU context each: left to bench/gpu_session.sh")
    script = DIGEST.format(backend=backend.name)
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


def test_threads_do_not_disturb_each_other(backend):  # cupy#8068
    cases = [(drawn(i, 2, 3, 9, 8), drawn(i + 50, 4, 3, 3, 3)) for i in range(6)]
    wanted = [backend.run(cuconv.conv2d, *c) for c in cases]
    found = [None] * len(cases)

    def work(i):
        for _ in range(5):
            found[i] = backend.run(cuconv.conv2d, *cases[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, want in zip(found, wanted, strict=True):
        assert_equal(got, want)


def test_workspace_limit_is_kept_or_refused(backend):  # caffe#353
    x, w = drawn(1, 1, 8, 30, 31), drawn(2, 8, 8, 5, 5)
    want = backend.run(cuconv.conv2d, x, w)
    for limit in (0, 100_000, 10**9):
        assert_equal(backend.run(cuconv.conv2d, x, w, workspace_limit=limit), want)


def test_refusals_name_their_cause(backend):  # pytorch#11065, #1664
    x = drawn(1, 1, 1, 5, 6)
    for algo, kernel in (("winograd", 5), ("fft", 1)):
        with pytest.raises(cuconv.UnsupportedError, match=f"{algo}.*direct.*im2col"):
            backend.run(cuconv.conv2d, x, drawn(2, 1, 1, kernel, kernel), algo=algo)


def test_comparisons_let_no_nan_pass():
    got, want = np.array([1, np.nan]), np.array([1.0, 2.0])
    with pytest.raises(AssertionError, match=r"first at \(1,\)"):
        assert_equal(got, want)
    with pytest.raises(AssertionError, match=r"first at \(1,\)"):
        assert_within(got, want, 1e9)
    with pytest.raises(AssertionError, match=r"first at \(0,\)"):
        assert_within(want, np.array([2.0, 2.0]), 0.5)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_at_half_their_size(backend, reference, dtype):
    """NumPy calls them aligned; a kernel that loads one at a time does not."""
    if backend.name == "cuda":
        pytest.skip("moving them to the device aligns them")
    rng = np.random.default_rng(4)
    part = np.dtype(dtype).itemsize // 2
    whole = problems.integers(rng, (2, 4, 6, 8), np.dtype(dtype))
    memory = np.zeros(whole.size * 2 + 1, f"f{part}")[1:].view(dtype)
    x = memory[: whole.size].reshape(whole.shape)
    x[...] = whole
    w = problems.integers(rng, (4, 1, 3, 3), np.dtype(dtype))
    for function, *rest in ((cuconv.conv2d, w), (cuconv.avg_pool2d, 2)):
        options = {"groups": 4} if function is cuconv.conv2d else {}
        want = reference.run(function, whole, *rest, **options)
        assert_equal(backend.run(function, x, *rest, **options), want)


def test_indices_in_records(backend, reference):
    """Strides that are no multiple of their size."""
    if backend.name == "cuda":
        pytest.skip("CuPy has no records")
    x = problems.integers(np.random.default_rng(5), (1, 2, 6, 6), np.dtype("f4"))
    y, indices = reference.run(cuconv.max_pool2d, x, 2, return_indices=True)
    records = np.zeros(indices.shape, [("v", "f4"), ("i", "i8")])
    records["i"] = indices
    want = reference.run(cuconv.max_pool2d_grad, y, indices, x.shape)
    assert_equal(backend.run(cuconv.max_pool2d_grad, y, records["i"], x.shape), want)


@pytest.mark.parametrize(
    ("stride", "high", "want"),
    [(2**59, 2**60, [5, 0, 0]), (2**60, 2**60 + 5, [5, 0]), (2**61, 2**61, [5, 0])],
    ids=str,
)
def test_steps_that_leave_63_bits(backend, stride, high, want):
    """Few outputs, whose tile would reach far beyond the last."""
    x, w = np.array([[[1.0, 2, 3]]], "f4"), np.array([[[5.0]]], "f4")
    got = backend.run(cuconv.conv1d, x, w, stride=stride, padding=[(0, high)])
    assert_equal(got, np.array([[want]], "f4"))
