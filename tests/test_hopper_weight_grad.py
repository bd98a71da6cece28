"""The weight gradient of the kernels for Hopper: exact where TMA reads, and who does the rest."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from emulated_traffic import launched
from emulation.device import ORDERS
from emulation.test_cp_async import ARRIVALS
from gemm_calls import within
from test_hopper import FUNCTIONS, HALF, forced, on_64_bytes, shifted, sizes
from test_registry import MODULE, NO_LIMIT

VARIANTS = ("implicit_gemm_sm90_128x128", "implicit_gemm_sm90_256x128")
VARIANT = VARIANTS[0]
GRADIENTS = {
    1: cuconv.conv1d_weight_grad,
    2: cuconv.conv2d_weight_grad,
    3: cuconv.conv3d_weight_grad,
}
DTYPES = (HALF, problems.BFLOAT16)
BY_TMA = "weight_grad_sm90"
SECOND_PASS = "split_k"


def operands(reference, x_shape, w_shape, dtype=HALF, make=problems.integers, **options):
    """(gradient of y, x), channels last, at addresses that TMA takes."""
    rng = np.random.default_rng(21)
    rank = len(x_shape) - 2
    x = on_64_bytes(make(rng, x_shape, dtype))
    options.setdefault("layout", problems.LAST[rank])
    y = reference.run(FUNCTIONS[rank], x, np.zeros(w_shape, dtype), **options)
    return on_64_bytes(make(rng, y.shape, dtype)), x


def run(emulated, g, x, w_shape, variant=VARIANT, schedule=None, **options):
    """(result, kernels launched)"""
    rank = x.ndim - 2
    options.setdefault("layout", problems.LAST[rank])
    got = []
    with forced(emulated, variant, **(schedule or {})):
        kernels = launched(lambda: got.append(GRADIENTS[rank](g, x, w_shape, **options)))
    return got[0], kernels


def wanted(reference, g, x, w_shape, **options):
    rank = x.ndim - 2
    options.setdefault("layout", problems.LAST[rank])
    want = reference.run(GRADIENTS[rank], g, x, w_shape, **options)
    # Of a float16 every integer up to 2048 is one, of a bfloat16 up to 256.
    assert np.abs(want.astype("f8")).max(initial=0) <= (2048 if g.dtype == HALF else 256)
    return want


def check(emulated, reference, x_shape, w_shape, variant=VARIANT, dtype=HALF, **options):
    """Runs by TMA, and is what the reference says."""
    g, x = operands(reference, x_shape, w_shape, dtype, **options)
    got, kernels = run(emulated, g, x, w_shape, variant, **options)
    assert kernels == [BY_TMA]
    assert_equal(got, wanted(reference, g, x, w_shape, **options))


# ---- windows, tails, groups ----


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((150,), (5,), {"stride": 3, "padding": 2}),
        ((90,), (3,), {"dilation": 40, "padding": ((50, 30),)}),
        ((9,), (9,), {}),
        ((20, 9), (3, 2), {"stride": (2, 1), "padding": ((2, 0), (0, 3))}),
        ((11, 12), (3, 3), {"dilation": (3, 2), "padding": 4}),
        ((40, 7), (7, 7), {"padding": 3, "stride": 4}),
        ((7, 9), (3, 3), {"padding": "full"}),
        ((16, 16), (1, 1), {"stride": 8}),
        ((3, 4), (5, 3), {"padding": ((1, 1), (2, 0))}),
        ((4, 6, 7), (2, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
        ((5, 8, 4), (3, 1, 2), {"dilation": (2, 1, 3), "padding": (2, 0, 2)}),
        ((2, 1, 9), (2, 1, 1), {}),
    ],
    ids=str,
)
def test_windows_of_every_kind(emulated, reference, size, kernel, options):
    turn = len(str(options)) % 2
    shapes = (3, *size, 24), (16, *kernel, 24)
    check(emulated, reference, *shapes, VARIANTS[turn], DTYPES[turn], **options)


@pytest.mark.parametrize("positions", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("filters", [8, 128, 136])
@pytest.mark.parametrize("channels", [8, 64, 72, 136])
def test_tails(emulated, reference, positions, filters, channels):
    variant = VARIANTS[(positions + filters // 8 + channels // 8) % 2]
    shapes = (1, positions + 2, channels), (filters, 3, channels)
    check(emulated, reference, *shapes, variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_of_parts_of_boxes(emulated, reference, variant):
    """A copy reaches into the channels and filters of the next group."""
    shapes = (2, 6, 7, 3 * 24), (3 * 16, 3, 2, 24)
    check(emulated, reference, *shapes, variant, padding=1, groups=3)


@pytest.mark.parametrize("where", ["x", "g"])
def test_what_is_not_finite_stays_in_its_group_and_channel(emulated, reference, where):
    """NaN in one channel of one group: its column of the result alone."""
    w_shape = (2 * 16, 3, 3, 24)
    g, x = operands(reference, (1, 6, 7, 2 * 24), w_shape, padding=1, groups=2)
    (x if where == "x" else g)[0, 2, 3, 24 if where == "x" else 16] = np.nan
    got, kernels = run(emulated, g, x, w_shape, padding=1, groups=2)
    assert kernels == [BY_TMA]
    bad = np.isnan(got)
    assert bad.any()
    if where == "x":
        bad[16:, :, :, 0] = False
    else:
        bad[16] = False
    assert not bad.any()


# ---- pieces of sums ----


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_more_steps_than_stages_in_every_schedule(emulated, reference, variant, order, arrival):
    """Six tiles (four) in one piece, by three blocks: stages go round through all of them."""
    shapes = (2, 17, 16, 72), (136, 3, 1, 72)
    g, x = operands(reference, *shapes, DTYPES[ORDERS.index(order) % 2], padding=1)
    x[...] = np.sign(x.astype("f4"))
    schedule = {"order": order, "arrival": arrival}
    got, kernels = run(emulated, g, x, shapes[1], variant, schedule, padding=1)
    assert kernels == [BY_TMA]
    assert_equal(got, wanted(reference, g, x, shapes[1], padding=1))


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
def test_long_sums_in_pieces(emulated, reference, order, arrival):
    """Three pieces, the last one shorter, of a number of positions that no stage divides."""
    shapes = (3, 25, 23, 72), (24, 1, 1, 72)
    g, x = operands(reference, *shapes)
    x[...] = np.sign(x.astype("f4"))
    variant = VARIANTS[ARRIVALS.index(arrival)]
    schedule = {"order": order, "arrival": arrival}
    got, kernels = run(emulated, g, x, shapes[1], variant, schedule)
    assert kernels == [BY_TMA, SECOND_PASS]
    assert_equal(got, wanted(reference, g, x, shapes[1]))


def test_pieces_of_groups_and_taps(emulated, reference):
    shapes = (2, 25, 23, 2 * 16), (2 * 8, 3, 2, 16)
    options = {"groups": 2, "padding": ((1, 0), (1, 1)), "dilation": (2, 1)}
    g, x = operands(reference, *shapes, **options)
    x[...] = np.sign(x.astype("f4"))
    got, kernels = run(emulated, g, x, shapes[1], **options)
    assert kernels == [BY_TMA, SECOND_PASS]
    assert_equal(got, wanted(reference, g, x, shapes[1], **options))


def test_the_limit_on_workspace_decides_how_many_pieces_there_are(emulated):
    problem = (8, *sizes(c=64, k=64, size=(1, 56, 56))[1:])
    a_piece = 4 * 9 * 64 * 64

    def workspace(limit):
        refusal, needed, _ = MODULE.conv_suits(
            "weight_grad", VARIANT, "float16", "ieee", limit, problem
        )
        assert refusal == ""
        return needed

    assert workspace(a_piece) == workspace(0) == 0
    assert workspace(2 * a_piece) == 2 * a_piece
    assert workspace(NO_LIMIT) > 8 * a_piece


def test_a_piece_less_where_the_workspace_is_small(emulated, reference):
    shapes = (3, 25, 23, 72), (24, 1, 1, 72)
    g, x = operands(reference, *shapes)
    x[...] = np.sign(x.astype("f4"))
    want = wanted(reference, g, x, shapes[1])
    for limit, kernels in ((4 * 24 * 72 * 2, [BY_TMA, SECOND_PASS]), (0, [BY_TMA])):
        got, launches = run(emulated, g, x, shapes[1], workspace_limit=limit)
        assert launches == kernels
        assert_equal(got, want)


# ---- views ----


def test_views_that_tma_reads(emulated, reference):
    """Slices with strides of multiples of 16 bytes; the result in any, in one piece and several."""
    w_shape = (16, 3, 3, 24)
    for size in ((12, 10), (40, 31)):
        wide_g, wide_x = operands(reference, (2, *size, 48), (32, 3, 3, 48), padding=1)
        wide_x[...] = np.sign(wide_x.astype("f4"))
        g, x = wide_g[:, :, ::2, 8:24], wide_x[:, :, ::2, 16:40]
        want = wanted(reference, g, x, w_shape, padding=1)
        for view in (np.ascontiguousarray, np.asfortranarray, problems.sliced_view):
            out = view(np.zeros_like(want))
            _, kernels = run(emulated, g, x, w_shape, padding=1, out=out)
            assert kernels == ([BY_TMA] if size == (12, 10) else [BY_TMA, SECOND_PASS])
            assert_equal(out, want)


@pytest.mark.parametrize("which", ["g", "x"])
@pytest.mark.parametrize(
    "view", [problems.reversed_view, problems.sliced_view, np.asfortranarray, shifted, "broadcast"]
)
def test_what_lies_as_tma_cannot_read_goes_to_the_kernel_of_sm_80(emulated, reference, view, which):
    w_shape = (8, 3, 2, 16)
    g, x = operands(reference, (3, 6, 7, 16), w_shape)
    of = {"g": g, "x": x}[which]
    if view == "broadcast":
        moved = np.broadcast_to(of[:1], of.shape)
    else:
        moved = view(of)
        moved[...] = of
    g, x = (moved, x) if which == "g" else (g, moved)
    got, kernels = run(emulated, g, x, w_shape)
    assert kernels == ["implicit_gemm_tensor_core"]
    assert_equal(got, wanted(reference, g, x, w_shape))


def test_views_keep_to_the_workspace(emulated, reference):
    """The kernel of sm_80 would cut the sums into pieces of its own."""
    w_shape = (8, 3, 2, 16)
    g, x = operands(reference, (3, 25, 27, 16), w_shape)
    moved = problems.sliced_view(x)
    moved[...] = np.sign(x.astype("f4"))
    got, kernels = run(emulated, g, moved, w_shape)
    assert kernels == ["implicit_gemm_tensor_core", SECOND_PASS]
    assert_equal(got, wanted(reference, g, moved, w_shape))


def test_a_flipped_kernel_is_a_view_of_the_result_alone(emulated, reference):
    check(emulated, reference, (1, 6, 7, 16), (8, 3, 2, 16), flip_kernel=True)


def test_no_images_give_zeros(emulated):
    for variant in VARIANTS:
        g, x = np.zeros((0, 4, 5, 8), HALF), np.zeros((0, 6, 7, 16), HALF)
        got, _ = run(emulated, g, x, (8, 3, 3, 16), variant)
        assert_equal(got, np.zeros((8, 3, 3, 16), HALF))


# ---- refusals, choice, rounding ----


@pytest.mark.parametrize(
    ("problem", "dtype", "words"),
    [
        ({}, "float32", "its weight gradient is of 16 bits: wgmma transposes no tf32"),
        ({}, "complex64", "tensor cores have no complex64"),
        ({"c": 12}, "float16", "not 12 channels of float16"),
        ({"k": 12}, "bfloat16", "not 12 channels of bfloat16"),
        ({"c": 1, "k": 1, "groups": 64}, "float16", "not 1 channels of float16"),
        ({"c": 0}, "float16", "its input is empty"),
        ({"pad": (0, 129, 0)}, "float16", "more than TMA's 128 positions in 2-D along the height"),
        (
            {"stride": (1, 9, 9), "size": (1, 30, 30)},
            "float16",
            "TMA steps by 8 at the most, not 9 along the height",
        ),
        ({"c": 1 << 62}, "float16", "it counts the outputs of all images to 2^30"),
        ({"c": 8, "k": 1 << 29, "groups": 8}, "float16", "channels are more than 2^31"),
        ({"kernel": (1, 5, 7), "groups": 1 << 27}, "float16", "its tiles are more than 2^31"),
    ],
)
def test_refusals_say_why(emulated, problem, dtype, words):
    request = ("weight_grad", VARIANT, dtype, "tf32", NO_LIMIT, sizes(**problem))
    assert words in MODULE.conv_suits(*request)[0]


def test_channels_first_is_refused(emulated):
    request = ("weight_grad", VARIANT, "float16", "ieee", NO_LIMIT, sizes(), False)
    assert "channels last" in MODULE.conv_suits(*request)[0]


def test_it_is_chosen_where_it_is_full(emulated, reference):
    """128 filters and channels fill the tile; of 32 a smaller one wastes less."""
    for channels, by_tma in ((128, True), (32, False)):
        w_shape = (channels, 3, 3, channels)
        g, x = operands(reference, (1, 8, 8, channels), w_shape, padding=1)
        with emulated.select():
            kernels = launched(cuconv.conv2d_weight_grad, g, x, w_shape, padding=1, layout="NHWC")
        assert (kernels == [BY_TMA]) == by_tma


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_errors_are_within_their_bounds(emulated, reference, dtype, variant):
    shapes = (2, 29, 20, 24), (16, 3, 3, 24)
    g, x = operands(reference, *shapes, dtype, problems.normal, padding=1)
    got, kernels = run(emulated, g, x, shapes[1], variant, padding=1)
    assert kernels == [BY_TMA, SECOND_PASS]
    call = (cuconv.conv2d_weight_grad, (g, x, shapes[1]), {"layout": "NHWC", "padding": 1})
    within(got, call, dtype, "ieee", reference, 2 * 29 * 20)


def test_the_same_call_gives_the_same_bits(emulated, reference):
    """In every order of threads and copies: pieces are added in theirs."""
    shapes = (2, 29, 20, 24), (16, 3, 3, 24)
    g, x = operands(reference, *shapes, HALF, problems.normal, padding=1)
    found = {
        run(emulated, g, x, shapes[1], VARIANT, {"order": o, "arrival": a}, padding=1)[0].tobytes()
        for o in ORDERS
        for a in ARRIVALS
    }
    assert len(found) == 1
