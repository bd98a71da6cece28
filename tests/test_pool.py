"""Pooling and its gradients on every backend."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide


def named(template, rank):
    return getattr(cuconv, template.format(rank))


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_values_and_positions(backend, reference, rank, dtype):
    for seed in range(12):
        x, window, options = problems.draw_pool(seed, rank, dtype, dilated=True)
        options["return_indices"] = True
        want = reference.run(named("max_pool{}d", rank), x, window, **options)
        got = backend.run(named("max_pool{}d", rank), x, window, **options)
        for g, w in zip(got, want, strict=True):
            assert_equal(g, w)
        del options["return_indices"]
        assert_equal(backend.run(named("max_pool{}d", rank), x, window, **options), want[0])


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool_gradient(backend, reference, rank, dtype):
    for seed in range(12):
        x, window, options = problems.draw_pool(seed, rank, dtype, dilated=True)
        y, indices = reference.run(
            named("max_pool{}d", rank), x, window, return_indices=True, **options
        )
        rng = np.random.default_rng(seed)
        g = problems.arranged(rng, problems.integers(rng, y.shape, dtype))
        call = (named("max_pool{}d_grad", rank), g, problems.arranged(rng, indices), x.shape)
        layout = options.get("layout")
        assert_equal(backend.run(*call, layout=layout), reference.run(*call, layout=layout))


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool_and_gradient(backend, reference, rank, dtype):
    for seed in range(12):
        x, window, options = problems.draw_pool(seed, rank, dtype, dilated=False)
        options["count_include_pad"] = bool(seed % 2)
        function = named("avg_pool{}d", rank)
        exact = reference.run(function, wide(x), window, **options)
        bound = 40 * summed_eps(dtype) + np.abs(exact) * eps(dtype)  # |x| <= 3, mean of them
        assert_within(backend.run(function, x, window, **options), exact, bound)

        rng = np.random.default_rng(seed)
        g = problems.arranged(rng, problems.integers(rng, exact.shape, dtype))
        function = named("avg_pool{}d_grad", rank)
        exact = reference.run(function, wide(g), x.shape, window, **options)
        bound = 300 * summed_eps(dtype) + np.abs(exact) * eps(dtype)
        assert_within(backend.run(function, g, x.shape, window, **options), exact, bound)


def eps(dtype):
    return summed_eps(dtype) if dtype.itemsize != 2 else 2.0**-8


def test_avg_pool_of_powers_of_two_is_exact(backend):
    x = np.arange(2 * 3 * 8 * 4, dtype="f4").reshape(2, 3, 8, 4)
    want = x.reshape(2, 3, 4, 2, 2, 2).mean(axis=(3, 5), dtype="f4")
    assert_equal(backend.run(cuconv.avg_pool2d, x, 2), want)


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
def test_global_avg_pool(backend, dtype):
    x = problems.integers(np.random.default_rng(0), (2, 3, 4, 8), dtype)
    want = wide(x).mean(axis=(2, 3), keepdims=True)
    assert_within(backend.run(cuconv.global_avg_pool, x), want, np.abs(want) * eps(dtype) + 1e-30)
    last = backend.run(cuconv.global_avg_pool, np.moveaxis(x, 1, -1), layout="NHWC")
    assert last.shape == (2, 1, 1, 3)
    assert_within(np.moveaxis(last, -1, 1), want, np.abs(want) * eps(dtype) + 1e-30)


def test_many_windows_share_a_maximum(backend):
    """More outputs than a block of the gradient takes at once, all over one element."""
    x = np.zeros((1, 1, 400), "f4")
    x[0, 0, 200] = 1
    y, indices = backend.run(cuconv.max_pool1d, x, 399, 1, ((300, 300),), return_indices=True)
    g = np.arange(y.size, dtype="f4").reshape(y.shape) % 5
    want = np.zeros_like(x)
    np.add.at(want[0, 0], indices[0, 0], g[0, 0])
    assert_equal(backend.run(cuconv.max_pool1d_grad, g, indices, x.shape), want)


def test_positions_outside_the_plane_are_left_out(backend):
    indices = np.array([[[0, -1, 3, 4, 2**62]]])
    g = np.ones((1, 1, 5), "f4")
    want = np.array([[[1, 0, 0, 1]]], "f4")
    assert_equal(backend.run(cuconv.max_pool1d_grad, g, indices, (1, 1, 4)), want)


def test_out_is_used(backend):
    x = np.arange(24, dtype="f4").reshape(1, 2, 3, 4)
    for function in (cuconv.max_pool2d, cuconv.avg_pool2d):
        want = backend.run(function, x, 2)
        with backend.select():
            out = backend.to_device(np.zeros_like(want))
            assert function(backend.to_device(x), 2, out=out) is out
        assert_equal(backend.to_host(out), want)


@pytest.mark.parametrize("function", [cuconv.max_pool2d, cuconv.avg_pool2d])
def test_empty_batch_and_channels(backend, function):
    assert backend.run(function, np.ones((0, 3, 4, 5), "f4"), 2).shape == (0, 3, 2, 2)
    assert backend.run(function, np.ones((2, 0, 4, 5), "f4"), 2).shape == (2, 0, 2, 2)
