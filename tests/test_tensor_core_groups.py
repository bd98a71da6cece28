"""Grouped convolution with few channels a group on tensor cores (docs/gemm.md).

`test_registry.py` runs the variant on problems of every kind; here are those it is for, and the
places where a tile, a group's chunk, a block's slots or a piece of a sum end.
"""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._problem import conv_call
from emulated_traffic import launched, traffic
from gemm_calls import HALF, terms_of, within
from test_depthwise_kernels import call_of, case
from test_registry import MODULE

VARIANT = "implicit_gemm_sm80_groups"
KERNEL = "implicit_gemm_tensor_core_groups"
DTYPES = (HALF, problems.BFLOAT16)
ORDERS = ("forward", "reverse", "shuffled", "one_warp_far")

CASES = [
    # ResNeXt: 4, 8, 16 and 32 channels a group, several groups a block, blocks that groups end in
    case(11, (9, 11), (3, 3), 4, 4, padding=1),
    case(9, (9, 18), (3, 3), 8, 8, batch=2, padding=1),
    case(5, (7, 7), (3, 3), 16, 16, padding=1),
    case(3, (6, 7), (3, 3), 32, 32, padding=1),
    case(10, (11, 13), (3, 3), 8, 8, padding=1, stride=2),
    # more than a tile of rows, of columns, of a line, of depth
    case(2, (19, 35), (3, 3), 4, 4, padding=1),
    case(2, (300,), (5,), 8, 8, padding=2),
    case(2, (5, 9, 10), (2, 3, 3), 4, 8, padding=1),
    # channels and filters that fill no chunk, and not the same number of them
    case(3, (6, 5), (3, 2), 3, 5, padding=1),
    case(3, (6, 5), (2, 3), 12, 20, padding=1),
    case(2, (6, 5), (1, 1), 9, 40),
    case(4, (6, 7), (3, 3), 1, 2, padding=1),
    # two blocks along a group's filters; one group; a sum of one chunk
    case(2, (5, 6), (1, 2), 8, 72),
    case(1, (9, 8), (3, 3), 8, 16, padding=1),
    case(9, (5, 6), (1, 1), 4, 4),
    # more blocks than are launched, so that they take turns
    case(40, (20, 20), (1, 1), 4, 4, batch=2),
    # dilation, cropping, outputs that see the padding alone, tiles that had to shrink
    case(3, (13, 12), (3, 3), 8, 8, padding=2, dilation=2),
    case(2, (9, 9), (3, 3), 8, 8, padding=((4, 0), (0, 5))),
    case(2, (70, 60), (3, 2), 8, 8, dilation=(28, 40)),
    case(2, (40, 45), (3, 3), 16, 8, stride=(9, 7)),
]


def forced(emulated, order="shuffled", arrival="late", seed=0):
    choice = {**emulated.options(), "variant": VARIANT, "order": order, "arrival": arrival}
    return cuconv.use_backend("emulated", **{**choice, "seed": seed})


def suits(case, direction="forward", dtype=HALF):
    """(refusal, workspace, work) by sizes."""
    c, k = case.groups * case.channels, case.groups * case.filters
    x, w = (case.batch, c, *case.size), (k, case.channels, *case.kernel)
    call = conv_call(len(case.size), dtype, x, w, groups=case.groups, **dict(case.options))
    return MODULE.conv_suits(
        direction, VARIANT, dtype.name, "ieee", NO_LIMIT, sizes_of(call.problem)
    )


@pytest.mark.parametrize("channels_last", [True, False], ids=["NHWC", "NCHW"])
@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(emulated, reference, case, direction, channels_last):
    """The oracle's bits; the type, the order and the arrival of copies change from case to case."""
    turn = CASES.index(case) + 2 * channels_last + (direction == "forward")
    function, arguments, options = call_of(case, direction, DTYPES[turn % 2], channels_last)
    want = reference.run(function, *arguments, **options)
    assert np.abs(want.astype("f8")).max() <= 256, "a sum that bfloat16 cannot hold"
    with forced(emulated, ORDERS[turn % 4], ("late", "eager")[turn // 2 % 2], turn):
        assert_equal(function(*arguments, **options), want)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("arrival", ["late", "eager"])
def test_every_schedule_gives_the_same_bits(emulated, reference, order, arrival):
    for groups, channels, dtype in ((9, 8, HALF), (3, 4, problems.BFLOAT16)):
        one = case(groups, (9, 17), (3, 3), channels, channels, padding=1)
        call = call_of(one, "forward", dtype, True, make=problems.normal)
        with forced(emulated, "forward", "late"):
            want = call[0](*call[1], **call[2])
        with forced(emulated, order, arrival, 3):
            assert call[0](*call[1], **call[2]).tobytes() == want.tobytes()


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize("channels", [4, 8, 20])
def test_layouts_and_views_give_the_same_bits(emulated, direction, channels):
    """16, 8 bytes or one element at a time, from whatever order."""
    one = case(5, (7, 9), (3, 3), channels, channels, batch=2, padding=1)
    results = []
    for last in (True, False):
        views = (None, problems.shifted_view, problems.sliced_view, problems.reversed_view)
        for view in views:
            function, arguments, options = call_of(
                one, direction, HALF, last, make=problems.normal, arrange=view
            )
            with forced(emulated):
                got = function(*arguments, **options)
                out = (view or np.asarray)(np.zeros_like(got))
                function(*arguments, **options, out=out)
            assert out.tobytes() == got.tobytes()
            results.append(np.moveaxis(got, -1, 1).tobytes() if last else got.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_errors_are_within_the_bound_of_sums(emulated, reference, dtype, direction):
    for one in (CASES[0], CASES[1], CASES[3], CASES[4], CASES[9]):
        call = call_of(one, direction, dtype, True, make=problems.normal)
        with forced(emulated):
            got = call[0](*call[1], **call[2])
        terms = terms_of(direction, call[1], call[2])
        within(got, call, dtype, "ieee", reference, terms)


def test_an_image_does_not_depend_on_its_batch(emulated):
    call = call_of(
        case(9, (7, 9), (3, 3), 8, 8, batch=3, padding=1), "forward", HALF, True, problems.normal
    )
    function, (x, w, bias), options = call
    with forced(emulated):
        whole = function(x, w, bias, **options)
        for n in range(3):
            assert function(x[n : n + 1], w, bias, **options).tobytes() == whole[n].tobytes()


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 12])
@pytest.mark.parametrize("direction", ["forward", "input_grad"])
def test_what_is_not_finite_stays_in_its_group_and_windows(
    emulated, reference, channels, direction
):
    """Zeros that fill a chunk, a sum's last pair of chunks or a slot are multiplied with no x."""
    one = case(3, (6, 7), (3, 3), channels, channels, padding=1)
    function, arguments, options = call_of(one, direction, HALF, True, make=problems.normal)
    arguments[1][arguments[1] == 0] = 1
    x = arguments[0]
    x[0, 2, 3, 0], x[0, 5, 6, channels], x[0, 0, 0, 2 * channels - 1] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        want = reference.run(function, *arguments, **options).astype("f8")
    assert np.isfinite(want[..., 2 * channels :]).all()
    with forced(emulated):
        got = function(*arguments, **options).astype("f8")
    assert (np.isnan(got) == np.isnan(want)).all()
    assert (np.isfinite(got) == np.isfinite(want)).all()


def test_each_array_is_moved_once(emulated):
    """Distinct bytes, as a cache of any size would fetch them, by one launch; an input gradient at
    stride 2 by four."""
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    one = case(16, (14, 14), (3, 3), 8, 8, padding=1)
    function, arguments, options = call_of(one, "forward", HALF, True)
    with forced(emulated):
        ((kernel, read, written),) = traffic(function, *arguments, **options)
        strided = call_of(CASES[4], "input_grad", HALF, True)
        assert launched(strided[0], *strided[1], **strided[2]) == [KERNEL] * 4
    assert kernel == KERNEL
    assert read == sum(a.nbytes for a in arguments)
    assert written == 14 * 14 * 128 * 2


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (case(2, (9, 9), (3, 3), 512, 8), "KiB of shared memory, the limit is 72 KiB"),
        (case(2, (80, 80), (31, 31), 8, 8), "KiB of shared memory, the limit is 72 KiB"),
        (case(2, (9, 40000), (3, 3), 8, 8, dilation=(1, 19000)), "KiB of shared memory"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(emulated, case, words):
    assert words in suits(case)[0]


def test_absurd_sizes_are_refused_before_they_overflow(emulated):
    huge = 2**62
    for at in (2, 3, 4, 5, 8, 13, 16):
        sizes = [1, 2, 8, 8, 1, 8, 9, 1, 3, 3, 1, 6, 7, 1, 1, 1, 0, 0, 0, 1, 1, 1]
        sizes[at] = huge
        answer = MODULE.conv_suits("forward", VARIANT, "float16", "ieee", NO_LIMIT, tuple(sizes))
        assert answer[0], f"size {at}"
    empty = [1, 2, 0, 8, 1, 8, 9, 2**28, 2**28, 2**28, 1, 6, 7, 1, 1, 1, 0, 0, 0, 1, 1, 1]
    answer = MODULE.conv_suits("forward", VARIANT, "float16", "ieee", NO_LIMIT, tuple(empty))
    assert "taps" in answer[0]


def chosen(direction, dtype, x, w, **options):
    """(family, variant) that "auto" takes."""
    backend = cuconv._backends.host_backend()
    call = conv_call(len(x) - 2, np.dtype(dtype), x, w, **options)
    asked = cuconv._backends._protocol.ConvOptions(algo="auto", channels_last=True)
    best = backend._decide(direction, call.problem, asked)
    return best.algo, best.variant


@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "size"), [(128, 56), (256, 28), (512, 14), (1024, 7), (256, 56), (2048, 7)]
)
def test_auto_takes_it_for_resnext(emulated, channels, size, stride, direction):
    """32 groups of 4 to 32 channels; of 64 it is for the tiles of one group."""
    w = (channels, channels // 32, 3, 3)
    size *= stride
    with emulated.select():
        taken = chosen(
            direction,
            "float16",
            (32, channels, size, size),
            w,
            padding=1,
            groups=32,
            stride=stride,
        )
    assert (taken[1] == VARIANT) == (channels <= 1024), taken


def test_auto_leaves_others_alone(emulated):
    """Dense layers to the tiles of 64 filters and more, depthwise ones to their kernels."""
    with emulated.select():
        for channels, filters, size, kernel in (
            (64, 64, 56, 3),
            (256, 64, 56, 1),
            (64, 256, 56, 1),
        ):
            shapes = (8, channels, size, size), (filters, channels, kernel, kernel)
            assert chosen("forward", "float16", *shapes, padding=kernel // 2)[1] != VARIANT
        depthwise = (8, 128, 56, 56), (128, 1, 3, 3)
        found = chosen("forward", "float16", *depthwise, padding=1, groups=128)
        assert found[1].startswith("direct_depthwise")
