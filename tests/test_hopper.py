"""The kernel for Hopper: exact on problems that TMA reads, and who does the others."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from emulated_traffic import launched
from emulation.device import ORDERS
from emulation.test_cp_async import ARRIVALS
from gemm_calls import within
from test_registry import MODULE, NO_LIMIT

VARIANTS = ("implicit_gemm_sm90_128x128", "implicit_gemm_sm90_256x128")
VARIANT = VARIANTS[0]
FUNCTIONS = {1: cuconv.conv1d, 2: cuconv.conv2d, 3: cuconv.conv3d}
HALF, TF32 = np.dtype("float16"), np.dtype("float32")
KINDS = ((HALF, "ieee"), (problems.BFLOAT16, "ieee"), (TF32, "tf32"))


def forced(emulated, variant=VARIANT, **schedule):
    return cuconv.use_backend("emulated", **{**emulated.options(), **schedule, "variant": variant})


def operands(seed, x_shape, w_shape, dtype=HALF, make=problems.integers):
    """Channels last, at an address that TMA takes."""
    rng = np.random.default_rng(seed)
    return tuple(on_64_bytes(make(rng, shape, dtype)) for shape in (x_shape, w_shape))


def on_64_bytes(a):
    room = np.empty(a.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    view = room[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def check(emulated, reference, x, w, variant=VARIANT, **options):
    """Runs by TMA, and is what the reference says."""
    rank = x.ndim - 2
    options["layout"] = problems.LAST[rank]
    want = reference.run(FUNCTIONS[rank], x, w, **options)
    got = []
    with forced(emulated, variant):
        kernels = launched(lambda: got.append(FUNCTIONS[rank](x, w, **options)))
    assert set(kernels) == {"implicit_gemm_sm90"}
    assert_equal(got[0], want)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_more_steps_than_stages_in_every_schedule(emulated, reference, variant, order, arrival):
    """Three blocks take eight tiles (four), of 18 steps: rounds of stages, and tiles, go on in each
    other."""
    dtype, precision = KINDS[ORDERS.index(order) % 3]
    x, w = operands(1, (2, 17, 13, 72), (130, 3, 3, 72), dtype)
    bias = np.arange(130).astype(dtype) % 5
    want = reference.run(cuconv.conv2d, x, w, bias, padding=1, layout="NHWC", activation="relu")
    if dtype == problems.BFLOAT16:
        assert np.abs(want.astype("f8")).max() <= 256
    with forced(emulated, variant, order=order, arrival=arrival):
        got = cuconv.conv2d(
            x, w, bias, padding=1, layout="NHWC", activation="relu", precision=precision
        )
    assert_equal(got, want)


@pytest.mark.parametrize(
    ("rank", "size", "kernel", "options"),
    [
        (1, (300,), (5,), {"stride": 3, "padding": 2}),
        (1, (90,), (3,), {"dilation": 40, "padding": ((50, 30),)}),
        (1, (9,), (9,), {}),
        (2, (30, 9), (3, 2), {"stride": (2, 1), "padding": ((2, 0), (0, 3))}),
        (2, (11, 12), (3, 3), {"dilation": (5, 2), "padding": 4}),
        (2, (40, 7), (7, 7), {"padding": 3, "stride": 4}),
        (2, (7, 9), (3, 3), {"padding": "full"}),
        (2, (5, 200), (1, 3), {"padding": ((0, 0), (1, 1))}),
        (2, (16, 16), (1, 1), {"stride": 8}),
        (2, (14, 13), (12, 12), {"padding": 2}),
        (3, (4, 6, 7), (2, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
        (3, (5, 8, 4), (3, 1, 2), {"dilation": (2, 1, 3), "padding": (2, 0, 2)}),
        (3, (2, 1, 9), (2, 1, 1), {}),
    ],
    ids=str,
)
def test_windows_of_every_kind(emulated, reference, rank, size, kernel, options):
    x, w = operands(2, (3, *size, 24), (20, *kernel, 24))
    check(emulated, reference, x, w, **options)


@pytest.mark.parametrize("rows", [1, 127, 129, 256, 260])
@pytest.mark.parametrize("filters", [1, 7, 8, 127, 129, 136])
@pytest.mark.parametrize("channels", [8, 64, 72, 136])
def test_tails(emulated, reference, rows, filters, channels):
    x, w = operands(3, (1, rows, channels), (filters, 1, channels))
    variant = VARIANTS[(rows + filters + channels // 8) % 2]
    check(emulated, reference, x, w, variant)


@pytest.mark.parametrize("dtype", [HALF, problems.BFLOAT16])
def test_groups_of_whole_lines(emulated, reference, dtype):
    x, w = operands(4, (2, 8, 9, 3 * 64), (3 * 20, 3, 3, 64), dtype)
    check(emulated, reference, x, w, padding=1, groups=3)


def test_more_bands_than_one(emulated, reference):
    """13 tiles of rows by 2 of filters: a band of eight, and one of five."""
    x, w = operands(5, (1, 40, 40, 8), (130, 1, 1, 8))
    for variant in VARIANTS:
        check(emulated, reference, x, w, variant)


def test_views_that_tma_reads(emulated, reference):
    """Slices with strides of multiples of 16 bytes; the result in any."""
    x, w = operands(6, (2, 12, 10, 48), (24, 3, 3, 48))
    part = (slice(None), slice(1, None, 2), slice(2, None), slice(8, 32))
    x, w = x[part], w[..., 8:32]
    check(emulated, reference, x, w, padding=1)
    want = reference.run(cuconv.conv2d, x, w, padding=1, layout="NHWC")
    for view in (np.asfortranarray, problems.sliced_view, problems.reversed_view):
        out = view(np.zeros_like(want))
        with forced(emulated):
            cuconv.conv2d(x, w, padding=1, layout="NHWC", out=out)
        assert_equal(out, want)


def shifted(a):
    return on_64_bytes(np.zeros(a.size + 1, a.dtype))[1:].reshape(a.shape)


@pytest.mark.parametrize("which", ["x", "w"])
@pytest.mark.parametrize(
    "view", [problems.reversed_view, problems.sliced_view, np.asfortranarray, shifted, "broadcast"]
)
def test_what_lies_as_tma_cannot_read_goes_to_the_kernel_of_sm_80(emulated, reference, view, which):
    x, w = operands(7, (3, 6, 7, 16), (12, 3, 2, 16))
    if view == "broadcast":
        moved = {"x": np.broadcast_to(x[:1], x.shape), "w": np.broadcast_to(w[:1], w.shape)}[which]
    else:
        moved = view({"x": x, "w": w}[which])
        moved[...] = {"x": x, "w": w}[which]
    x, w = (moved, w) if which == "x" else (x, moved)
    want = reference.run(cuconv.conv2d, x, w, layout="NHWC")
    got = []
    with forced(emulated):
        kernels = launched(lambda: got.append(cuconv.conv2d(x, w, layout="NHWC")))
    # Images that only lie oddly to one another go one by one.
    by_tma = view == "broadcast" and which == "x"
    assert set(kernels) == {"implicit_gemm_sm90" if by_tma else "implicit_gemm_tensor_core"}
    assert_equal(got[0], want)


# ---- problems as launchers are asked about them ----


def sizes(c=8, k=8, groups=1, size=(1, 8, 9), kernel=(1, 3, 3), **windows):
    """A problem of 2-D unless told otherwise."""
    ones, zeros = (1, 1, 1), (0, 0, 0)
    stride, pad, dilation = (
        windows.get(name, usual)
        for name, usual in (("stride", ones), ("pad", zeros), ("dilation", ones))
    )
    out = tuple(
        (n + 2 * p - d * (r - 1) - 1) // s + 1
        for n, p, d, r, s in zip(size, pad, dilation, kernel, stride, strict=True)
    )
    return (1, groups, c, k, *size, *kernel, *out, *stride, *pad, *dilation)


# ---- the input gradient at stride 1 ----


def check_gradient(emulated, reference, g, w, shape, variant=VARIANT, **options):
    rank = g.ndim - 2
    function = {
        1: cuconv.conv1d_input_grad,
        2: cuconv.conv2d_input_grad,
        3: cuconv.conv3d_input_grad,
    }
    options["layout"] = problems.LAST[rank]
    want = reference.run(function[rank], g, w, shape, **options)
    got = []
    with forced(emulated, variant):
        kernels = launched(lambda: got.append(function[rank](g, w, shape, **options)))
    assert set(kernels) == {"implicit_gemm_sm90"}
    assert_equal(got[0], want)


def gradient_operands(reference, x_shape, w_shape, dtype=HALF, **options):
    """(grad of y, w) of a convolution, channels last."""
    rank = len(x_shape) - 2
    x, w = operands(11, x_shape, w_shape, dtype)
    y = reference.run(FUNCTIONS[rank], x, w, layout=problems.LAST[rank], **options)
    return on_64_bytes(problems.integers(np.random.default_rng(12), y.shape, dtype)), w


@pytest.mark.parametrize(
    ("size", "kernel", "options"),
    [
        ((50,), (5,), {"padding": 2}),
        ((90,), (3,), {"dilation": 40, "padding": ((50, 30),)}),
        ((20, 9), (3, 2), {"padding": ((2, 0), (0, 3))}),
        ((11, 12), (3, 3), {"dilation": (3, 2), "padding": 4}),
        ((7, 9), (3, 3), {"padding": "full"}),
        ((9, 8), (1, 1), {}),
        ((4, 6, 7), (2, 3, 3), {"padding": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_windows_of_every_kind(emulated, reference, variant, size, kernel, options):
    shape = (3, *size, 24)
    for dtype in (HALF, problems.BFLOAT16):
        g, w = gradient_operands(reference, shape, (16, *kernel, 24), dtype, **options)
        check_gradient(emulated, reference, g, w, shape, variant, **options)


@pytest.mark.parametrize("rows", [1, 129])
@pytest.mark.parametrize("filters", [8, 72])
@pytest.mark.parametrize("channels", [8, 64, 72, 136])
def test_tails_of_gradients(emulated, reference, rows, filters, channels):
    shape = (1, rows, channels)
    g, w = gradient_operands(reference, shape, (filters, 3, channels), padding=1)
    check_gradient(emulated, reference, g, w, shape, padding=1)


def test_gradients_of_groups(emulated, reference):
    shape = (2, 6, 7, 3 * 24)
    g, w = gradient_operands(reference, shape, (3 * 64, 3, 3, 24), padding=1, groups=3)
    check_gradient(emulated, reference, g, w, shape, padding=1, groups=3)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_in_every_schedule(emulated, reference, order, arrival):
    shape = (2, 17, 13, 72)
    g, w = gradient_operands(reference, shape, (72, 3, 3, 72), padding=1)
    want = reference.run(cuconv.conv2d_input_grad, g, w, shape, padding=1, layout="NHWC")
    with forced(emulated, order=order, arrival=arrival):
        got = cuconv.conv2d_input_grad(g, w, shape, padding=1, layout="NHWC")
    assert_equal(got, want)


def test_gradients_that_tma_cannot_read_go_to_the_kernel_of_sm_80(emulated, reference):
    shape = (2, 6, 7, 16)
    g, w = gradient_operands(reference, shape, (8, 3, 2, 16))
    w = problems.shifted_view(w)
    want = reference.run(cuconv.conv2d_input_grad, g, w, shape, layout="NHWC")
    got = []
    with forced(emulated):
        kernels = launched(lambda: got.append(cuconv.conv2d_input_grad(g, w, shape, layout="NHWC")))
    assert kernels == ["implicit_gemm_tensor_core"]
    assert_equal(got[0], want)


@pytest.mark.parametrize(
    ("problem", "dtype", "words"),
    [
        ({}, "float32", "its input gradient is of 16 bits"),
        ({"c": 12}, "float16", "not 12 channels of float16"),
        ({"k": 12}, "float16", "not 12 channels of float16"),
        ({"k": 8, "c": 64, "groups": 2}, "float16", "each needs a multiple of 64 channels, not 8"),
    ],
)
def test_refusals_of_gradients_say_why(emulated, problem, dtype, words):
    request = ("input_grad", VARIANT, dtype, "tf32", NO_LIMIT, sizes(**problem))
    assert words in MODULE.conv_suits(*request)[0]


# ---- refusals ----


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (sizes(c=3), "TMA reads strides of multiples of 16 bytes, not 3 channels of float16"),
        (sizes(c=12), "not 12 channels of float16"),
        (sizes(c=8, groups=2), "each needs a multiple of 64 channels, not 8"),
        (sizes(c=0), "its input is empty"),
        (
            sizes(stride=(1, 9, 9), size=(1, 30, 30)),
            "TMA steps by 8 at the most, not 9 along the height",
        ),
        (
            sizes(kernel=(1, 1, 3), dilation=(1, 1, 128), size=(1, 2, 300)),
            "reach over 256 positions or more along the width, further than TMA does in 2-D",
        ),
        (sizes(pad=(0, 129, 0)), "more than TMA's 128 positions in 2-D along the height"),
        (sizes(kernel=(1, 150, 1), size=(1, 300, 2)), "more than TMA's 128 positions in 2-D"),
        (sizes(kernel=(18, 1, 1), size=(40, 2, 2)), "more than TMA's 16 positions in 3-D"),
        (sizes(pad=(17, 1, 1), size=(4, 4, 4)), "TMA's 16 positions in 3-D along the depth"),
        (sizes(c=1 << 62), "counts rows and terms of an image to 2^30"),
        (sizes(k=1 << 62), "counts rows and terms of an image to 2^30"),
    ],
)
def test_refusals_say_why(emulated, problem, words):
    refusal = MODULE.conv_suits("forward", VARIANT, "float16", "ieee", NO_LIMIT, problem)[0]
    assert words in refusal


def test_the_limits_themselves_are_taken(emulated):
    for problem in (
        sizes(stride=(1, 8, 8), size=(1, 30, 30)),
        sizes(stride=(1, 9, 1), size=(1, 3, 9)),  # one output: no steps
        sizes(kernel=(1, 1, 2), dilation=(1, 1, 127), size=(1, 2, 300)),
        sizes(pad=(0, 128, 0), kernel=(1, 129, 1)),
        sizes(kernel=(17, 1, 1), size=(40, 2, 2)),
    ):
        assert MODULE.conv_suits("forward", VARIANT, "float16", "ieee", NO_LIMIT, problem)[0] == ""


def test_channels_first_is_refused(emulated):
    refusal = MODULE.conv_suits("forward", VARIANT, "float16", "ieee", NO_LIMIT, sizes(), False)[0]
    assert "channels last" in refusal
    with forced(emulated), pytest.raises(cuconv.UnsupportedError, match="channels last"):
        cuconv.conv2d(np.ones((1, 8, 4, 4), HALF), np.ones((8, 8, 1, 1), HALF))


def test_it_is_chosen_for_large_layers_with_channels_last(emulated):
    def variant(layout, x, w, **options):
        with emulated.select():
            plan = cuconv.Conv2dPlan(x, w, "float16", layout=layout, device="cpu", **options)
        return plan.variant

    assert variant("NHWC", (8, 56, 56, 256), (256, 3, 3, 256), padding=1) == VARIANTS[1]
    assert variant("NHWC", (1, 7, 7, 512), (512, 1, 1, 512)) in VARIANTS
    assert variant("NCHW", (8, 256, 56, 56), (256, 256, 3, 3), padding=1) not in VARIANTS
    assert variant("NHWC", (8, 224, 224, 3), (64, 7, 7, 3), stride=2) not in VARIANTS


# ---- rounding ----


@pytest.mark.parametrize(("dtype", "precision"), KINDS, ids=str)
def test_errors_are_within_their_bounds(emulated, reference, dtype, precision):
    x, w = operands(9, (1, 9, 10, 40), (24, 3, 3, 40), dtype, problems.normal)
    options = {"layout": "NHWC", "padding": 1}
    with forced(emulated):
        got = cuconv.conv2d(x, w, precision=precision, **options)
    within(got, (cuconv.conv2d, (x, w), options), dtype, precision, reference, 9 * 40)


@pytest.mark.parametrize(("dtype", "precision"), KINDS, ids=str)
def test_an_image_does_not_depend_on_its_batch(emulated, dtype, precision):
    x, w = operands(10, (3, 9, 10, 40), (24, 3, 3, 40), dtype, problems.normal)
    apart = on_64_bytes(np.zeros(x.size + 3, x.dtype))  # images an odd number of elements apart
    apart = np.lib.stride_tricks.as_strided(
        apart, x.shape, (x.strides[0] + x.itemsize, *x.strides[1:])
    )
    apart[...] = x
    for images in (x, x[::-1], np.broadcast_to(x[:1], x.shape), apart):
        with forced(emulated):
            whole = cuconv.conv2d(images, w, layout="NHWC", precision=precision)
            for i in range(3):
                alone = cuconv.conv2d(images[i : i + 1], w, layout="NHWC", precision=precision)
                assert alone[0].tobytes() == whole[i].tobytes()
