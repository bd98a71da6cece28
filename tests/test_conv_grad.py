"""Gradients of convolutions on every backend: against the oracle, and as adjoints."""

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
