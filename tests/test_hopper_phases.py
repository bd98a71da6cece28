"""The kernel for Hopper on input gradients of any stride, phase by phase, and on flipped filters.

A phase is the positions of the input of one residue modulo the stride: a launch each.
"""

import itertools
from collections import Counter

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from emulated_traffic import launched
from emulation.device import ORDERS
from emulation.test_cp_async import ARRIVALS
from test_hopper import FUNCTIONS, HALF, KINDS, VARIANT, VARIANTS, forced, on_64_bytes, operands
from test_hopper import sizes as sizes_of
from test_registry import MODULE, NO_LIMIT

GRADIENTS = {1: cuconv.conv1d_input_grad, 2: cuconv.conv2d_input_grad, 3: cuconv.conv3d_input_grad}
BY_TMA, BY_SM80 = "implicit_gemm_sm90", "implicit_gemm_tensor_core"


def by_axis(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def launches(size, kernel, options):
    """How many launches of each kernel the phases take: those without taps have nothing to read."""
    rank = len(size)
    stride, dilation = (by_axis(options.get(name, 1), rank) for name in ("stride", "dilation"))
    low = [p if isinstance(p, int) else p[0] for p in by_axis(options.get("padding", 0), rank)]
    met = [
        [any((at + p - t * d) % s == 0 for t in range(r)) for at in range(min(n, s))]
        for n, r, s, d, p in zip(size, kernel, stride, dilation, low, strict=True)
    ]
    by_tma = sum(map(all, itertools.product(*met)))
    phases = int(np.prod([len(axis) for axis in met]))
    return Counter({BY_TMA: by_tma, BY_SM80: phases - by_tma})


def gradient_call(reference, seed, shape, w_shape, dtype=HALF, **options):
    """(grad of y, w, options with a layout), channels last."""
    rank = len(shape) - 2
    options["layout"] = problems.LAST[rank]
    x, w = operands(seed, shape, w_shape, dtype)
    y = reference.run(FUNCTIONS[rank], x, w, **options)
    g = problems.integers(np.random.default_rng(seed + 1), y.shape, dtype)
    return on_64_bytes(g), w, options


def check(emulated, reference, g, w, shape, options, want_launches, variant=VARIANT, **schedule):
    rank = g.ndim - 2
    want = reference.run(GRADIENTS[rank], g, w, shape, **options)
    got = []
    with forced(emulated, variant, **schedule):
        kernels = launched(lambda: got.append(GRADIENTS[rank](g, w, shape, **options)))
    assert Counter(kernels) == +want_launches
    assert_equal(got[0], want)


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((50,), (5,), {"stride": 2, "padding": 2}),
        ((40,), (4,), {"stride": 3, "dilation": 2, "padding": ((3, 1),)}),
        ((31,), (2,), {"stride": 9}),  # further than TMA steps: here it does not
        ((20, 9), (3, 2), {"stride": (2, 1), "padding": ((2, 0), (0, 3))}),
        ((15, 14), (3, 3), {"stride": 2, "padding": 1}),
        ((15, 14), (1, 1), {"stride": 2}),  # three phases of four have no taps
        ((16, 13), (2, 2), {"stride": (2, 3), "padding": 1}),
        ((12, 15), (3, 4), {"stride": (2, 4), "dilation": (2, 3), "padding": (4, 5)}),
        ((3, 14), (3, 3), {"stride": 4, "padding": ((1, 3), (0, 0))}),
        ((4, 6, 7), (2, 3, 3), {"stride": (1, 2, 1), "padding": 1}),
        ((5, 4, 7), (3, 1, 2), {"stride": (2, 3, 2), "dilation": (1, 1, 3), "padding": (1, 0, 2)}),
    ],
    ids=str,
)
def test_gradients_of_strides(emulated, reference, size, kernel, options):
    shape = (3, *size, 24)
    dtypes = (HALF, problems.BFLOAT16)
    for variant, dtype, flip in zip(VARIANTS, dtypes, (False, True), strict=True):
        g, w, how = gradient_call(reference, 20, shape, (16, *kernel, 24), dtype, **options)
        how["flip_kernel"] = flip
        counts = launches(size, kernel, options)
        check(emulated, reference, g, w, shape, how, counts, variant)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_of_strides_in_every_schedule(emulated, reference, order, arrival):
    """Phases of more tiles than blocks, and of more steps than stages."""
    shape, options = (2, 34, 25, 136), {"stride": 2, "padding": 1}
    dtype = (HALF, problems.BFLOAT16)[ORDERS.index(order) % 2]
    g, w, how = gradient_call(reference, 21, shape, (72, 3, 3, 136), dtype, **options)
    schedule = {"order": order, "arrival": arrival}
    check(emulated, reference, g, w, shape, how, Counter({BY_TMA: 4}), **schedule)


def drawn(seed):
    """(shape, w shape, options) of any stride, dilation, padding and rank."""
    rng = np.random.default_rng([seed, 90])
    rank = 1 + seed % 3
    groups = int(rng.choice([1, 1, 2]))
    k = groups * (64 if groups > 1 else 8 * int(rng.integers(1, 11)))
    c = 8 * int(rng.integers(1, 5))
    kernel, stride, dilation = (
        tuple(int(n) for n in rng.integers(1, most, rank)) for most in (5 if rank < 3 else 3, 5, 4)
    )
    reach = [d * (r - 1) + 1 for d, r in zip(dilation, kernel, strict=True)]
    padding = tuple((int(rng.integers(n + 1)), int(rng.integers(n + 1))) for n in reach)
    size = tuple(
        max(1, n - low - high) + int(rng.integers(9 if rank < 3 else 4))
        for n, (low, high) in zip(reach, padding, strict=True)
    )
    options = {
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "groups": groups,
        "flip_kernel": bool(rng.integers(2)),
    }
    shape = (int(rng.integers(1, 4)), *size, groups * c)
    return shape, (k, *kernel, c), options


@pytest.mark.parametrize("part", range(4))
def test_drawn_gradients(emulated, reference, part):
    taps = Counter()
    for seed in range(20 * part, 20 * (part + 1)):
        shape, w_shape, options = drawn(seed)
        dtype = (HALF, problems.BFLOAT16)[seed // 2 % 2]
        g, w, how = gradient_call(reference, seed, shape, w_shape, dtype, **options)
        counts = launches(shape[1:-1], w_shape[1:-1], options)
        schedule = {"order": ORDERS[seed % 4], "arrival": ARRIVALS[seed % 2], "seed": seed}
        check(emulated, reference, g, w, shape, how, counts, VARIANTS[seed // 4 % 2], **schedule)
        taps += counts
    assert taps[BY_TMA] >= 20
    assert taps[BY_SM80] > 0


def test_phases_write_their_own_positions_of_any_view(emulated, reference):
    shape = (2, 11, 9, 16)
    g, w, how = gradient_call(reference, 22, shape, (8, 3, 3, 16), stride=(2, 3), padding=1)
    want = reference.run(cuconv.conv2d_input_grad, g, w, shape, **how)
    for view in (np.asfortranarray, problems.sliced_view, problems.reversed_view):
        out = view(np.zeros_like(want))
        with forced(emulated):
            cuconv.conv2d_input_grad(g, w, shape, out=out, **how)
        assert_equal(out, want)


def test_positions_that_no_tap_meets_are_zero_or_the_bias(emulated, reference):
    """Whatever w and the gradient hold: zero times NaN would be NaN."""
    shape = (1, 9, 7, 16)
    g, w, how = gradient_call(reference, 23, shape, (8, 1, 2, 16), stride=3)
    with forced(emulated):
        got = cuconv.conv2d_input_grad(np.full_like(g, np.nan), w, shape, **how)
    met = np.zeros((9, 7), bool)
    met[::3, [0, 1, 3, 4]] = True  # one output reads (0, 1), the next (3, 4); none (2), (5), (6)
    assert np.isnan(got[0, met]).all()
    assert not got[0, ~met].any()

    x, w = operands(24, (2, 4, 3, 16), (16, 1, 2, 8))
    bias = np.arange(8).astype(HALF) - 3
    options = {"stride": 3, "layout": "NHWC"}
    want = reference.run(cuconv.conv_transpose2d, x, w, bias, **options)
    got = []
    with forced(emulated):
        kernels = launched(lambda: got.append(cuconv.conv_transpose2d(x, w, bias, **options)))
    assert Counter(kernels) == {BY_TMA: 2, BY_SM80: 7}
    assert_equal(got[0], want)


def test_phases_that_tma_cannot_read_go_to_the_kernel_of_sm_80(emulated, reference):
    shape = (2, 7, 8, 16)
    g, w, how = gradient_call(reference, 25, shape, (8, 3, 3, 16), stride=2, padding=1)
    g = problems.shifted_view(g)
    check(emulated, reference, g, w, shape, how, Counter({BY_SM80: 4}))


def test_an_image_of_a_gradient_does_not_depend_on_its_batch(emulated, reference):
    g, w, how = gradient_call(reference, 26, (3, 11, 10, 24), (40, 3, 3, 24), stride=2, padding=1)
    rng = np.random.default_rng(27)
    g[...] = rng.standard_normal(g.shape)
    w[...] = rng.standard_normal(w.shape)
    with forced(emulated):
        whole = cuconv.conv2d_input_grad(g, w, (3, 11, 10, 24), **how)
        for i in range(3):
            alone = cuconv.conv2d_input_grad(g[i : i + 1], w, (1, 11, 10, 24), **how)
            assert alone[0].tobytes() == whole[i].tobytes()


# ---- sizes ----


def asked(problem):
    return MODULE.conv_suits("input_grad", VARIANT, "float16", "ieee", NO_LIMIT, problem)


def test_strides_are_taken_up_to_64_phases(emulated):
    assert asked(sizes_of(stride=(1, 8, 8), size=(1, 20, 21)))[0] == ""
    assert asked(sizes_of(stride=(1, 8, 8), size=(1, 20, 21)))[2][3] == 64  # launches
    assert asked(sizes_of(stride=(1, 100, 1), size=(1, 3, 21)))[2][3] == 3
    refusal = asked(sizes_of(stride=(1, 8, 9), size=(1, 20, 21)))[0]
    assert "a product for each of 72 residues of the stride, and it takes 64 at the most" in refusal


def test_work_is_that_of_the_taps_that_meet(emulated):
    """At stride 2 four phases of 3x3 taps have 4 + 2 + 2 + 1 of them, as many as a fourth of the
    positions at stride 1, and four times as many meet zeros between the outputs."""
    strided = asked(sizes_of(c=128, k=64, stride=(1, 2, 2), size=(1, 64, 64), pad=(0, 1, 1)))
    plain = asked(sizes_of(c=128, k=64, size=(1, 32, 32), pad=(0, 1, 1)))
    assert 0.99 * plain[2][0] < strided[2][0] < 2 * plain[2][0]
    assert strided[2][3] == 4 * plain[2][3]


def test_limits_are_those_of_the_phase(emulated):
    """Taps 300 apart meet outputs that are 150 apart at stride 2."""
    far = {"kernel": (1, 1, 2), "dilation": (1, 1, 300), "size": (1, 2, 500), "pad": (0, 0, 100)}
    assert asked(sizes_of(stride=(1, 1, 2), **far))[0] == ""
    assert "taps reach over 256 positions or more along the width" in asked(sizes_of(**far))[0]


# ---- flipped filters ----


@pytest.mark.parametrize("dtype_precision", KINDS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_flipped_filters_are_read_backwards(emulated, reference, rank, dtype_precision):
    dtype, precision = dtype_precision
    kernel, options = (2, 3, 2)[:rank], {"padding": 1, "layout": problems.LAST[rank]}
    x, w = operands(28, (2, *(4, 6, 5)[:rank], 24), (12, *kernel, 24), dtype)
    flipped = w
    for axis in range(1, 1 + rank):
        flipped = np.flip(flipped, axis)
    one_axis = np.flip(w, rank)
    for filters, flip in ((w, True), (flipped, False), (flipped, True), (one_axis, False)):
        want = reference.run(FUNCTIONS[rank], x, filters, flip_kernel=flip, **options)
        got = []
        with forced(emulated):
            kernels = launched(
                lambda filters=filters, flip=flip, got=got: got.append(
                    FUNCTIONS[rank](x, filters, flip_kernel=flip, precision=precision, **options)
                )
            )
        assert kernels == [BY_TMA]
        assert_equal(got[0], want)
