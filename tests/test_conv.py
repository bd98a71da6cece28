"""Convolution on every backend: the oracle's bits on integers, its value within the bound else."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, sum_bound, wide

SEEDS = [range(start, start + 12) for start in (0, 12)]


def forward(p):
    return getattr(cuconv, f"conv{p.rank}d")


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_forward_is_exact_on_integers(backend, reference, rank, dtype, seeds):
    for seed in seeds:
        p = problems.draw_conv(seed, rank, dtype)
        options = {**p.options, "activation": p.activation}
        want = reference.run(forward(p), p.x, p.w, p.bias, **options)
        try:
            assert_equal(backend.run(forward(p), p.x, p.w, p.bias, **options), want)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {p}") from error


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_forward_is_within_the_bound(backend, reference, rank, dtype):
    for seed in range(100, 108):
        p = problems.draw_conv(seed, rank, dtype, make=problems.normal)
        arrays = [p.x, p.w] + ([] if p.bias is None else [p.bias])
        exact = reference.run(forward(p), *map(wide, arrays), **p.options)
        absolute = reference.run(forward(p), *(np.abs(wide(a)) for a in arrays), **p.options)
        terms = p.w[0].size + 1
        got = backend.run(forward(p), *arrays, **p.options)
        assert got.dtype == dtype
        assert_within(got, exact, sum_bound(dtype, terms, absolute, exact))


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_is_exact_on_integers(backend, reference, rank, dtype):
    function = getattr(cuconv, f"conv_transpose{rank}d")
    for seed in range(10):
        x, w, bias, options = problems.draw_transposed(seed, rank, dtype)
        want = reference.run(function, x, w, bias, **options)
        try:
            assert_equal(backend.run(function, x, w, bias, **options), want)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: x {x.shape}, w {w.shape}, {options}") from error


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_activations_are_applied_before_rounding(backend, reference, dtype, activation):
    rng = np.random.default_rng(5)
    x, w = problems.integers(rng, (2, 3, 5, 6), dtype), problems.integers(rng, (4, 3, 2, 2), dtype)
    bias = problems.integers(rng, (4,), dtype)
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), wide(bias), activation=activation)
    got = backend.run(cuconv.conv2d, x, w, bias, activation=activation)
    assert_within(got, exact, sum_bound(dtype, 8, np.abs(exact), exact))


@pytest.mark.parametrize("channels", [1, 3, 8, 17])
@pytest.mark.parametrize("filters", [1, 7, 8, 9])
def test_channels_around_the_tiles(backend, reference, channels, filters):
    rng = np.random.default_rng(channels * 100 + filters)
    dtype = np.dtype("float32")
    x = problems.integers(rng, (1, channels, 17, 33), dtype)
    w = problems.integers(rng, (filters, channels, 3, 3), dtype)
    want = reference.run(cuconv.conv2d, x, w, padding=1)
    assert_equal(backend.run(cuconv.conv2d, x, w, padding=1), want)


def test_same_call_same_bits(backend):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 5, 20, 23)), rng.standard_normal((7, 5, 3, 3))
    first = backend.run(cuconv.conv2d, x, w, padding=1)
    for _ in range(3):  # in emulation each time under another schedule
        assert backend.run(cuconv.conv2d, x, w, padding=1).tobytes() == first.tobytes()


def test_an_image_does_not_depend_on_its_batch(backend):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5, 6, 18, 11)).astype("f4")
    w = rng.standard_normal((9, 6, 3, 3)).astype("f4")
    whole = backend.run(cuconv.conv2d, x, w)
    for n in range(5):
        assert backend.run(cuconv.conv2d, x[n : n + 1], w).tobytes() == whole[n].tobytes()


def test_layouts_agree(backend):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 3, 7, 9)), rng.standard_normal((4, 3, 2, 3))
    first = backend.run(cuconv.conv2d, x, w, stride=2, padding=1)
    last = backend.run(
        cuconv.conv2d,
        np.moveaxis(x, 1, -1).copy(),
        np.moveaxis(w, 1, -1).copy(),
        stride=2,
        padding=1,
        layout="NHWC",
    )
    assert_equal(np.moveaxis(last, -1, 1), first)


def test_out_is_used(backend):
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((2, 3, 7, 9)), rng.standard_normal((4, 3, 3, 3))
    want = backend.run(cuconv.conv2d, x, w)
    with backend.select():
        out = backend.to_device(np.full(want.shape[::-1], np.nan)).T  # any strides
        result = cuconv.conv2d(backend.to_device(x), backend.to_device(w), out=out)
    assert result is out
    assert_equal(backend.to_host(out), want)


def test_out_may_overlap_an_input(backend):
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 2, 6, 5)), rng.standard_normal((2, 2, 3, 3))
    want = backend.run(cuconv.conv2d, x, w, padding=1)
    with backend.select():
        device = backend.to_device(x.copy())
        cuconv.conv2d(device, backend.to_device(w), padding=1, out=device)
        assert_equal(backend.to_host(device), want)
        if backend.name != "cuda":
            memory = np.concatenate([x.ravel(), np.zeros(7)])
            source, target = memory[:60].reshape(x.shape), memory[7:].reshape(x.shape)
            cuconv.conv2d(source, w, padding=1, out=target)
            assert_equal(target, want)


def test_inputs_are_never_changed(backend):
    p = problems.draw_conv(3, 2, np.dtype("float32"))
    before = p.x.copy(), p.w.copy()
    backend.run(cuconv.conv2d, p.x, p.w, **p.options)
    assert_equal(np.ascontiguousarray(p.x), before[0])
    assert_equal(np.ascontiguousarray(p.w), before[1])
