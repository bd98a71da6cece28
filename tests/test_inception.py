"""The parts of the Inception module against the convolutions they stand for."""

import dataclasses

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from emulated_traffic import launched


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


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("channels", "window", "stride", "padding"),
    [
        (5, 3, 1, 1),
        (16, 3, 1, 1),
        (5, 3, 2, 1),
        (16, (2, 3), (2, 1), ((1, 0), (2, 1))),
        (8, 2, 2, 0),
    ],
)
def test_max_pool_project(backend, dtype, layout, channels, window, stride, padding):
    rng = np.random.default_rng(1)
    x = drawn(rng, 2, channels, 6, 8, dtype=dtype)
    w, b = drawn(rng, 3, channels, 1, 1, dtype=dtype), drawn(rng, 3, dtype=dtype)
    pooled = backend.run(cuconv.max_pool2d, x, window, stride, padding)
    want = backend.run(cuconv.conv2d, pooled, w, b, activation="relu")
    place = last if layout == "NHWC" else np.asarray
    call = (cuconv.max_pool_project, place(x), place(w), b, window, stride, padding)
    got = backend.run(*call, layout=layout)
    assert_equal(got, place(want))


def test_maxima_of_nan_infinities_and_ties(backend):
    """A projection by one picks channels: the maxima themselves come out."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 8, 9, 7)).astype("f4")
    x[0, 0, rng.random((9, 7)) < 0.2] = np.nan
    x[0, 1] = -np.inf
    x[0, 2, rng.random((9, 7)) < 0.5] = -np.inf
    x[0, 3] = 0
    for channel in range(4):
        alone = x[:, channel : channel + 1]
        want = backend.run(cuconv.max_pool2d, alone, 3, 1, 1)
        got = backend.run(
            cuconv.max_pool_project, alone, np.ones((1, 1, 1, 1), "f4"), activation=None
        )
        assert_equal(got, want)


def weights(rng, dtype=F):
    def layer(k, c, r):
        return drawn(rng, k, c, r, r, dtype=dtype), drawn(rng, k, dtype=dtype)

    return [
        *layer(4, 5, 1), *layer(2, 5, 1), *layer(3, 2, 3),
        *layer(1, 5, 1), *layer(2, 1, 5), *layer(3, 5, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_module(backend, layout, batched, dtype):
    rng = np.random.default_rng(2)
    few = 1 if dtype.itemsize == 4 else 0.25  # so that bfloat16 holds the sums
    x, ws = drawn(rng, 2, 5, 6, 7, dtype=dtype), weights(rng, dtype)
    if dtype.itemsize == 2:
        x = np.where(rng.random(x.shape) < few, x, np.zeros((), dtype)).astype(dtype)
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


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_launches(emulated, layout, dtype):
    """The module is two: all that reads x, then what reads the reductions. No copies."""
    rng = np.random.default_rng(3)
    place = last if layout == "NHWC" else np.asarray
    ws = [place(w) for w in weights(rng, dtype)]
    x = place(drawn(rng, 2, 5, 6, 7, dtype=dtype))
    kernel = "grouped_gemm_tensor_core" if dtype.itemsize == 2 else "grouped_gemm_simt"
    with emulated.select():
        module = cuconv.Inception(cuconv.InceptionWeights(*ws), layout=layout)
        assert launched(module, x) == [kernel] * 2
        reduce = (cuconv.inception_reduce, x, [ws[0], ws[2], ws[6]], [ws[1], ws[3], ws[7]])
        assert launched(*reduce, layout=layout) == [kernel]
        project = (cuconv.max_pool_project, x, ws[10], ws[11])
        assert launched(*project, layout=layout) == [kernel]


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_grouped_products_of_several_tiles(emulated, reference, order, dtype):
    """Rows, filters and terms past a tile, in vectors and gathered, misaligned."""
    rng = np.random.default_rng(5)
    for seed, layout in enumerate(["NCHW", "NHWC"] * 2):
        c, size = ((24, (8, 12)), (13, (9, 11)))[seed // 2]
        place = last if layout == "NHWC" else np.asarray
        x = place(problems.integers(rng, (2, c, *size), dtype))
        x = problems.shifted_view(x) if seed == 2 else x
        ws = [place(problems.integers(rng, (k, c, 1, 1), dtype)) for k in (70, 8, 33)]
        with cuconv.use_backend("emulated", order=order, seed=seed, arrival="eager"):
            got = cuconv.inception_reduce(x, ws, activation=None, layout=layout)
            pooled = cuconv.max_pool_project(x, ws[0], activation=None, layout=layout)
        for g, w in zip(got, ws, strict=True):
            want = reference.run(cuconv.conv2d, x, w, layout=layout)
            assert_equal(np.ascontiguousarray(g), want)
        want = reference.run(cuconv.max_pool2d, x, 3, 1, 1, layout=layout)
        assert_equal(pooled, reference.run(cuconv.conv2d, want, ws[0], layout=layout))


def test_complex_reductions(backend):
    rng = np.random.default_rng(6)
    for name in ("complex64", "complex128"):
        x = drawn(rng, 2, 5, 4, 3, dtype=np.dtype(name))
        ws = [drawn(rng, k, 5, 1, 1, dtype=x.dtype) for k in (3, 4)]
        with backend.select():
            moved = [backend.to_device(a) for a in (x, *ws)]
            got = cuconv.inception_reduce(moved[0], moved[1:], activation=None)
        for g, w in zip(got, ws, strict=True):
            want = backend.run(cuconv.conv2d, x, w)
            assert_equal(np.ascontiguousarray(backend.to_host(g)), want)


def test_five_reductions_are_two_launches(emulated):
    x, ws = np.ones((1, 3, 4, 5), "f4"), [np.ones((k, 3, 1, 1), "f4") for k in range(1, 6)]
    with emulated.select():
        assert len(launched(cuconv.inception_reduce, x, ws)) == 2
    got = emulated.run(cuconv.inception_reduce, x, ws)
    assert [g.shape[1] for g in got] == [1, 2, 3, 4, 5]
    assert all((g == 3).all() for g in got)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_gradients_are_the_slopes(backend, layout):
    """Central differences in float64, along random directions, for x and each of the weights."""
    rng = np.random.default_rng(7)
    place = last if layout == "NHWC" else np.asarray
    x = place(rng.standard_normal((2, 5, 6, 7)))
    ws = [place(rng.standard_normal(w.shape)) for w in weights(rng)]

    def loss(x, ws, g):
        module = cuconv.Inception(cuconv.InceptionWeights(*ws), layout=layout)
        return float((module(x) * g).sum())

    with cuconv.use_backend("numpy"):
        module = cuconv.Inception(cuconv.InceptionWeights(*ws), layout=layout)
        g = rng.standard_normal(module(x).shape)
    with backend.select():
        moved = [backend.to_device(w) for w in ws]
        module = cuconv.Inception(cuconv.InceptionWeights(*moved), layout=layout)
        grad_x, grads = module.gradients(backend.to_device(x), backend.to_device(g))
    grads = [backend.to_host(getattr(grads, f.name)) for f in dataclasses.fields(grads)]
    step = 1e-6
    for i, (value, grad) in enumerate(
        zip([x, *ws], [backend.to_host(grad_x), *grads], strict=True)
    ):
        assert grad.shape == value.shape
        direction = rng.standard_normal(value.shape)
        with cuconv.use_backend("numpy"):
            sides = []
            for sign in (1, -1):
                arrays = [x, *ws]
                arrays[i] = value + sign * step * direction
                sides.append(loss(arrays[0], arrays[1:], g))
        slope = (sides[0] - sides[1]) / (2 * step)
        assert abs(slope - (grad * direction).sum()) <= 1e-5 * max(1, abs(slope))


def test_gradients_check_their_arrays(backend):
    rng = np.random.default_rng(8)
    with backend.select():
        module = cuconv.Inception(
            cuconv.InceptionWeights(*(backend.to_device(w) for w in weights(rng)))
        )
        x = backend.to_device(drawn(rng, 1, 5, 4, 6))
        with pytest.raises(ValueError, match="grad_out has shape"):
            module.gradients(x, x)
