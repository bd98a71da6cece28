"""The oracle against loops over every index, and against SciPy."""

import itertools

import ml_dtypes
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.special

import cuconv
import problems
from compare import assert_equal, assert_within


@pytest.fixture(autouse=True)
def oracle():
    with cuconv.use_backend("reference"):
        yield


def named(template, rank):
    return getattr(cuconv, template.format(rank))


def box(shape):
    return itertools.product(*map(range, shape))


# ---- loops over every index ----


def geometry(seed, rank):
    """A channels-first problem with explicit pairs for its padding."""
    rng = np.random.default_rng([seed, rank])
    groups = int(rng.integers(1, 3))
    kernel = tuple(int(n) for n in rng.integers(1, 4, rank))
    dilation = tuple(int(n) for n in rng.integers(1, 3, rank))
    stride = tuple(int(n) for n in rng.integers(1, 4, rank))
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 4, (rank, 2)))
    size = tuple(
        d * (k - 1) + 1 + int(rng.integers(0, 3)) for k, d in zip(kernel, dilation, strict=True)
    )
    x = problems.integers(rng, (2, 2 * groups, *size), np.dtype("complex128"))
    w = problems.integers(rng, (3 * groups, 2, *kernel), np.dtype("complex128"))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x, w, options


def products(x, w, stride, padding, dilation, groups):
    """Every (y's index, x's index, w's index) that meet: the definition, one by one."""
    (batch, channels), size = x.shape[:2], x.shape[2:]
    filters, kernel = w.shape[0], w.shape[2:]
    axes = range(len(size))
    output = [
        (size[a] + sum(padding[a]) - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in axes
    ]
    for n, k in itertools.product(range(batch), range(filters)):
        group = k // (filters // groups)
        for c in range(channels // groups):
            for o, t in itertools.product(box(output), box(kernel)):
                at = [o[a] * stride[a] + t[a] * dilation[a] - padding[a][0] for a in axes]
                if all(0 <= at[a] < size[a] for a in axes):
                    source = (n, group * (channels // groups) + c, *at)
                    yield (n, k, *o), source, (k, c, *t)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_and_gradients_against_loops(rank, seed):
    x, w, options = geometry(seed, rank)
    y = named("conv{}d", rank)(x, w, **options)
    g = problems.integers(np.random.default_rng(seed), y.shape, y.dtype)
    want_y, want_x, want_w = np.zeros_like(y), np.zeros_like(x), np.zeros_like(w)
    for i, j, k in products(x, w, **options):
        want_y[i] += x[j] * w[k]
        want_x[j] += g[i] * np.conj(w[k])
        want_w[k] += g[i] * np.conj(x[j])
    assert_equal(y, want_y)
    assert_equal(named("conv{}d_input_grad", rank)(g, w, x.shape, **options), want_x)
    assert_equal(named("conv{}d_weight_grad", rank)(g, x, w.shape, **options), want_w)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution_against_loops(rank, seed):
    rng = np.random.default_rng([seed, rank])
    groups = int(rng.integers(1, 3))
    kernel = tuple(int(n) for n in rng.integers(1, 4, rank))
    stride = tuple(int(n) for n in rng.integers(1, 4, rank))
    x = problems.integers(rng, (2, 2 * groups, *rng.integers(1, 4, rank)), np.dtype("complex128"))
    w = problems.integers(rng, (2 * groups, 3, *kernel), np.dtype("complex128"))
    extra = tuple(int(rng.integers(s)) for s in stride)
    size = [
        (n - 1) * s + r + e for n, s, r, e in zip(x.shape[2:], stride, kernel, extra, strict=True)
    ]
    want = np.zeros((2, 3 * groups, *size), x.dtype)
    for n, c in box(x.shape[:2]):
        for i, t in itertools.product(box(x.shape[2:]), box(kernel)):
            at = [a * s + b for a, s, b in zip(i, stride, t, strict=True)]
            for k in range(3):
                want[(n, c // 2 * 3 + k, *at)] += x[(n, c, *i)] * w[(c, k, *t)]
    got = named("conv_transpose{}d", rank)(x, w, stride=stride, groups=groups, output_padding=extra)
    assert_equal(got, want)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rank", [1, 2])
def test_pooling_against_loops(rank, seed):
    x, window, options = problems.draw_pool(seed, rank, np.dtype("float64"), dilated=False)
    options = {k: v for k, v in options.items() if k != "layout"}
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 2, *(rng.integers(4, 8, rank))))
    if isinstance(options.get("padding", 0), str):
        options["padding"] = 0
    padding = options.get("padding") or ((0, 0),) * rank
    stride, size = options["stride"], x.shape[2:]
    largest, positions = named("max_pool{}d", rank)(x, window, return_indices=True, **options)
    means = named("avg_pool{}d", rank)(x, window, **options)
    bare = named("avg_pool{}d", rank)(x, window, count_include_pad=False, **options)
    g = rng.integers(-3, 4, means.shape).astype("f8")
    max_grad, avg_grad = np.zeros_like(x), np.zeros_like(x)
    for n, c, *o in box(largest.shape):
        taps = []
        counted = 0
        for t in box(window):
            at = [a * s + b - p[0] for a, s, b, p in zip(o, stride, t, padding, strict=True)]
            if all(a < s + p[1] for a, s, p in zip(at, size, padding, strict=True)):
                counted += 1
            if all(0 <= a < s for a, s in zip(at, size, strict=True)):
                taps.append(tuple(at))
        values = [x[(n, c, *at)] for at in taps]
        index = (n, c, *o)
        assert largest[index] == max(values)
        best = taps[values.index(max(values))]
        assert positions[index] == np.ravel_multi_index(best, size)
        assert abs(means[index] - sum(values) / counted) <= 1e-15
        assert abs(bare[index] - sum(values) / len(values)) <= 1e-15
        max_grad[(n, c, *best)] += g[index]
        for at in taps:
            avg_grad[(n, c, *at)] += g[index] / counted
    assert_equal(named("max_pool{}d_grad", rank)(g, positions, x.shape), max_grad)
    got = named("avg_pool{}d_grad", rank)(g, x.shape, window, **options)
    assert_within(got, avg_grad, 1e-14)


# ---- SciPy ----


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_against_scipy_signal(rank, mode):
    rng = np.random.default_rng(rank)
    x = problems.integers(rng, (7, 6, 5)[:rank], np.dtype("complex128"))
    w = problems.integers(rng, (3, 4, 2)[:rank], np.dtype("complex128"))
    # "same" of SciPy is the centre of "full", rounded down: the odd cell is at the beginning
    options = {"padding": {"same": "same_lower"}.get(mode, mode)}
    conv = named("conv{}d", rank)
    flipped = conv(x[None], w[None, None], flip_kernel=True, **options)[0]
    assert_equal(flipped, scipy.signal.convolve(x, w, mode, method="direct"))
    if mode != "same":
        plain = conv(x[None], w[None, None].conj(), **options)[0]
        assert_equal(plain, scipy.signal.correlate(x, w, mode, method="direct"))


@pytest.mark.parametrize(
    ("mode", "theirs"), [("reflect", "mirror"), ("replicate", "nearest"), ("circular", "grid-wrap")]
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_borders_against_scipy_ndimage(rank, mode, theirs):
    rng = np.random.default_rng(rank)
    x = rng.integers(-9, 10, (7, 6, 5)[:rank]).astype("f8")
    w = rng.integers(-9, 10, (3, 5, 3)[:rank]).astype("f8")
    got = named("conv{}d", rank)(x[None], w[None, None], padding="same", padding_mode=mode)[0]
    assert_equal(got, scipy.ndimage.correlate(x, w, mode=theirs))


def test_maximum_against_scipy_ndimage():
    x = np.random.default_rng(0).standard_normal((9, 8))
    got = cuconv.max_pool2d(x[None], (3, 5), 1, padding="same")[0]
    want = scipy.ndimage.maximum_filter(x, (3, 5), mode="constant", cval=-np.inf)
    assert_equal(got, want)


def test_functions_against_scipy_special():
    x = np.random.default_rng(0).standard_normal((4, 5)) * 10
    assert_within(cuconv.sigmoid(x), scipy.special.expit(x), 1e-15)
    assert_within(cuconv.softmax(x, 0), scipy.special.softmax(x, 0), 1e-15)


# ---- rounding ----


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_sums_are_rounded_once(dtype):
    """Adding 1 to a number whose neighbours are further away: lost one by one, not in the sum."""
    large = 2.0 ** (ml_dtypes.finfo(dtype).nmant + 2)
    x = np.array([[large] + [1] * 8]).astype(dtype)
    y = cuconv.conv1d(x, np.ones((1, 1, 9), dtype))
    assert float(y[0, 0]) == large + 8
