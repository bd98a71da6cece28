"""The parts of the Inception module against the convolutions they stand for."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal


def last(a):
    return np.ascontiguousarray(np.moveaxis(a, 1, -1)) if a.ndim == 4 else a


F = np.dtype("float32")


def drawn(rng, *shape, dtype=F):
    return problems.integers(rng, shape, dtype)


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_reduce(backend, dtype, layout):
    rng = np.random.default_rng(0)
    x = drawn(rng, 2, 5, 4, 3, dtype=dtype)
    ws = [drawn(rng, k, 5, 1, 1, dtype=dtype) for k in (3, 1, 4)]
    bs = [drawn(rng, k, dtype=dtype) for k in (3, 1, 4)]
    wanted = [
        backend.run(cuconv.conv2d, x, w, b, activation="relu") for w, b in zip(ws, bs, strict=True)
    ]
    place = last if layout == "NHWC" else np.asarray
    with backend.select():
        moved = [backend.to_device(place(a)) for a in (x, *ws, *bs)]
        got = cuconv.inception_reduce(moved[0], moved[1:4], moved[4:], layout=layout)
        block = got[0].base
        assert all(g.base is block for g in got)
    for g, want in zip(got, wanted, strict=True):
        assert_equal(np.ascontiguousarray(backend.to_host(g)), place(want))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_project(backend, layout, stride):
    rng = np.random.default_rng(1)
    x, w, b = drawn(rng, 2, 5, 6, 7), drawn(rng, 3, 5, 1, 1), drawn(rng, 3)
    pooled = backend.run(cuconv.max_pool2d, x, 3, stride, 1)
    want = backend.run(cuconv.conv2d, pooled, w, b, activation="relu")
    place = last if layout == "NHWC" else np.asarray
    got = backend.run(cuconv.max_pool_project, place(x), place(w), b, stride=stride, layout=layout)
    assert_equal(got, place(want))


def weights(rng):
    def layer(k, c, r):
        return drawn(rng, k, c, r, r), drawn(rng, k)

    return [
        *layer(4, 5, 1), *layer(2, 5, 1), *layer(3, 2, 3),
        *layer(1, 5, 1), *layer(2, 1, 5), *layer(3, 5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batched", [True, False])
def test_module(backend, layout, batched):
    rng = np.random.default_rng(2)
    x, ws = drawn(rng, 2, 5, 6, 7), weights(rng)
    one, one_b, r3, r3_b, three, three_b, r5, r5_b, five, five_b, four, four_b = ws

    def conv(x, w, b, padding=0):
        return backend.run(cuconv.conv2d, x, w, b, padding=padding, activation="relu")

    pooled = backend.run(cuconv.max_pool2d, x, 3, 1, 1)
    branches = [
        conv(x, one, one_b),
        conv(conv(x, r3, r3_b), three, three_b, 1),
        conv(conv(x, r5, r5_b), five, five_b, 2),
        conv(pooled, four, four_b),
    ]
    want = np.concatenate(branches, axis=1)
    place = last if layout == "NHWC" else np.asarray
    x, want = (place(x), place(want)) if batched else (place(x)[0], place(want)[0])
    with backend.select():
        moved = [backend.to_device(place(w)) for w in ws]
        module = cuconv.Inception(cuconv.InceptionWeights(*moved), layout=layout)
        device = backend.to_device(x)
        got = module(device)
        out = backend.to_device(np.zeros_like(want))
        assert module(device, out=out) is out
    assert_equal(backend.to_host(got), want)
    assert_equal(backend.to_host(out), want)
