"""Element-wise functions and softmax on every backend."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide

SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 5, 4), (2, 1, 2, 1, 2, 1, 2, 1, 2, 3)]


def drawn(seed, shape, dtype, make=problems.normal):
    rng = np.random.default_rng(seed)
    x = np.asarray(make(rng, shape, dtype))
    return problems.arranged(rng, x) if x.ndim else x


def storing_eps(dtype):
    return 2.0**-8 if dtype.itemsize == 2 else summed_eps(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_relu_and_gradient(backend, dtype, shape):
    for seed in range(4):
        x, g = drawn(seed, shape, dtype), drawn(seed + 50, shape, dtype)
        positive = wide(x) > 0
        want = np.where(positive, wide(x), 0).astype(dtype)
        assert_equal(backend.run(cuconv.relu, x), want)
        want = np.where(positive, wide(g), 0).astype(dtype)
        assert_equal(backend.run(cuconv.relu_grad, g, x), want)


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_relu_keeps_nan_and_clears_the_sign_of_zero(backend, dtype):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, -1, 1], np.float64).astype(dtype)
    y = backend.run(cuconv.relu, x)
    assert_equal(y, np.array([np.nan, 0, np.inf, 0, 0, 0, 1], np.float64).astype(dtype))
    assert not np.signbit(wide(y)[1:]).any()
    g = np.arange(1, 8).astype(dtype)
    want = np.array([1, 0, 3, 0, 0, 0, 7], np.float64).astype(dtype)
    assert_equal(backend.run(cuconv.relu_grad, g, y), want)  # NaN lets the gradient pass


def test_relu_in_place(backend):
    x = np.linspace(-1, 1, 24).reshape(2, 3, 4)
    want = np.maximum(x, 0)
    with backend.select():
        device = backend.to_device(x.copy())
        assert cuconv.relu(device, out=device) is device
    assert_equal(backend.to_host(device), want)


def test_relu_grad_into_either_input(backend):
    y = np.array([-1.0, 2.0, 3.0])
    g = np.array([5.0, 6.0, 7.0])
    for into in (0, 1):
        with backend.select():
            arrays = [backend.to_device(g.copy()), backend.to_device(y.copy())]
            cuconv.relu_grad(*arrays, out=arrays[into])
        assert_equal(backend.to_host(arrays[into]), np.array([0.0, 6.0, 7.0]))


def test_relu_onto_a_shifted_view_of_its_input(backend):
    if backend.name == "cuda":
        pytest.skip("views are shifted on the host here")
    memory = np.array([-1.0, 2.0, -3.0, 4.0, -5.0, 6.0])
    with backend.select():
        cuconv.relu(memory[:-1], out=memory[1:])
    assert_equal(memory, np.array([-1.0, 0.0, 2.0, 0.0, 4.0, 0.0]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_sigmoid(backend, dtype, shape):
    x = drawn(3, shape, dtype)
    exact = 1 / (1 + np.exp(-wide(x)))
    bound = exact * (8 * summed_eps(dtype) + storing_eps(dtype))
    assert_within(backend.run(cuconv.sigmoid, x), exact, bound)


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_sigmoid_of_large_numbers(backend, dtype):
    x = np.array([-np.inf, -1e4, 1e4, np.inf, np.nan]).astype(dtype)
    want = np.array([0, 0, 1, 1, np.nan]).astype(dtype)
    assert_within(backend.run(cuconv.sigmoid, x), wide(want), 1e-30)


@pytest.mark.parametrize("length", [1, 5, 32, 33, 700])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_softmax(backend, dtype, length):
    for axis in (0, 1, -1):
        shape = [2, 3, 4]
        shape[axis] = length
        x = drawn(axis + 9, tuple(shape), dtype)
        powers = np.exp(wide(x))
        exact = powers / powers.sum(axis=axis, keepdims=True)
        relative = (length + 16) * summed_eps(dtype) + storing_eps(dtype)
        got = backend.run(cuconv.softmax, x, axis)
        assert_within(got, exact, exact * relative + 1e-7 * (dtype.itemsize == 2))


def test_softmax_of_extremes(backend):
    x = np.array([[1e30, 0, -1e30], [-np.inf, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0]], "f4")
    want = np.array([[1, 0, 0], [0, 0.5, 0.5], [np.nan] * 3, [np.nan] * 3], "f4")
    assert_equal(backend.run(cuconv.softmax, x), want)


@pytest.mark.parametrize("function", [cuconv.relu, cuconv.sigmoid, cuconv.softmax])
def test_empty(backend, function):
    x = np.ones((3, 0), "f4")
    assert_equal(backend.run(function, x), x)
