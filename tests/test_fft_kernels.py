"""Convolution by Fourier transforms on the CUDA kernels: bounds, shapes, memory, refusals."""

import re

import numpy as np
import pytest

import cuconv
import layers
import problems
from compare import assert_equal, assert_within, summed_eps, wide
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._backends._rules import WORTH_TRANSFORMS
from cuconv._problem import conv_call
from fft_bounds import fft_bound, shared
from test_registry import MODULE

VARIANT = "fft_overlap_save"
F4 = np.dtype("f4")
FUNCTIONS = {
    "forward": "conv{}d",
    "input_grad": "conv{}d_input_grad",
    "weight_grad": "conv{}d_weight_grad",
}


def suits(direction, dtype, x, w, limit=None, **options):
    """(refusal, bytes of workspace, work)"""
    sizes = sizes_of(conv_call(len(x) - 2, np.dtype(dtype), x, w, **options).problem)
    limit = NO_LIMIT if limit is None else limit
    return MODULE.conv_suits(direction, VARIANT, np.dtype(dtype).name, "ieee", limit, sizes)


def run(emulated, function, *arguments, **options):
    with emulated.select():
        return function(*arguments, algo="fft", **options)


def rounding(want, dtype):
    info = problems.ml_dtypes.finfo(dtype)
    return np.abs(want) * float(info.eps) + float(info.smallest_subnormal)


def check(emulated, reference, x, w, direction="forward", seed=0, **options):
    """One direction of a channels-first problem, held to the bound. Returns the result."""
    rank, dtype, groups = x.ndim - 2, x.dtype, options.get("groups", 1)
    forward = getattr(cuconv, FUNCTIONS["forward"].format(rank))
    function = getattr(cuconv, FUNCTIONS[direction].format(rank))
    if direction == "forward":
        a, b, rest, terms = x, w, (), w[0].size
    else:
        shape = reference.run(forward, x[:1], w, **options).shape
        g = problems.normal(np.random.default_rng(seed), (len(x), *shape[1:]), dtype)
        a, b, rest = (g, w, (x.shape,)) if direction == "input_grad" else (g, x, (w.shape,))
        terms = w.size if direction == "input_grad" else g[:, 0].size
    want = reference.run(function, wide(a), wide(b), *rest, **options)
    got = run(emulated, function, a, b, *rest, **options)
    bound = fft_bound(direction, dtype, a, b, groups, terms)
    if direction == "weight_grad":
        dilation = options.get("dilation", 1)
        dilations = (dilation,) * rank if isinstance(dilation, int) else dilation
        for k, d in list(zip(w.shape[2:], dilations, strict=True))[-2:]:
            bound = bound * np.sqrt(shared(d * (k - 1) + 1, rank == 1))
    assert got.dtype == dtype
    assert_within(got, want, bound + rounding(want, dtype))
    return got


def drawn(seed, *shape, dtype=F4):
    return problems.normal(np.random.default_rng(seed), shape, np.dtype(dtype))


# ---- the transforms themselves ----


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("length", [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
def test_lines_are_those_of_numpy(emulated, length, dtype):
    """Correlation by numpy.fft. Kernels as long as a tile leave no choice of another."""
    x, w = drawn(1, 1, 1, length + 1, dtype=dtype), drawn(2, 1, 1, length, dtype=dtype)
    bytes_a_number = {"f4": 4, "f8": 8, "c8": 8, "c16": 16}[dtype]
    if length * bytes_a_number > 8192 * 4:
        refusal = suits("forward", dtype, x.shape, w.shape)[0]
        assert "elements along an axis at the most" in refusal
        return
    got = run(emulated, cuconv.conv1d, x, w)
    n = 2 * length
    want = np.fft.ifft(np.fft.fft(wide(x), n) * np.conj(np.fft.fft(np.conj(wide(w)), n)))
    want = want[..., : got.shape[-1]]
    want = want if np.dtype(dtype).kind == "c" else want.real
    assert_within(got, want, fft_bound("forward", np.dtype(dtype), x, w, terms=1) + 1e-11)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
@pytest.mark.parametrize("side", [3, 8, 16, 32, 64, 128])
def test_a_single_tap_moves_the_image(emulated, side, dtype):
    """Kernels of one tile: wrong twiddles or orders show at once."""
    if side == 128 and dtype == "c8":
        side = 63  # nearly all of a tile
    x = drawn(side, 1, 1, side + 2, side + 1, dtype=dtype)
    last = side - 1
    for r, s in ((side // 3, side // 2), (0, last), (last, 0), (0, 0), (last, last))[: 200 // side]:
        w = np.zeros((1, 1, side, side), dtype)
        w[0, 0, r, s] = 1
        got = run(emulated, cuconv.conv2d, x, w)
        bound = fft_bound("forward", np.dtype(dtype), x, w)
        assert_within(got, wide(x[:, :, r : r + 3, s : s + 2]), bound)


# ---- bounds ----


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (7, 5), (1, 9), (13, 13)])
def test_all_directions_are_within_the_bound(emulated, reference, kernel, dtype, direction):
    x, w = drawn(1, 2, 3, 17, 23, dtype=dtype), drawn(2, 4, 3, *kernel, dtype=dtype)
    check(emulated, reference, x, w, direction, padding=tuple(n // 2 for n in kernel))


@pytest.mark.parametrize("make", ["positive", "one large"])
def test_hostile_numbers_are_within_the_bound(emulated, reference, make):
    x, w = np.abs(drawn(1, 1, 4, 30, 31)), np.abs(drawn(2, 3, 4, 9, 9))
    if make == "one large":
        x[0, 1, 11, 12] = 1e6
    for direction in FUNCTIONS:
        check(emulated, reference, x, w, direction)


@pytest.mark.parametrize("direction", FUNCTIONS)
def test_every_backend_is_within_the_bound(backend, reference, direction):
    """The family of that name, whose bound on the CPU is narrower."""
    for groups in (1, 4):
        x, w = drawn(1, 2, 4, 21, 26), drawn(2, 4, 4 // groups, 7, 5)
        check(backend, reference, x, w, direction, padding=(3, 2), groups=groups)


CASES = {  # x, w, options
    "prime sizes": ((1, 2, 31, 37), (3, 2, 11, 13), {}),
    "kernel larger than the image": ((1, 2, 5, 4), (3, 2, 9, 7), {"padding": (6, 5)}),
    "kernel as wide as the image": ((2, 2, 12, 19), (2, 2, 12, 19), {"padding": (0, 9)}),
    "strided": ((2, 3, 19, 26), (2, 3, 5, 5), {"stride": (2, 3), "padding": 2}),
    "cropped": ((1, 1, 20, 21), (2, 1, 5, 5), {"padding": ((0, 3), (4, 0))}),
    "dilated": ((1, 2, 40, 33), (2, 2, 3, 4), {"dilation": (9, 5), "padding": 8}),
    "strided and dilated": ((1, 2, 30, 33), (2, 2, 3, 4), {"stride": 2, "dilation": (3, 2)}),
    "groups": ((2, 6, 14, 15), (4, 3, 5, 5), {"groups": 2, "padding": 2}),
    "depthwise": ((2, 5, 15, 33), (5, 1, 7, 7), {"groups": 5, "padding": 3}),
    "depthwise, two filters a channel": ((2, 3, 15, 33), (6, 1, 7, 7), {"groups": 3}),
    "one channel, many filters": ((1, 1, 33, 40), (9, 1, 5, 5), {}),
    "31 x 31": ((1, 2, 32, 32), (2, 1, 31, 31), {"groups": 2, "padding": 15}),
    "many channels": ((1, 70, 9, 9), (40, 70, 3, 3), {}),
    "a line": ((2, 3, 301), (2, 3, 17), {"padding": 8}),
    "a long line": ((1, 1, 9000), (2, 1, 700), {"padding": 5}),
    "a line of one tap and more": ((2, 1, 50), (1, 1, 50), {"stride": 3, "padding": 20}),
    "a line with gaps": ((1, 2, 400), (2, 2, 5), {"dilation": 40, "groups": 1}),
    "one row": ((2, 2, 1, 90), (3, 2, 1, 9), {}),
    "one column": ((2, 2, 90, 1), (3, 2, 9, 1), {"padding": (4, 0)}),
    "rows alone": ((1, 2, 9, 50), (2, 2, 1, 21), {}),
    "volume": ((1, 2, 5, 9, 12), (3, 2, 3, 3, 5), {"padding": 1}),
    "strided volume": ((2, 1, 7, 9, 8), (2, 1, 3, 2, 3), {"stride": (2, 1, 2), "padding": 1}),
    "dilated volume": ((1, 2, 9, 8, 8), (2, 2, 2, 3, 3), {"dilation": (3, 2, 1), "padding": 2}),
}


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("name", CASES)
def test_shapes(emulated, reference, name, direction):
    x, w, options = CASES[name]
    check(emulated, reference, drawn(1, *x), drawn(2, *w), direction, **options)


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("channels", [(33, 40), (64, 70)], ids=str)
def test_many_channels_go_through_matrix_products(emulated, reference, channels, direction):
    c, k = channels
    check(emulated, reference, drawn(1, 1, c, 5, 7), drawn(2, k, c, 3, 2), direction)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_true_gradients_are_conjugated(emulated, reference, rank, dtype):
    for seed in range(20, 24):
        p = problems.draw_conv(seed, rank, np.dtype(dtype), make=problems.normal, layouts=False)
        if np.prod(p.w.shape[-2:] if rank > 1 else p.w.shape[-1:]) == 1 or p.x.ndim == rank + 1:
            continue
        keep = {k: v for k, v in p.options.items() if k in ("stride", "dilation", "groups")}
        for direction in FUNCTIONS:
            check(emulated, reference, p.x, p.w, direction, seed, **keep)


# ---- memory layouts, epilogue ----


def test_channels_last_reversed_and_sliced_arrays(emulated, reference):
    x, w, b = drawn(1, 2, 4, 13, 18), drawn(2, 6, 2, 5, 3), drawn(3, 6)
    want = reference.run(cuconv.conv2d, wide(x), wide(w), wide(b), groups=2, padding=2)
    bound = fft_bound("forward", F4, x, w, 2, 30) + rounding(want, F4)
    for place in problems.ARRANGEMENTS:
        got = run(emulated, cuconv.conv2d, place(x), place(w), place(b), groups=2, padding=2)
        assert_within(got, want, bound)
    last = [np.moveaxis(a, 1, -1).copy() for a in (x, w)]
    out = np.full((2, 13, 20, 6), np.nan, "f4")[..., ::-1]
    got = run(emulated, cuconv.conv2d, *last, b, groups=2, padding=2, layout="NHWC", out=out)
    assert got is out
    assert_within(np.moveaxis(got, -1, 1), want, bound)


def test_bias_and_activation_are_fused(emulated, reference):
    for groups in (1, 2):
        x, w, b = drawn(1, 1, 2, 12, 13), drawn(2, 4, 2 // groups, 5, 5), drawn(3, 4)
        for activation in ("relu", "sigmoid", "tanh"):
            options = {"groups": groups, "activation": activation}
            want = reference.run(cuconv.conv2d, wide(x), wide(w), wide(b), **options)
            got = run(emulated, cuconv.conv2d, x, w, b, **options)
            assert_within(got, want, fft_bound("forward", F4, x, w, groups, 50) + 8e-7)


def test_transposed_convolution(emulated, reference):
    x, w, b = drawn(1, 2, 3, 9, 8), drawn(2, 3, 4, 5, 5), drawn(3, 4)
    want = reference.run(cuconv.conv_transpose2d, wide(x), wide(w), wide(b), stride=2, padding=1)
    got = run(emulated, cuconv.conv_transpose2d, x, w, b, stride=2, padding=1)
    assert_within(got, want, fft_bound("input_grad", F4, x, w, 1, 75) + rounding(want, F4))


@pytest.mark.parametrize("groups", [1, 2])
def test_nothing_to_sum_gives_the_bias(emulated, reference, groups):
    b = drawn(3, 4)
    for x, w in (((0, 2, 9, 9), (4, 2 // groups, 3, 3)), ((2, 2, 0, 9), (4, 2 // groups, 3, 3))):
        x, w = drawn(1, *x), drawn(2, *w)
        options = {"padding": 2, "groups": groups}
        want = reference.run(cuconv.conv2d, x, w, b, **options)
        assert_equal(run(emulated, cuconv.conv2d, x, w, b, **options), want)
        g = np.zeros(want.shape, "f4")
        got = run(emulated, cuconv.conv2d_weight_grad, g, x, w.shape, **options)
        assert_equal(got, np.zeros(w.shape, "f4"))
    x, w = np.zeros((2, 0, 9, 9), "f4"), np.zeros((4, 0, 3, 3), "f4")
    assert_equal(run(emulated, cuconv.conv2d, x, w, b), reference.run(cuconv.conv2d, x, w, b))


def test_a_nan_stays_in_its_image_and_group(emulated, reference):
    x, w = drawn(1, 3, 4, 20, 20), drawn(2, 4, 2, 5, 5)
    x[1, 1, 3, 3] = np.nan
    got = run(emulated, cuconv.conv2d, x, w, groups=2)
    assert np.isnan(got[1, :2]).any()
    assert np.isfinite(got[[0, 2]]).all()
    assert np.isfinite(got[1, 2:]).all()


# ---- workspace ----


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("name", ["groups", "strided", "volume", "a line", "depthwise"])
def test_workspace_limit(emulated, reference, name, direction):
    """Down to the least, chunk by chunk; forwards and for the input's gradient the same bits."""
    x, w, options = CASES[name]
    every = suits(direction, "f4", x, w, **options)[1]
    least = next(
        n for n in range(0, every + 1, 256) if not suits(direction, "f4", x, w, n, **options)[0]
    )
    assert 0 < least <= every
    assert least < every or direction == "weight_grad" or name == "volume"
    results = []
    for limit in (None, (least + every) // 2, least):
        refusal, need, _ = suits(direction, "f4", x, w, limit, **options)
        assert refusal == ""
        assert limit is None or need <= limit
        more = {**options, "workspace_limit": limit}
        results.append(check_limited(emulated, reference, x, w, direction, options, more))
    if direction != "weight_grad":
        assert len({r.tobytes() for r in results}) == 1
    refusal = suits(direction, "f4", x, w, least - 256, **options)[0]
    assert "bytes of workspace, the limit is" in refusal


def check_limited(emulated, reference, x, w, direction, options, more):
    class Limited:
        def select(self):
            return emulated.select()

    class Unlimited:
        def run(self, function, *arguments, **given):
            given.pop("workspace_limit")
            return reference.run(function, *arguments, **given)

    return check(Limited(), Unlimited(), drawn(1, *x), drawn(2, *w), direction, **more)


def test_workspace_is_bounded_without_a_limit():
    x, w = (512, 64, 112, 112), (64, 64, 7, 7)
    for direction in FUNCTIONS:
        refusal, need, _ = suits(direction, "f4", x, w, padding=3)
        assert refusal == ""
        assert need <= 256 << 20


# ---- the same bits ----


@pytest.mark.parametrize("name", ["groups", "depthwise", "a line", "volume"])
def test_an_image_does_not_depend_on_its_batch(emulated, name):
    x, w, options = CASES[name]
    x, w = drawn(1, 3, *x[1:]), drawn(2, *w)
    function = getattr(cuconv, f"conv{x.ndim - 2}d")
    whole = run(emulated, function, x, w, **options)
    for n in range(3):
        one = run(emulated, function, x[n : n + 1], w, **options)
        assert one.tobytes() == whole[n].tobytes()


def test_a_plan_gives_the_same_bits_thrice(emulated):  # pytorch#58724, #77048
    x, w = drawn(1, 2, 3, 23, 29), drawn(2, 5, 3, 7, 7)
    bits = set()
    for order in ("forward", "reverse", "shuffled"):
        with cuconv.use_backend("emulated", flavour="race", order=order):
            plan = cuconv.Conv2dPlan(x.shape, w.shape, "float32", algo="fft")
            assert plan.algo == "fft"
            bits |= {plan(x, w).tobytes() for _ in range(3)}
    assert len(bits) == 1


# ---- refusals, the choice ----


@pytest.mark.parametrize(
    ("x", "w", "options", "words"),
    [
        ((1, 1, 9, 9), (1, 1, 1, 1), {}, "one tap"),
        ((1, 1, 5, 9, 9), (1, 1, 3, 1, 1), {}, "one tap"),
        ((1, 1, 150, 90), (1, 1, 129, 3), {}, "128 elements along an axis at the most.* over 129"),
        ((1, 1, 190, 190), (1, 1, 3, 3), {"dilation": 80}, "reaches over 161"),
        ((1, 1, 50, 50), (1, 1, 5, 5), {"stride": 5}, "strides of up to 16 in all, not 25"),
        ((1, 1, 9000), (1, 1, 8193), {}, "8192 elements.* over 8193"),
        ((1, 1, 9), (1, 1, 3), {"padding": 2**29}, r"2\^29"),
    ],
)
def test_refusals_say_why(emulated, x, w, options, words):
    refusal = suits("forward", "f4", x, w, **options)[0]
    assert re.search(words, refusal), refusal
    for direction in ("input_grad", "weight_grad"):
        assert re.search(words, suits(direction, "f4", x, w, **options)[0])


def test_a_refusal_names_who_can(emulated):
    with pytest.raises(cuconv.UnsupportedError, match=r"one tap.*; direct, .*can do this"):
        run(emulated, cuconv.conv2d, drawn(1, 1, 1, 9, 9), drawn(2, 1, 1, 1, 1))


def test_auto_leaves_small_problems_and_halves_alone(emulated):
    def chosen(x, w, dtype, **options):
        with emulated.select():
            return cuconv.Conv2dPlan(x, w, dtype, **options).algo

    large = (1, 128, 31, 31), (96, 128, 11, 11)
    assert chosen(*large, "float32") == "fft"
    assert chosen(*large, "float16") != "fft"
    small = (1, 8, 31, 31), (8, 8, 11, 11)
    assert WORTH_TRANSFORMS > 8 * 8 * 21 * 21 * 121
    assert chosen(*small, "float32") != "fft"


def test_cost_does_not_depend_on_the_batch():
    for direction in FUNCTIONS:
        found = {suits(direction, "f4", (n, 8, 30, 30), (8, 8, 7, 7))[2] for n in (1, 3, 1000)}
        assert len(found) == 1


@pytest.mark.parametrize(("dtype", "most"), [("f4", 128), ("f8", 64), ("c8", 64), ("c16", 64)])
def test_what_planes_and_kernels_may_reach_over(dtype, most):
    for size in (most, most + 1):
        refusal = suits("forward", dtype, (1, 2, 200, 200), (2, 2, 3, size))[0]
        assert (refusal == "") == (size == most)


# ---- layers that exist ----


def named_layers():
    groups = layers.load()["groups"]
    found = {}
    for group in groups:
        if group["name"] in ("fbcunn_benchmark_fft", "large_depthwise_sweep"):
            for row in group["rows"]:
                if row["R"] * row["S"] > 1 and row["R"] <= 31:
                    found.setdefault(layers.scaled(row), None)
    return list(found)[::3]


@pytest.mark.parametrize("layer", named_layers(), ids=str)
def test_layers_that_transforms_are_for(emulated, reference, layer):
    x, w, _ = layer.shapes
    turn = hash(layer.kernel) % 3
    check(emulated, reference, drawn(1, *x), drawn(2, *w), list(FUNCTIONS)[turn], **layer.options)


def test_the_bound_is_not_idle():
    """Single rounding errors of the largest number are far below it, and wrong results above."""
    x, w = drawn(1, 1, 4, 30, 30), drawn(2, 3, 4, 7, 7)
    bound = fft_bound("forward", F4, x, w, 1, w[0].size)
    y = np.sqrt(w[0].size)  # of random numbers
    assert (bound < 0.05 * y).all()
    assert (bound > summed_eps(F4) * y).all()


def test_a_group_costs_the_same_however_many_there_are(emulated):
    """Their product was chosen for all at once, which a grid could not hold from 512 on."""
    a_group = set()
    for groups in (1, 64, 1024):
        x, w = (1, 16 * groups, 2000, 2000), (16 * groups, 16, 5, 5)
        _, _, (work, *_) = suits("forward", "float32", x, w, groups=groups)
        a_group.add(round(work / groups))
    assert len(a_group) == 1
