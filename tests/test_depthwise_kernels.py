"""Depthwise convolution and image filtering by the direct kernels that are made for them.

`test_registry.py` runs these variants on problems of every kind; here are those they are for, and
the places where a tile, a window of registers or a piece of a sum ends.
"""

import dataclasses
import functools

import numpy as np
import pytest

import cuconv
import layers
import problems
from compare import assert_equal
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._backends._rules import GPUS, gpu_estimate
from cuconv._problem import conv_call
from emulated_traffic import launched, traffic
from gemm_calls import terms_of, within
from test_registry import FUNCTIONS, MODULE

F = np.dtype("float32")
HALF = np.dtype("float16")
VARIANTS = (
    ("direct_depthwise_4x4", "forward"),
    ("direct_depthwise_1x8", "forward"),
    ("direct_depthwise_4x4", "input_grad"),
    ("direct_depthwise_1x8", "input_grad"),
    ("direct_depthwise_4x4", "weight_grad"),
    ("direct_depthwise_1x16", "weight_grad"),
)
ORDERS = ("forward", "reverse", "shuffled", "one_warp_far")


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution of so many groups, each of `channels` inputs and `filters` outputs."""

    groups: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    channels: int = 1
    filters: int = 1
    batch: int = 1
    options: tuple = ()

    def __str__(self):
        words = [f"{self.batch}x{self.groups}x{self.channels}x{self.filters}"]
        words += ["x".join(map(str, self.size)), "x".join(map(str, self.kernel))]
        return "_".join(words + [f"{name}{value}" for name, value in self.options])


def case(groups, size, kernel, channels=1, filters=1, batch=1, **options):
    return Case(groups, size, kernel, channels, filters, batch, tuple(options.items()))


def call_of(case, direction, dtype, channels_last=False, make=problems.integers, arrange=None):
    """(function, arguments, options) in one direction; a forward call has a bias."""
    rng = np.random.default_rng([*case.size, *case.kernel, case.groups])
    rank = len(case.size)
    options = {**dict(case.options), "groups": case.groups}
    c, k = case.groups * case.channels, case.groups * case.filters
    x = make(rng, (case.batch, c, *case.size), dtype)
    w = make(rng, (k, case.channels, *case.kernel), dtype)
    forward = conv_call(rank, dtype, x.shape, w.shape, **options).problem
    g = make(rng, (case.batch, k, *forward.output[3 - rank :]), dtype)
    if channels_last:
        options["layout"] = problems.LAST[rank]
        x, w, g = (np.moveaxis(a, 1, -1).copy() for a in (x, w, g))
    if arrange:
        x, w, g = arrange(x), arrange(w), arrange(g)
    arguments = {
        "forward": (x, w, make(rng, (k,), dtype)),
        "input_grad": (g, w, x.shape),
        "weight_grad": (g, x, w.shape),
    }[direction]
    return getattr(cuconv, FUNCTIONS[direction].format(rank)), arguments, options


def forced(emulated, variant, **schedule):
    return cuconv.use_backend("emulated", **{**emulated.options(), "variant": variant, **schedule})


def check(emulated, reference, variant, direction, case, dtype, channels_last=False, **how):
    function, arguments, options = call_of(case, direction, dtype, channels_last, **how)
    want = reference.run(function, *arguments, **options)
    largest = {HALF: 2048, problems.BFLOAT16: 256}.get(dtype, np.inf)
    assert np.abs(want.astype(np.complex128)).max(initial=0) <= largest, "not exact: a bad case"
    with forced(emulated, variant):
        assert_equal(function(*arguments, **options), want)


# What is peculiar about each: where a tile, a strip, a vector or a chunk of taps ends.
SHAPES = [
    case(3, (70, 41), (3, 3), padding=1),  # several tiles down and across, the last of both short
    case(2, (9, 64), (3, 3), padding=1, batch=2),  # whole vectors
    case(37, (7, 7), (7, 7), padding=3),  # many planes a block, the last block short
    case(5, (14, 14), (5, 5), padding=2),
    case(1, (20, 23), (31, 31), padding=15),  # wider than the image
    case(2, (12, 13), (12, 13)),  # as wide as the image: one output
    case(1, (10, 11), (25, 3), padding=((12, 12), (1, 1))),
    case(2, (30, 31), (3, 3), stride=2, padding=1),
    case(2, (31, 30), (5, 4), stride=(1, 2), padding=2, filters=2),
    case(2, (21, 22), (3, 3), dilation=2, padding=2),
    case(2, (25, 26), (3, 4), dilation=(2, 3), stride=(3, 2), padding=3),
    case(2, (26, 25), (3, 3), stride=5, padding=1),  # steps longer than the kernel
    case(1, (24, 25), (4, 4), filters=5, padding="same"),  # image filtering, a bank of filters
    case(1, (17, 18), (5, 5), channels=3, filters=2, padding=2),  # colours
    case(2, (13, 14), (3, 3), channels=2, filters=3, padding=1),
    case(2, (13, 14), (3, 3), padding=((4, 3), (3, 5))),  # so wide that the input gradient crops
    case(257, (4, 5), (3, 3), padding=1),
    case(2, (1, 9), (1, 1)),
    case(3, (3000,), (5,), padding=((4, 0),)),  # causal
    case(1, (1300,), (1100,), padding=((1099, 0),)),  # more taps than outputs a tile
    case(2, (600,), (7,), stride=3, dilation=2, padding=6),
    case(9, (33,), (4,), batch=3, filters=2),
    case(2, (5, 6, 7), (3, 3, 3), padding=1),
    case(2, (6, 7, 5), (3, 2, 4), stride=(2, 1, 2), dilation=(1, 2, 1), padding=2),
    case(2, (2, 3, 4), (5, 5, 5), padding=3),
]
CASES = [
    (variant, direction, shape, problems.ALL[(i + j) % 6], bool((i + j // 2) % 2))
    for i, shape in enumerate(SHAPES)
    for j, (variant, direction) in enumerate(VARIANTS)
]


def exact_in(dtype, shape):
    """A dtype that holds the sums: of 16 bits only where they are short."""
    terms = shape.channels * int(np.prod(shape.kernel))
    long = max(terms * shape.filters, shape.batch * int(np.prod(shape.size)))
    return F if dtype.itemsize == 2 and long > 1000 else dtype


@pytest.mark.parametrize(("variant", "direction", "shape", "dtype", "last"), CASES, ids=str)
def test_exact_on_integers(emulated, reference, variant, direction, shape, dtype, last):
    dtype = exact_in(dtype, shape)
    check(emulated, reference, variant, direction, shape, dtype, last)


def test_the_cases_meet_all_types_in_both_layouts():
    for direction in FUNCTIONS:
        met = {
            (exact_in(dtype, shape), last) for _, of, shape, dtype, last in CASES if of == direction
        }
        assert met == {(dtype, last) for dtype in problems.ALL for last in (False, True)}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("variant", "direction"), VARIANTS)
def test_any_schedule(emulated, reference, variant, direction, order):
    for last in (False, True):
        shape = case(6, (19, 21), (5, 3), padding=2, batch=2)
        function, arguments, options = call_of(shape, direction, F, last)
        want = reference.run(function, *arguments, **options)
        with forced(emulated, variant, order=order):
            assert_equal(function(*arguments, **options), want)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("arrange", problems.ARRANGEMENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("variant", "direction"), VARIANTS)
def test_any_strides_and_alignment(emulated, reference, variant, direction, arrange, last):
    """Negative strides, gaps, pointers aligned to an element alone."""
    shape = case(8, (11, 18), (3, 3), padding=1, batch=2)
    for dtype in (HALF, F):
        check(emulated, reference, variant, direction, shape, dtype, last, arrange=arrange)


@pytest.mark.parametrize("offset", range(9))
def test_rows_begin_anywhere_in_a_vector(emulated, reference, offset):
    """A view of columns: 16-byte loads begin at the first multiple, and end at the last."""
    rng = np.random.default_rng(offset)
    whole = problems.integers(rng, (1, 2, 9, 40), HALF)
    x, w = whole[..., offset : offset + 21 + offset % 4], problems.integers(rng, (2, 1, 3, 3), HALF)
    options = {"groups": 2, "padding": 1}
    want = reference.run(cuconv.conv2d, x, w, **options)
    with forced(emulated, "direct_depthwise_4x4"):
        assert_equal(cuconv.conv2d(x, w, **options), want)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("last", [False, True])
def test_bias_and_activation(emulated, reference, activation, last):
    shape = case(5, (9, 10), (3, 3), filters=2, padding=1)
    function, arguments, options = call_of(shape, "forward", F, last)
    options["activation"] = activation
    want = reference.run(function, *arguments, **options)
    for variant in ("direct_depthwise_4x4", "direct_depthwise_1x8"):
        with forced(emulated, variant):
            got = function(*arguments, **options)
        if activation == "relu":
            assert_equal(got, want)
        else:
            assert np.abs(got - want).max() <= 1e-6


@pytest.mark.parametrize(("variant", "direction"), VARIANTS)
def test_nothing_to_do(emulated, reference, variant, direction):
    shapes = [case(3, (5, 6), (3, 3), batch=0), case(2, (0, 5), (3, 3), padding=2)]
    shapes += [case(2, (5, 4), (3, 3), channels=0)]
    for shape in shapes:
        check(emulated, reference, variant, direction, shape, F)
        check(emulated, reference, variant, direction, shape, F, True)


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize(("variant", "direction"), VARIANTS)
def test_random_numbers_within_the_documented_bound(emulated, reference, variant, direction, dtype):
    shape = case(4, (12, 15), (7, 7), padding=3, batch=2)
    call = call_of(shape, direction, dtype, dtype.itemsize % 8 == 0, problems.normal)
    function, arguments, options = call
    with forced(emulated, variant):
        got = function(*arguments, **options)
    within(got, call, dtype, "ieee", reference, terms_of(direction, arguments, options))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("variant", "direction"), VARIANTS[:4])
def test_bits_of_an_image_do_not_depend_on_the_batch(emulated, variant, direction, last):
    for shape in (case(3, (9, 10), (7, 7), padding=3), case(1, (80,), (70,), padding=9)):
        many = dataclasses.replace(shape, batch=5)
        function, arguments, options = call_of(many, direction, F, last, problems.normal)
        images, w, *rest = arguments
        if direction == "input_grad":
            rest = [(1, *rest[0][1:])]
        with forced(emulated, variant):
            assert np.array_equal(
                function(*arguments, **options)[:1], function(images[:1], w, *rest, **options)
            )


# ---- the weight gradient, in pieces ----


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("limit", [None, 100_000, 999, 71, 0])
@pytest.mark.parametrize("variant", ["direct_depthwise_4x4", "direct_depthwise_1x16"])
def test_weight_gradient_in_any_workspace(emulated, reference, variant, limit, last):
    """The same bits in every order of the threads, and no byte more than the limit."""
    shape = case(2, (40, 200), (3, 3), padding=1, batch=2)
    function, arguments, options = call_of(shape, "weight_grad", F, last, problems.normal)
    problem = conv_call(
        2, F, (2, 2, 40, 200), (2, 1, 3, 3), **{k: v for k, v in options.items() if k != "layout"}
    ).problem
    most = NO_LIMIT if limit is None else limit
    refusal, workspace, _ = MODULE.conv_suits(
        "weight_grad", variant, "float32", "ieee", most, sizes_of(problem)
    )
    assert refusal == ""
    assert workspace <= most
    assert (workspace > 0) == (limit is None or limit >= 999)
    results = []
    for order in ORDERS:
        with forced(emulated, variant, order=order):
            results.append(function(*arguments, workspace_limit=limit, **options))
    assert all(np.array_equal(result, results[0]) for result in results)
    call = (function, arguments, options)
    within(results[0], call, F, "ieee", reference, terms_of("weight_grad", arguments, options))


def test_a_second_pass_only_for_several_pieces(emulated):
    shape = case(2, (40, 200), (3, 3), padding=1, batch=2)
    function, arguments, options = call_of(shape, "weight_grad", F)
    with forced(emulated, "direct_depthwise_4x4"):
        kernels = launched(function, *arguments, **options)
        assert kernels == ["depthwise_weight_grad", "depthwise_tap_sums"]
        kernels = launched(function, *arguments, workspace_limit=0, **options)
        assert kernels == ["depthwise_weight_grad"]


# ---- which problems, by which kernel ----


@pytest.mark.parametrize("last", [False, True])
def test_depthwise_takes_these_kernels_unforced(emulated, last):
    shape = case(16, (28, 28), (3, 3), padding=1)
    rows = "depthwise_channels" if last else "depthwise_rows"
    names = {"forward": rows, "input_grad": rows, "weight_grad": "depthwise_weight_grad"}
    for direction, kernel in names.items():
        function, arguments, options = call_of(shape, direction, F, last)
        with emulated.select():
            assert launched(function, *arguments, **options)[0] == kernel


def best(direction, shape):
    c, k = shape.groups * shape.channels, shape.groups * shape.filters
    sizes = (shape.batch, c, *shape.size), (k, shape.channels, *shape.kernel)
    options = {**dict(shape.options), "groups": shape.groups}
    problem = conv_call(len(shape.size), F, *sizes, **options).problem
    seconds = {}
    for name, _, of in MODULE.conv_variants():
        request = (of, name, "float32", "ieee", NO_LIMIT, sizes_of(problem))
        if of == direction and not name.startswith("fft"):  # which large kernels may go to
            refusal, _, work = MODULE.conv_suits(*request)
            if not refusal:
                seconds[name] = gpu_estimate(work, problem, "ieee", GPUS[90]).seconds
    return min(seconds, key=seconds.get)


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize(
    "shape",
    [
        case(128, (112, 112), (3, 3), padding=1, stride=2),
        case(96, (56, 56), (7, 7), padding=3),
        case(64, (32, 32), (31, 31), padding=15),
        case(768, (1024,), (4,), padding=((3, 0),)),
        case(1, (2048, 2048), (15, 15), padding=7),
        case(1, (1_000_000,), (1001,)),
        case(32, (16, 28, 28), (3, 3, 3), padding=1),
    ],
    ids=str,
)
def test_the_least_cost_of_depthwise_problems(emulated, direction, shape):
    assert "depthwise" in best(direction, shape)


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize(
    "shape",
    [
        case(1, (56, 56), (3, 3), channels=64, filters=64, padding=1),
        case(1, (224, 224), (7, 7), channels=3, filters=64, padding=3, stride=2),
        case(1, (14, 14), (1, 1), channels=256, filters=1024),
        case(4, (14, 14), (3, 3), channels=64, filters=64, padding=1),
    ],
    ids=str,
)
def test_the_least_cost_of_dense_problems(emulated, direction, shape):
    assert "depthwise" not in best(direction, shape)


def test_refusals_say_why(emulated):
    x, w = np.ones((1, 1, 4000, 4), "f4"), np.ones((1, 1, 3, 3), "f4")
    with (
        forced(emulated, "direct_depthwise_4x4"),
        pytest.raises(cuconv.UnsupportedError, match=r"rows under one thread.* 48 KiB"),
    ):
        cuconv.conv2d(x, w, stride=(600, 1), padding=1)
    g = np.ones((1, 1, 1, 1), "f4")
    with (
        forced(emulated, "direct_depthwise_4x4"),
        pytest.raises(cuconv.UnsupportedError, match=r"100.* residues of the stride.* 64"),
    ):
        cuconv.conv2d_input_grad(g, w, (1, 1, 12, 12), stride=10)
    with (
        forced(emulated, "direct_depthwise_4x4"),
        pytest.raises(cuconv.UnsupportedError, match=r"taps reach over more than 2\^30 positions"),
    ):
        cuconv.conv2d_weight_grad(g, x[..., :2, :2], (1, 1, 1, 1), stride=2**30)


# ---- bytes, counted ----


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        case(8, (30, 32), (3, 3), padding=1),
        case(8, (14, 14), (7, 7), padding=3),
        case(4, (20, 24), (31, 31), padding=15),
        case(4, (512,), (5,), padding=((4, 0),)),
    ],
    ids=str,
)
@pytest.mark.parametrize("direction", FUNCTIONS)
def test_no_byte_is_touched_but_those_of_the_arrays(emulated, direction, shape, last):
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    function, arguments, options = call_of(shape, direction, F, last)
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    with forced(emulated, "direct_depthwise_4x4"):
        result = function(*arguments, **options)
        launches = traffic(function, *arguments, **options)
    first, *second = launches
    assert first[1] == sum(a.nbytes for a in arrays)
    assert launches[-1][2] == result.nbytes
    assert [s[1] for s in second] == [first[2]] * len(second)  # the pieces, written and read


# ---- layers that exist ----


def chosen_layers():
    """Depthwise, large kernels and one axis: of the scaled rows of the benchmarks, those."""
    wanted = [
        layer
        for layer in layers.distinct()
        if layer.groups == layer.channels > 1 or np.prod(layer.kernel) > 49 or layer.rank == 1
    ]
    return [(layer, i) for i, layer in enumerate(wanted)]


@functools.cache
def turns(layer, i):
    """Every layer in every direction, by variants, dtypes and layouts in turn."""
    return [
        (*VARIANTS[2 * j + (i + i // 2) % 2], problems.ALL[(i + j) % 6], bool((i + j) // 6 % 2))
        for j in range(3)
    ]


@pytest.mark.parametrize(("layer", "i"), chosen_layers(), ids=str)
def test_layers_that_exist(emulated, reference, layer, i):
    options = tuple((k, v) for k, v in layer.options.items() if k != "groups")
    c, k = layer.channels // layer.groups, layer.filters // layer.groups
    shape = Case(layer.groups, layer.input, layer.kernel, c, k, layer.batch, options)
    for variant, direction, dtype, last in turns(layer, i):
        check(emulated, reference, variant, direction, shape, exact_in(dtype, shape), last)
