"""Every variant of the gradients of pooling, forced, and which one runs unforced."""

import importlib

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide
from emulated_traffic import traffic
from test_pool_variants import ORDERS, drawn, forced, odd_values, storing

VARIANTS = ("pool_grad_channels", "pool_grad_tiled", "pool_grad_window", "pool_grad_scatter")
LAYOUT_OF = {"pool_grad_channels": "pool_channels"}  # the forward variant with its demands


def test_the_variants_are_these(emulated):
    module = importlib.import_module("cuconv._C_emulated_race")
    assert tuple(module.pool_grad_variants()) == VARIANTS


def maxima(reference, seed, rank, dtype, variant):
    """(arguments of the gradient, its options) for a drawn problem."""
    problem = drawn(seed, rank, dtype, seed % 2 == 1, LAYOUT_OF.get(variant, variant))
    x, window, options = problem
    if x.ndim == rank + 1:
        x = x[None]
    pool = getattr(cuconv, f"max_pool{rank}d")
    y, indices = reference.run(pool, x, window, return_indices=True, **options)
    g = problems.integers(np.random.default_rng(seed), y.shape, dtype)
    return (g, indices, x.shape), {**options, "kernel_size": window}


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_maxima(emulated, reference, variant, dtype):
    ran = 0
    for seed in range(18):
        rank = seed % 3 + 1
        function = getattr(cuconv, f"max_pool{rank}d_grad")
        arguments, options = maxima(reference, seed, rank, dtype, variant)
        want = reference.run(function, *arguments, layout=options.get("layout"))
        got = forced(emulated, variant, function, *arguments, order=ORDERS[seed % 3], **options)
        if got is None:
            continue
        assert_equal(got, want)
        ran += 1
    assert ran >= (0 if variant == "pool_grad_window" else 15)


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("variant", VARIANTS[:3])
def test_averages(emulated, reference, variant, dtype):
    for seed in range(18):
        rank = seed % 3 + 1
        x, window, options = drawn(seed + 50, rank, dtype, False, LAYOUT_OF.get(variant, variant))
        options["count_include_pad"] = bool(seed % 2)
        y = reference.run(getattr(cuconv, f"avg_pool{rank}d"), x, window, **options)
        g = problems.integers(np.random.default_rng(seed), y.shape, dtype)
        function = getattr(cuconv, f"avg_pool{rank}d_grad")
        call = (g, x.shape, window)
        got = forced(emulated, variant, function, *call, order=ORDERS[seed % 3], **options)
        exact = reference.run(function, wide(g), *call[1:], **options)
        assert got is not None
        assert_within(got, exact, 300 * summed_eps(dtype) + np.abs(exact) * storing(dtype))


SHAPES = [
    # x, window, stride, padding: several tiles; three channels; windows wider than a tile; gaps
    ((1, 2, 40, 300), 3, 2, 1, "NCHW"),
    ((2, 5, 7, 7), 3, 1, 1, "NCHW"),
    ((1, 20, 100, 3), (3, 2), (2, 1), 1, "NHWC"),
    ((1, 1, 33, 70), (17, 40), (2, 1), 0, "NCHW"),
    ((2, 14, 15, 16), 3, 2, 1, "NHWC"),
    ((1, 3, 30, 41), (30, 41), None, 0, "NCHW"),
    ((1, 9, 8, 64), (9, 8), None, 0, "NHWC"),
    ((1, 2, 20, 30), 2, 5, 0, "NCHW"),
    ((2, 70, 1, 1), 1, 1, 0, "NCHW"),
]


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize(("shape", "window", "stride", "padding", "layout"), SHAPES)
def test_the_bits_of_all_variants_are_the_same(
    emulated, shape, window, stride, padding, layout, dtype
):
    """Sums run over the outputs in their order, whoever takes them."""
    rng = np.random.default_rng(0)
    x = problems.normal(rng, shape, dtype)
    windows = {"stride": stride, "padding": padding, "layout": layout}
    y, indices = emulated.run(cuconv.max_pool2d, x, window, return_indices=True, **windows)
    g = problems.normal(rng, y.shape, dtype)
    want = emulated.run(cuconv.max_pool2d_grad, g, indices, shape, layout=layout)
    average = forced(
        emulated, "pool_grad_window", cuconv.avg_pool2d_grad, g, shape, window, **windows
    )
    ran = set()
    for variant in VARIANTS[:2]:
        for place in (np.asarray, problems.shifted_view):
            call = (cuconv.max_pool2d_grad, place(g), place(indices), shape)
            known = {**windows, "kernel_size": window}
            got = forced(emulated, variant, *call, order="shuffled", **known)
            call = (cuconv.avg_pool2d_grad, place(g), shape, window)
            averages = forced(emulated, variant, *call, order="reverse", **windows)
            if got is None:
                continue
            assert got.tobytes() == want.tobytes()
            assert averages.tobytes() == average.tobytes()
            ran.add(variant)
    assert "pool_grad_tiled" in ran


def test_gradients_that_are_not_finite(emulated, reference):
    rng = np.random.default_rng(3)
    for layout, channels in (("NCHW", 3), ("NHWC", 8), ("NHWC", 3)):
        x = odd_values(rng, (1, 11, 10, channels), np.dtype("f4"))
        x = x if layout == "NHWC" else np.moveaxis(x, -1, 1).copy()
        windows = {"stride": 2, "padding": 1, "ceil_mode": True, "layout": layout}
        y, indices = reference.run(cuconv.max_pool2d, x, 3, return_indices=True, **windows)
        g = np.round(odd_values(rng, y.shape, np.dtype("f4")))
        want = reference.run(cuconv.max_pool2d_grad, g, indices, x.shape, layout=layout)
        got = emulated.run(cuconv.max_pool2d_grad, g, indices, x.shape, kernel_size=3, **windows)
        assert_equal(got, want)


def test_indices_outside_the_plane_are_left_out_by_tiles_and_vectors(emulated):
    g = np.ones((1, 8, 4), "f4")
    indices = np.broadcast_to(np.array([0, -1, 2**32 + 4, 2**62]), (1, 8, 4)).copy()
    want = np.zeros((1, 8, 8), "f4")
    want[..., 0] = 1
    assert_equal(emulated.run(cuconv.max_pool1d_grad, g, indices, (1, 8, 8), kernel_size=2), want)
    last = [np.moveaxis(a, 1, 2).copy() for a in (g, indices, want)]
    got = emulated.run(cuconv.max_pool1d_grad, *last[:2], (1, 8, 8), kernel_size=2, layout="NLC")
    assert_equal(got, last[2])


@pytest.mark.parametrize(
    ("variant", "layout", "channels", "options", "words"),
    [
        ("pool_grad_channels", "NHWC", 3, {"kernel_size": 2}, "cannot be moved by 16 bytes"),
        ("pool_grad_channels", "NHWC", 8, {}, "needs to know the windows"),
        ("pool_grad_tiled", "NCHW", 8, {}, "needs to know the windows"),
        ("pool_grad_window", "NCHW", 8, {"kernel_size": 2}, "averages alone"),
    ],
)
def test_variants_refuse_for_a_reason(emulated, variant, layout, channels, options, words):
    shape = (1, 6, 8, channels) if layout == "NHWC" else (1, channels, 6, 8)
    half = (1, 3, 4, channels) if layout == "NHWC" else (1, channels, 3, 4)
    g, indices = np.ones(half, "f4"), np.zeros(half, "i8")
    with (
        cuconv.use_backend("emulated", variant=variant),
        pytest.raises(ValueError, match=words),
    ):
        cuconv.max_pool2d_grad(g, indices, shape, layout=layout, **options)


def test_windows_that_do_not_fit(backend):
    g, indices = np.ones((1, 1, 3), "f4"), np.zeros((1, 1, 3), "i8")
    with pytest.raises(ValueError, match=r"must have \(1, 1, 2\)"):
        backend.run(cuconv.max_pool1d_grad, g, indices, (1, 1, 6), kernel_size=3)
    with pytest.raises(ValueError, match="need a kernel_size"):
        backend.run(cuconv.max_pool1d_grad, g, indices, (1, 1, 6), stride=2)


@pytest.mark.parametrize(
    ("layout", "channels", "kernel"),
    [
        ("NHWC", 8, "pool_grad_channels"),
        ("NHWC", 3, "pool_grad_tiled"),
        ("NCHW", 8, "pool_grad_tiled"),
    ],
)
def test_each_byte_is_moved_once_by_the_variant_that_runs(emulated, layout, channels, kernel):
    """Of distinct bytes; windows overlap."""
    shape = (2, 9, 11, channels) if layout == "NHWC" else (2, channels, 9, 11)
    windows = {"kernel_size": 3, "stride": 2, "padding": 1, "layout": layout}
    x = problems.normal(np.random.default_rng(0), shape, np.dtype("f4"))
    y, indices = emulated.run(cuconv.max_pool2d, x, return_indices=True, **windows)
    with emulated.select():
        found = traffic(cuconv.max_pool2d_grad, y, indices, shape, **windows)
        found += traffic(cuconv.avg_pool2d_grad, y, shape, **windows)
        scattered = traffic(cuconv.max_pool2d_grad, y, indices, shape, layout=layout)
    assert [t[0] for t in found] == [kernel, kernel]
    assert [t[0] for t in scattered] == ["max_pool_grad"]
    if emulated.options()["flavour"] == "race":
        assert found == [
            (kernel, y.nbytes + indices.nbytes, x.nbytes),
            (kernel, y.nbytes, x.nbytes),
        ]
