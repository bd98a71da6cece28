"""Gradients on every backend: against the oracle, as adjoints, and against finite differences."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, sum_bound, wide


def named(template, rank):
    return getattr(cuconv, template.format(rank))


def drawn_gradient(reference, seed, rank, dtype, make=problems.integers):
    """A problem and a gradient of its result's shape."""
    p = problems.draw_conv(seed, rank, dtype, make=make)
    y = reference.run(named("conv{}d", rank), p.x, p.w, **p.options)
    rng = np.random.default_rng(seed)
    return p, problems.arranged(rng, make(rng, y.shape, dtype))


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_are_exact_on_integers(backend, reference, rank, dtype):
    for seed in range(200, 212):
        p, g = drawn_gradient(reference, seed, rank, dtype)
        for function, arguments in (
            (named("conv{}d_input_grad", rank), (g, p.w, p.x.shape)),
            (named("conv{}d_weight_grad", rank), (g, p.x, p.w.shape)),
        ):
            want = reference.run(function, *arguments, **p.options)
            if dtype.itemsize == 2 and np.abs(want.astype("f8")).max(initial=0) > 200:
                continue  # a sum that bfloat16 cannot hold
            try:
                assert_equal(backend.run(function, *arguments, **p.options), want)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {function.__name__} of {p}") from error


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_are_within_the_bound(backend, reference, rank, dtype):
    for seed in range(300, 304):
        p, g = drawn_gradient(reference, seed, rank, dtype, make=problems.normal)
        for name, arguments, terms in (
            ("conv{}d_input_grad", (g, p.w, p.x.shape), p.w.size),
            ("conv{}d_weight_grad", (g, p.x, p.w.shape), g.size),
        ):
            function = named(name, rank)
            a, b, shape = arguments
            exact = reference.run(function, wide(a), wide(b), shape, **p.options)
            absolute = reference.run(function, np.abs(wide(a)), np.abs(wide(b)), shape, **p.options)
            got = backend.run(function, *arguments, **p.options)
            # folding a border back adds once more for each of the axes
            assert_within(got, exact, sum_bound(dtype, terms + 8, absolute, exact))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_are_adjoint_to_the_forward(backend, rank, dtype):
    """<conv(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(g, x)>, exactly on integers."""
    for seed in range(400, 408):
        p = problems.draw_conv(seed, rank, np.dtype(dtype))
        y = backend.run(named("conv{}d", rank), p.x, p.w, **p.options)
        g = problems.integers(np.random.default_rng(seed), y.shape, np.dtype(dtype))
        gx = backend.run(named("conv{}d_input_grad", rank), g, p.w, p.x.shape, **p.options)
        gw = backend.run(named("conv{}d_weight_grad", rank), g, p.x, p.w.shape, **p.options)
        want = np.vdot(g, y)
        assert np.vdot(gx, p.x) == want, f"seed {seed}: {p}"
        assert np.vdot(gw, p.w) == want, f"seed {seed}: {p}"


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_bias_gradient(backend, rank, dtype):
    rng = np.random.default_rng(rank)
    function = named("conv{}d_bias_grad", rank)
    g = problems.integers(rng, (3, 4, *(5, 7, 3)[:rank]), dtype)
    want = wide(g).sum(axis=(0, *range(2, rank + 2))).astype(dtype)
    assert_equal(backend.run(function, problems.arranged(rng, g)), want)
    last = np.moveaxis(g, 1, -1)
    assert_equal(backend.run(function, last, layout=problems.LAST[rank]), want)
    assert_equal(backend.run(function, g[:0]), np.zeros(4, dtype))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_gradients_against_central_differences(backend, mode):
    """f(x, w) = sum(g * conv(x, w)) is bilinear, so the differences are exact but for rounding."""
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal((1, 2, 5, 4)), rng.standard_normal((2, 2, 3, 2))
    options = {"stride": (2, 1), "padding": ((2, 1), (1, 1)), "padding_mode": mode}
    y = backend.run(cuconv.conv2d, x, w, **options)
    g = rng.standard_normal(y.shape)

    def differences(array, value):
        result = np.empty_like(array)
        for index in np.ndindex(*array.shape):
            step = np.zeros_like(array)
            step[index] = 0.5
            result[index] = value(array + step) - value(array - step)
        return result

    with cuconv.use_backend("reference"):
        gx = differences(x, lambda v: (cuconv.conv2d(v, w, **options) * g).sum())
        gw = differences(w, lambda v: (cuconv.conv2d(x, v, **options) * g).sum())
    assert_within(backend.run(cuconv.conv2d_input_grad, g, w, x.shape, **options), gx, 1e-12)
    assert_within(backend.run(cuconv.conv2d_weight_grad, g, x, w.shape, **options), gw, 1e-12)


def test_the_activation_is_undone_first(backend):
    """A layer with ReLU: its gradient against central differences."""
    rng = np.random.default_rng(8)
    x, w = rng.standard_normal((1, 2, 4, 5)), rng.standard_normal((3, 2, 2, 2))
    y = backend.run(cuconv.conv2d, x, w, activation="relu")
    g = rng.standard_normal(y.shape)
    masked = backend.run(cuconv.relu_grad, g, y)
    gx = backend.run(cuconv.conv2d_input_grad, masked, w, x.shape)
    step = 1e-6
    for index in [(0, 0, 0, 0), (0, 1, 2, 3), (0, 1, 3, 4)]:
        moved = x.copy()
        moved[index] += step
        up = (cuconv.conv2d(moved, w, activation="relu") * g).sum()
        moved[index] -= 2 * step
        down = (cuconv.conv2d(moved, w, activation="relu") * g).sum()
        assert abs((up - down) / (2 * step) - gx[index]) <= 1e-7


@pytest.mark.parametrize("function", ["input", "weight"])
def test_same_gradient_same_bits(backend, function):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 5, 20, 23)), rng.standard_normal((7, 5, 3, 3))
    g = rng.standard_normal((2, 7, 18, 21))
    if function == "input":
        call = (cuconv.conv2d_input_grad, g, w, x.shape)
    else:
        call = (cuconv.conv2d_weight_grad, g, x, w.shape)
    first = backend.run(*call)
    for _ in range(3):
        assert backend.run(*call).tobytes() == first.tobytes()
