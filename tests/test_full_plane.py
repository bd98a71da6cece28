"""Convolution by transforms of whole planes: its arithmetic, on NumPy and scipy.fft.

What CuPy and cuFFT add to it is tested on a pretended CuPy, in test_cuda_glue.py.
"""

import contextlib
import math
import tracemalloc

import numpy as np
import pytest
import scipy.fft

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide
from cuconv._backends import _full_plane
from cuconv._backends._full_plane import FullPlane, Library, good_length, plan_of
from cuconv._backends.numpy_backend import NumpyBackend
from cuconv._problem import conv_call
from test_registry import call_of
from winograd_bound import rounding

PLANNED = []  # (planes and lengths, kind) of every transform
DIRECTIONS = ("forward", "input_grad", "weight_grad")


@contextlib.contextmanager
def planned(array, shape, axes, kind):
    """A plan with the work area that cuFFT takes in the worst case."""
    assert array.flags.c_contiguous
    assert axes == tuple(range(-len(shape), 0))
    PLANNED.append((array.shape[0], shape, kind))
    item = array.dtype.itemsize * (2 if kind == "R2C" else 1)
    elements = array.shape[0] * math.prod(shape)
    work = np.empty(_full_plane.WORK_AREA * elements * item, np.uint8)
    yield
    del work


class Planes:
    """An executor."""

    algo, variant = "fft", _full_plane.NAME

    def __init__(self, direction, problem, options):
        plan = plan_of(direction, problem, options.workspace_limit)
        if plan.refusal:
            raise cuconv.UnsupportedError(plan.refusal)
        self.workspace_bytes = plan.workspace
        library = Library(np, scipy.fft, planned)
        self.compute = FullPlane(library, direction, problem, options, plan).compute

    def __call__(self, *operands):
        with np.errstate(all="ignore"):
            self.compute(*operands)


@pytest.fixture
def planes(monkeypatch):
    """The public functions on NumPy arrays, computed by whole planes."""
    monkeypatch.setattr(NumpyBackend, "conv", lambda _, *request: Planes(*request))
    PLANNED.clear()


def bound_of(call, dtype):
    """docs/bounds.md: (20 (log2 L + 2) + 1.5 M) eps of the norms; or one integer from the next."""
    _, (first, second, *_), _ = call
    norms = np.linalg.norm(wide(first).ravel()) * np.linalg.norm(wide(second).ravel())
    repeats = 3 ** (second.ndim - 2)  # of an element, by a border made of the image
    factor = 20 * (math.log2(4096) + 2) + 1.5 * first.size
    return min(0.3, factor * summed_eps(dtype) * norms * repeats)


def single_tap(rank, direction, arguments, options):
    shape = arguments[2] if direction == "weight_grad" else arguments[1].shape
    last = options.get("layout") == problems.LAST[rank]
    return math.prod(shape[1:-1] if last else shape[2:]) == 1


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
def test_drawn_problems(planes, reference, direction, dtype):
    ran = 0
    for rank in (1, 2, 3):
        for seed in range(700, 716):
            call = call_of(reference, seed, rank, dtype, direction)
            function, arguments, options = call
            want = reference.run(function, *arguments, **options)
            if dtype.itemsize == 2 and np.abs(want.astype("f8")).max(initial=0) > 200:
                continue  # a sum that bfloat16 cannot hold
            if single_tap(rank, direction, arguments, options):
                with pytest.raises(cuconv.UnsupportedError, match="single tap"):
                    function(*arguments, **options)
                continue
            got = function(*arguments, **options)
            ran += 1
            assert_within(got, want, bound_of(call, dtype) + rounding(wide(want), dtype))
    assert ran > 20


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("w_shape", [(3, 2, 40, 53), (3, 2, 61, 70), (3, 2, 7, 1)])
def test_bound(planes, reference, dtype, w_shape):
    """Of kernels as large as the image, larger, and thin ones."""
    rng, dtype = np.random.default_rng(5), np.dtype(dtype)
    x = problems.normal(rng, (2, 2, 40, 53), dtype)
    w = problems.normal(rng, w_shape, dtype)
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), padding="same")
    got = cuconv.conv2d(x, w, padding="same")
    norms = np.einsum("nc,kc->nk", *(np.linalg.norm(wide(a), axis=(2, 3)) for a in (x, w)))
    lengths = PLANNED[0][1]
    factor = 20 * (math.log2(math.prod(lengths)) + 2) + 1.5 * 2
    bound = factor * summed_eps(dtype) * norms[:, :, None, None]
    assert_within(got, exact, bound + np.abs(exact) * summed_eps(dtype))


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_bias_and_activation(planes, reference, activation):
    rng = np.random.default_rng(3)
    x, w, bias = (
        problems.normal(rng, shape, np.dtype("f8")) for shape in ((2, 2, 9, 8), (4, 2, 5, 4), (4,))
    )
    for function in (cuconv.conv2d, cuconv.conv_transpose2d):
        w_first = w if function is cuconv.conv2d else w.swapaxes(0, 1)
        options = {"padding": 1, "activation": activation}
        want = reference.run(function, x, w_first, bias, **options)
        assert_within(function(x, w_first, bias, **options), want, 1e-13)


@pytest.mark.parametrize("work_area", [_full_plane.WORK_AREA, 0])  # 0: the rest is not hidden by it
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("dtype", "groups"), [("f4", 3), ("f4", 6), ("c16", 3)])
def test_workspace_is_kept(planes, monkeypatch, dtype, groups, direction, work_area):
    """Chunks of groups, down to one at a time; less is refused, and never more is taken."""
    monkeypatch.setattr(_full_plane, "WORK_AREA", work_area)
    plan_of.cache_clear()
    buffer = np.setbufsize(16)  # NumPy's own, of 64 KiB an operand otherwise
    rng = np.random.default_rng(1)
    x, w = (
        problems.integers(rng, s, np.dtype(dtype))
        for s in ((3, 6, 40, 50), (6, 6 // groups, 31, 21))
    )
    options = {"padding": 15, "groups": groups}
    g = cuconv.conv2d(x, w, **options)
    function, arguments = {
        "forward": (cuconv.conv2d, (x, w)),
        "input_grad": (cuconv.conv2d_input_grad, (g, w, x.shape)),
        "weight_grad": (cuconv.conv2d_weight_grad, (g, x, w.shape)),
    }[direction]
    problem = conv_call(2, x.dtype, x.shape, w.shape, **options).problem
    one = plan_of(direction, problem, None).workspace // groups
    whole = function(*arguments, **options)
    for limit, chunks in ((groups * one, 1), (groups * one - 1, 2), (one, groups)):
        plan = plan_of(direction, problem, limit)
        assert plan.workspace <= limit
        assert -(-problem.groups // plan.groups) == chunks
        out = np.empty_like(whole)
        function(*arguments, **options, workspace_limit=limit, out=out)  # what is cached is there
        tracemalloc.start()
        function(*arguments, **options, workspace_limit=limit, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= plan.workspace + (8 << 10)
        assert np.abs(out - whole).max() < 0.1
    with pytest.raises(cuconv.UnsupportedError, match=f"takes {one} bytes .* limit is {one - 1}"):
        function(*arguments, **options, workspace_limit=one - 1)
    np.setbufsize(buffer)
    plan_of.cache_clear()


def test_images_do_not_depend_on_their_batch(planes):
    rng = np.random.default_rng(2)
    x, w = (problems.normal(rng, s, np.dtype("f4")) for s in ((3, 2, 30, 20), (2, 2, 25, 17)))
    y = cuconv.conv2d(x, w, padding="same")
    for n in range(3):
        assert cuconv.conv2d(x[n : n + 1], w, padding="same").tobytes() == y[n].tobytes()
    assert cuconv.conv2d(x, w, padding="same").tobytes() == y.tobytes()


def test_nothing_to_sum(planes, reference):
    cases = (
        ((0, 2, 5, 6), (3, 2, 3, 3), {}),
        ((2, 0, 5, 6), (3, 0, 3, 3), {}),
        ((2, 2, 0, 6), (3, 2, 3, 3), {"padding": 2}),
        ((2, 2, 5, 6), (0, 2, 3, 3), {}),
        ((1, 1, 3, 3), (1, 1, 2, 2), {"padding": ((0, 9), (0, 9)), "stride": 7}),
    )
    for x_shape, w_shape, options in cases:
        x, w = np.ones(x_shape, "f4"), np.ones(w_shape, "f4")
        bias = np.ones(w_shape[:1], "f4")
        want = reference.run(cuconv.conv2d, x, w, bias, **options)
        assert_within(cuconv.conv2d(x, w, bias, **options), want, 1e-5)
        g = np.ones_like(want)
        for function, call in (
            (cuconv.conv2d_input_grad, (g, w, x_shape)),
            (cuconv.conv2d_weight_grad, (g, x, w_shape)),
        ):
            want = reference.run(function, *call, **options)
            assert_within(function(*call, **options), want, 1e-4)


def test_planes_are_no_longer_than_they_must_be():
    assert [good_length(n) for n in (1, 2, 11, 13, 121, 2111, 1 << 27)] == [
        1, 2, 12, 14, 125, 2160, 1 << 27,
    ]  # fmt: skip

    def lengths(direction, **options):
        problem = conv_call(2, "f4", (1, 1, 240, 360), (1, 1, 121, 121), **options).problem
        return plan_of(direction, problem, None).sizes.lengths

    for direction in DIRECTIONS:
        assert lengths(direction) == (1, 240, 360)  # what wraps around is not wanted
        assert lengths(direction, padding=60) == (1, 300, 420)
        assert lengths(direction, padding="full") == (1, 360, 480)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_huge_problems_are_refused_by_numbers_alone(direction):
    def refusal(x_shape, w_shape, dtype="f4", **options):
        rank = len(x_shape) - 2
        problem = conv_call(rank, dtype, x_shape, w_shape, **options).problem
        return plan_of(direction, problem, None).refusal

    assert "single tap" in refusal((1, 1, 9), (1, 1, 1))
    assert "2^27 positions" in refusal((1, 1, 1 << 60), (1, 1, 3))
    assert "2^27 positions" in refusal((1, 1, 9), (1, 1, 3), padding=1 << 60, stride=1 << 59)
    assert "2^26), or than 2^31" in refusal((1, 1, 1 << 14, 1 << 14), (1, 1, 3, 3))
    assert refusal((1, 1, 1 << 13, 1 << 13), (1, 1, 3, 3)) == ""
    assert "2^26), or than 2^31" in refusal((1, 1, 1 << 13, 3 << 12), (1, 1, 3, 3), "f8")
    assert "2^26), or than 2^31" in refusal((1, 99, 1 << 13, 1 << 13), (9, 99, 3, 3))


def test_a_nan_stays_in_its_group(planes):
    """Of its image, where it spreads."""
    x = np.ones((2, 2, 9, 9), "f4")
    w = np.ones((2, 1, 5, 5), "f4")
    want = cuconv.conv2d(x, w, groups=2)
    x[0, 1, 4, 4] = np.nan
    got = cuconv.conv2d(x, w, groups=2)
    assert np.isnan(got[0, 1]).all()
    got[0, 1] = want[0, 1]
    assert_equal(got, want)
