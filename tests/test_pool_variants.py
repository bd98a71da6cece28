"""Every variant of pooling, forced, where its layout lets it run, and which one runs unforced."""

import importlib

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide

VARIANTS = ("pool_global", "pool_channels", "pool_tiled", "pool_window")
ORDERS = ("forward", "reverse", "shuffled")


def forced(emulated, variant, function, *arguments, order="forward", **options):
    """The result of a variant, or None where it refuses."""
    choice = {**emulated.options(), "order": order, "variant": variant}
    with cuconv.use_backend("emulated", **choice):
        try:
            return function(*arguments, **options)
        except ValueError as refusal:
            if not str(refusal).startswith(f"{variant}: "):
                raise
            return None


def drawn(seed, rank, dtype, dilated, variant):
    """A problem of `draw_pool` whose rows lie in one piece, or as the variant wants them."""
    x, window, options = problems.draw_pool(seed, rank, dtype, dilated)
    rng = np.random.default_rng(seed)
    shape = list(x.shape) if x.ndim == rank + 2 else [1, *x.shape]
    size = shape[1:-1] if options.get("layout") else shape[2:]
    if variant == "pool_channels":
        options["layout"] = problems.LAST[rank]
        return problems.integers(rng, (2, *size, 16), dtype), window, options
    channels = int(rng.choice([3, 5, 16]))
    last = options.get("layout")
    shape = (2, *size, channels) if last else (2, channels, *size)
    x = problems.integers(rng, shape, dtype)
    return (problems.shifted_view(x) if seed % 3 == 0 else x), window, options


def test_the_variants_are_these(emulated):
    module = importlib.import_module("cuconv._C_emulated_race")
    assert tuple(module.pool_variants()) == VARIANTS


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_maxima_and_positions(emulated, reference, variant, dtype):
    ran = 0
    for seed in range(18):
        rank = seed % 3 + 1
        x, window, options = drawn(seed, rank, dtype, seed % 2 == 1, variant)
        function = getattr(cuconv, f"max_pool{rank}d")
        want = reference.run(function, x, window, return_indices=True, **options)
        order = ORDERS[seed % 3]
        plain = forced(emulated, variant, function, x, window, order=order, **options)
        if plain is None:
            continue
        assert_equal(plain, want[0])
        call = (emulated, variant, function, x, window)
        both = forced(*call, order=order, return_indices=True, **options)
        for got, w in zip(both, want, strict=True):
            assert_equal(got, w)
        ran += 1
    assert ran >= 5


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_averages(emulated, reference, variant, dtype):
    ran = 0
    for seed in range(18):
        rank = seed % 3 + 1
        x, window, options = drawn(seed + 100, rank, dtype, False, variant)
        options["count_include_pad"] = bool(seed % 2)
        function = getattr(cuconv, f"avg_pool{rank}d")
        got = forced(emulated, variant, function, x, window, order=ORDERS[seed % 3], **options)
        if got is None:
            continue
        exact = reference.run(function, wide(x), window, **options)
        assert_within(got, exact, 40 * summed_eps(dtype) + np.abs(exact) * storing(dtype))
        ran += 1
    assert ran >= 5


def storing(dtype):
    return 2.0**-8 if dtype.itemsize == 2 else summed_eps(dtype)


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_averages_have_the_same_bits_wherever_they_lie(emulated, layout, dtype):
    """Neither batch nor alignment decides, though they choose loads and variants."""
    x = problems.normal(np.random.default_rng(2), (3, 16, 5, 7), dtype)
    x = x if layout == "NCHW" else np.moveaxis(x, 1, -1).copy()
    few = x[:, :3] if layout == "NCHW" else x[..., :3]
    calls = [(cuconv.avg_pool2d, (3, 2, 1)), (cuconv.global_avg_pool, ())]
    for function, window in calls:
        for values in (x, few.copy()):
            want = emulated.run(function, values, *window, layout=layout)
            for i in range(len(values)):
                for alone in (values[i], problems.shifted_view(values[i])):
                    got = emulated.run(function, alone, *window, layout=layout)
                    assert got.tobytes() == want[i].tobytes()


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 7, 7), (1, 3, 30, 41), (2, 16, 4, 9), (2, 70, 3, 3)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_whole_planes(emulated, dtype, shape, layout):
    x = problems.integers(np.random.default_rng(1), shape, dtype)
    want = wide(x).mean(axis=(2, 3), keepdims=True)
    if layout == "NHWC":
        x, want = np.moveaxis(x, 1, -1).copy(), np.moveaxis(want, 1, -1)
    for order, place in zip(ORDERS, (np.asarray, problems.shifted_view, np.asarray), strict=True):
        got = forced(
            emulated, "pool_global", cuconv.global_avg_pool, place(x), layout=layout, order=order
        )
        bound = 40 * summed_eps(dtype) + np.abs(want) * 2 * storing(dtype)
        assert_within(got, want, bound)


# Values that are not numbers, in every place of a window and of a vector.
def odd_values(rng, shape, dtype):
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.4] = -np.inf
    x[rng.random(shape) < 0.05] = np.inf
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_nan_infinities_and_ties(emulated, reference, variant, dtype):
    for seed, (layout, channels) in enumerate([("NCHW", 3), ("NHWC", 16), ("NHWC", 3)]):
        rng = np.random.default_rng(seed)
        x = odd_values(rng, (1, 11, 10, channels), dtype)
        x = x if layout == "NHWC" else np.moveaxis(x, -1, 1).copy()
        options = {"padding": 1, "ceil_mode": True, "layout": layout, "return_indices": True}
        for values in (x, np.full_like(x, -np.inf), np.zeros_like(x)):
            want = reference.run(cuconv.max_pool2d, values, 3, 2, **options)
            got = forced(emulated, variant, cuconv.max_pool2d, values, 3, 2, **options)
            if got is None:
                assert variant == "pool_channels"
                assert channels == 3
                continue
            for g, w in zip(got, want, strict=True):
                assert_equal(g, w)
            alone = {**options, "return_indices": False}
            got = forced(emulated, variant, cuconv.max_pool2d, values, 3, 2, **alone)
            assert_equal(got, want[0])


def test_tiles_of_several_blocks(emulated, reference):
    """Wide rows, tall planes, and a window that lets little fit shared memory."""
    rng = np.random.default_rng(0)
    for shape, window, layout in [
        ((1, 2, 40, 300), 3, "NCHW"),
        ((1, 25, 150, 3), (3, 2), "NHWC"),
        ((1, 1, 70, 90), (40, 60), "NCHW"),
    ]:
        x = problems.integers(rng, shape, np.dtype("float32"))
        options = {"layout": layout, "return_indices": True, "stride": (2, 1)}
        want = reference.run(cuconv.max_pool2d, x, window, **options)
        got = forced(emulated, "pool_tiled", cuconv.max_pool2d, x, window, **options)
        for g, w in zip(got, want, strict=True):
            assert_equal(g, w)


@pytest.mark.parametrize(
    ("variant", "layout", "channels", "options", "words"),
    [
        ("pool_channels", "NHWC", 3, {}, "cannot be moved by 16 bytes"),
        ("pool_channels", "NCHW", 8, {}, "cannot be moved by 16 bytes"),
        ("pool_channels", "NHWC", 8, {"dilation": 2}, "dilated along H"),
        ("pool_channels", "NHWC", 8, {"stride": 5}, "leave rows between"),
        ("pool_tiled", "NCHW", 8, {"stride": 5}, "leave elements between"),
        ("pool_global", "NCHW", 8, {}, "averages alone"),
    ],
)
def test_variants_refuse_for_a_reason(emulated, variant, layout, channels, options, words):
    x = np.ones((1, 12, 13, channels), "f4")
    x = x if layout == "NHWC" else np.moveaxis(x, -1, 1).copy()
    with (
        cuconv.use_backend("emulated", variant=variant),
        pytest.raises(ValueError, match=words),
    ):
        cuconv.max_pool2d(x, 3, **{"stride": 2, **options}, layout=layout)


@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
@pytest.mark.parametrize("count", [1, 3, 7, 16, 17, 33, 5000])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_relu_at_every_alignment(emulated, dtype, count, shift):
    rng = np.random.default_rng(count)
    memory = problems.integers(rng, (3, count + shift + 1), dtype)
    x, g = memory[0, shift : shift + count].copy(), memory[1, :count].copy()
    place = np.empty(count + shift, dtype)[shift:]
    place[...] = x
    positive = wide(x) > 0
    assert_equal(emulated.run(cuconv.relu, place), np.where(positive, wide(x), 0).astype(dtype))
    want = np.where(positive, wide(g), 0).astype(dtype)
    assert_equal(emulated.run(cuconv.relu_grad, g, place), want)
    grad = np.empty(count + shift, dtype)[shift:]
    grad[...] = g
    assert_equal(emulated.run(cuconv.relu_grad, grad, place), want)
    with emulated.select():
        cuconv.relu(place, out=place)
    assert_equal(place.copy(), np.where(positive, wide(x), 0).astype(dtype))
