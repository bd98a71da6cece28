"""Winograd's algorithm in CUDA kernels: F(2x2,3x3) exact on integers, all within the bound.

The matrices are held to be what they should by exact fractions. Everything else runs under race
checks and every schedule.
"""

import functools
import importlib.util
import itertools
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import cuconv
import layers
import problems
from compare import assert_equal, assert_within, wide
from cuconv._backends._cpu import winograd
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._problem import conv_call
from gemm_calls import run, suits
from test_registry import MODULE
from winograd_bound import absolute_winograd, rounding, winograd_bound

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench" / "winograd_errors.py"
F = np.dtype("float32")
IEEE = (F, "ieee")
TILES = {"winograd_fused_2x2": 2, "winograd_staged_2x2": 2}  # outputs along each axis
TILES |= {"winograd_fused_4x4": 4, "winograd_staged_4x4": 4}
VARIANTS = tuple(TILES)
SHAPES = {  # x, w, options: what the sizes of tiles and stages may leave over
    "one tile": ((1, 1, 3, 3), (1, 1, 3, 3), {}),
    "one output, all padding but one": ((1, 2, 1, 1), (3, 2, 3, 3), {"padding": 1}),
    "tails": ((2, 3, 8, 11), (5, 3, 3, 3), {"padding": ((1, 0), (2, 3))}),
    "a stage of channels and one": ((1, 9, 5, 6), (2, 9, 3, 3), {"padding": 1}),
    "a block of filters and one": ((1, 2, 4, 5), (33, 2, 3, 3), {"padding": 1}),
    "a block of tiles and more": ((3, 1, 13, 27), (1, 1, 3, 3), {"padding": "full"}),
    "groups": ((2, 6, 7, 6), (9, 2, 3, 3), {"groups": 3, "padding": "same"}),
    "planes": ((1, 2, 3, 6, 5), (3, 2, 1, 3, 3), {"padding": ((1, 0), (1, 1), (0, 2))}),
    "padding past the filter": ((1, 2, 4, 3), (2, 2, 3, 3), {"padding": ((5, 7), (9, 4))}),
}


def operands(name, dtype=F, make=problems.integers, seed=0):
    x_shape, w_shape, options = SHAPES[name]
    rng = np.random.default_rng([seed, len(name)])
    x, w, bias = (make(rng, shape, dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    return x, w, bias, options


def convolution(x):
    return getattr(cuconv, f"conv{x.ndim - 2}d")


def input_grad(x):
    return getattr(cuconv, f"conv{x.ndim - 2}d_input_grad")


def check(emulated, reference, variant, function, arguments, options, exact=False):
    """Runs a call, and holds it to its bound or, if `exact`, to the reference's bits."""
    got = run(emulated, variant, function, arguments, options)
    want = reference.run(function, *arguments, **options)
    if exact:
        assert_equal(got, want)
        return got
    numbers = [wide(a) if isinstance(a, np.ndarray) else a for a in arguments]
    want = reference.run(function, *numbers, **options)
    bound = winograd_bound(reference, TILES[variant], function, arguments, options, got.dtype)
    assert_within(got, want, bound + rounding(want, got.dtype))
    return got


# ---- matrices ----


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """(m, name) -> the matrix that the device functions compute, in fractions."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    program = tmp_path_factory.mktemp("winograd") / "lines"
    source = Path(__file__).with_name("winograd_lines.cpp")
    defines = ["-DCUCONV_EMULATED=1", '-DCUCONV_EMULATED_FLAVOUR="plain"']
    command = [compiler, "-std=c++20", *defines, f"-I{ROOT / 'csrc'}", str(source), "-o", program]
    subprocess.run(command, check=True, timeout=300)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    found = {}
    for row in map(str.split, printed.splitlines()):
        m, r, column, numerator, denominator = (int(row[i]) for i in (0, 2, 3, 4, 5))
        matrix = found.setdefault((m, row[1]), {})
        matrix[r, column] = Fraction(numerator, denominator)
    return found


@pytest.mark.parametrize("m", [2, 4])
def test_matrices_are_the_correlation_in_exact_fractions(lines, m):
    """Output i is the sum of input i + j times tap j: A^T[(G g) * (B^T d)] for all unit vectors."""
    g, b, a = (lines[m, name] for name in ("filter", "input", "output"))
    points = range(m + 2)
    for i, j, n in itertools.product(range(m), range(3), points):
        got = sum(a[i, p] * g[p, j] * b[p, n] for p in points)
        assert got == (n == i + j), (i, j, n)


@pytest.mark.parametrize("m", [2, 4])
def test_matrices_are_those_of_the_cpu(lines, m):
    """One bound serves both: the same points, and each scaled alike."""
    cpu = winograd.matrices(m, 1, np.dtype(np.float64))
    for name in ("filter", "input", "output"):
        want = getattr(cpu, name)
        got = np.zeros(want.shape)
        for place, value in lines[m, name].items():
            got[place] = value
        np.testing.assert_array_equal(got, want)


# ---- forward and input gradient ----


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_forward_and_input_gradient(emulated, reference, variant, name):
    x, w, bias, options = operands(name)
    exact = TILES[variant] == 2
    with_relu = {**options, "activation": "relu"}
    y = check(emulated, reference, variant, convolution(x), (x, w, bias), with_relu, exact)
    g = problems.integers(np.random.default_rng(1), y.shape, F)
    check(emulated, reference, variant, input_grad(x), (g, w, x.shape), options, exact)


@pytest.mark.parametrize("variant", VARIANTS)
def test_channels_last_and_views(emulated, reference, variant):
    """Four channels and more make the staged form turn to the other layout."""
    rng = np.random.default_rng(2)
    exact = TILES[variant] == 2
    for channels, filters, groups in ((4, 8, 1), (3, 3, 1), (8, 4, 2)):
        x = problems.integers(rng, (2, 7, 6, channels), F)
        w = problems.integers(rng, (filters, 3, 3, channels // groups), F)
        options = {"layout": "NHWC", "padding": 1, "groups": groups}
        y = check(emulated, reference, variant, cuconv.conv2d, (x, w), options, exact)
        back = cuconv.conv2d_input_grad
        check(emulated, reference, variant, back, (y, w, x.shape), options, exact)
    x, w = problems.integers(rng, (2, 3, 7, 8), F), problems.integers(rng, (5, 3, 3, 3), F)
    views = (problems.reversed_view, np.asfortranarray, problems.sliced_view)
    for view, flip in zip(views, (False, True, True), strict=True):
        options = {"padding": 1, "flip_kernel": flip}
        arguments = (view(x), view(w))
        check(emulated, reference, variant, cuconv.conv2d, arguments, options, exact)
    with emulated.select(variant=variant):  # into a view
        out = np.zeros((2, 10, 14, 8), F)[:, ::2, ::-2]
        cuconv.conv2d(x, w, padding=1, out=out)
    assert_within(out, reference.run(cuconv.conv2d, wide(x), wide(w), padding=1), 1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_to_do(emulated, reference, variant):
    w, bias = np.ones((2, 3, 3, 3), F), np.arange(2, dtype=F)
    for shape in ((0, 3, 4, 5), (1, 3, 0, 5), (2, 3, 4, 1)):
        x = np.ones(shape, F)
        exact = x.size == 0 or TILES[variant] == 2
        check(emulated, reference, variant, cuconv.conv2d, (x, w, bias), {"padding": 2}, exact)
    x, w = np.ones((1, 0, 4, 5), F), np.ones((2, 0, 3, 3), F)
    check(emulated, reference, variant, cuconv.conv2d, (x, w, bias), {}, True)


# ---- bounds ----

TYPES = [(v, F) for v in VARIANTS]
TYPES += [("winograd_fused_2x2", dtype) for dtype in (np.dtype("f2"), problems.BFLOAT16)]
TYPES += [("winograd_staged_2x2", np.dtype("f8")), ("winograd_staged_4x4", np.dtype("f8"))]


@pytest.mark.parametrize(("variant", "dtype"), TYPES, ids=str)
@pytest.mark.parametrize(("channels", "make"), [(1, "normal"), (7, "hostile"), (40, "positive")])
def test_results_are_within_the_bound(emulated, reference, variant, dtype, channels, make):
    rng = np.random.default_rng(channels)
    x = problems.normal(rng, (2, channels, 10, 13), dtype)
    w = problems.normal(rng, (5, channels, 3, 3), dtype)
    if make == "positive":
        x, w = np.abs(x), np.abs(w)
    if make == "hostile":  # one large element beside small ones
        x[:, :, ::5, ::7] *= 1000
    bias = problems.normal(rng, (5,), dtype)
    options = {"padding": 1, "activation": "sigmoid" if make == "normal" else None}
    check(emulated, reference, variant, cuconv.conv2d, (x, w, bias), options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("direction", ["forward", "input_grad"])
def test_drawn_problems_are_within_the_bound(emulated, reference, variant, direction):
    for rank, kernel in ((2, (3, 3)), (3, (1, 3, 3))):
        for seed in range(4):
            p = problems.draw_conv(seed, rank, F, problems.normal, kernel=kernel)
            forward = getattr(cuconv, f"conv{rank}d")
            function, arguments = forward, (p.x, p.w, p.bias)
            if direction == "input_grad":
                y = reference.run(forward, p.x, p.w, **p.options)
                g = problems.normal(np.random.default_rng(seed), y.shape, F)
                function = getattr(cuconv, f"conv{rank}d_input_grad")
                arguments = (g, p.w, p.x.shape)
            check(emulated, reference, variant, function, arguments, p.options)


def test_the_bound_is_that_of_the_algorithm(reference):
    """With signs kept, what is computed of absolute values is the convolution."""
    for name, m in itertools.product(SHAPES, (2, 4)):
        x, w, _, options = operands(name)
        problem = conv_call(x.ndim - 2, F, x.shape, w.shape, **options).problem
        want = reference.run(convolution(x), wide(x), wide(w), **options)
        with mock.patch.object(np, "abs", np.positive):
            got = absolute_winograd(
                m, problem, x.reshape(problem.x_shape), w.reshape(problem.w_shape)
            )
        assert_within(got.reshape(want.shape), want, 1e-9)


def test_errors_as_documented(emulated):
    """The command behind the table in docs/winograd.md: largest errors beside what is likely."""
    spec = importlib.util.spec_from_file_location("winograd_errors", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    *_, gemm, small, large = module.row(8, "normal", "emulated").strip("| ").split(" | ")
    for cell in (gemm, small, large):
        assert 0 < float(cell.split(", ")[-1]) < 0.5, cell


@functools.cache
def layers_of_3x3():
    ones = {(1, 1)}
    return [
        layer
        for layer in layers.distinct()
        if layer.kernel == (3, 3) and {layer.stride, layer.dilation} == ones
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_of_networks(emulated, reference, variant):
    """Every fourth of the small copies of benchmark layers, another quarter for each variant."""
    assert len(layers_of_3x3()) > 20
    for i, layer in enumerate(layers_of_3x3()[VARIANTS.index(variant) :: len(VARIANTS)]):
        x_shape, w_shape, _ = layer.shapes
        rng = np.random.default_rng(i)
        x, w = problems.normal(rng, x_shape, F), problems.normal(rng, w_shape, F)
        check(emulated, reference, variant, cuconv.conv2d, (x, w), layer.options)


# ---- the same bits ----


def drawn(seed=3, batch=3, channels=5, filters=6, size=(14, 9)):
    rng = np.random.default_rng(seed)
    x = problems.normal(rng, (batch, channels, *size), F)
    return x, problems.normal(rng, (filters, channels, 3, 3), F)


@pytest.mark.parametrize("m", [2, 4])
def test_fused_and_staged_give_the_same_bits(emulated, m):
    for channels in (1, 5, 12):
        x, w = drawn(channels=channels)
        fused, staged = (
            run(emulated, f"winograd_{form}_{m}x{m}", cuconv.conv2d, (x, w), {"padding": 1})
            for form in ("fused", "staged")
        )
        assert fused.tobytes() == staged.tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_and_batches_give_the_same_bits(emulated, variant):
    x, w = drawn()
    with emulated.select(variant=variant):
        plan = cuconv.Conv2dPlan(x.shape, w.shape, F, padding=1, device="cpu")
        first = plan(x, w)
        assert all(plan(x, w).tobytes() == first.tobytes() for _ in range(2))
        assert plan.variant == variant
    for i in range(3):
        alone = run(emulated, variant, cuconv.conv2d, (x[i : i + 1], w), {"padding": 1})
        assert alone.tobytes() == first[i : i + 1].tobytes()


# ---- workspace ----


@pytest.mark.parametrize("m", [2, 4])
def test_workspace_is_kept_down_to_the_least_chunk(emulated, m):
    """Chunks end inside images, and every size of them gives the same bits."""
    variant = f"winograd_staged_{m}x{m}"
    x, w = drawn(batch=5, channels=3, size=(13, 10) if m == 4 else (7, 6))
    points, options = (m + 2) ** 2, {"padding": 1}
    whole = run(emulated, variant, cuconv.conv2d, (x, w), options)
    tiles = -(-x.shape[2] // m) * -(-x.shape[3] // m)
    filters, unit = points * 3 * 8 * 4, points * (3 + 8) * 4 * tiles
    assert tiles == 12, "a multiple of four: an image is the least chunk"
    for count in (1, 2, 3):
        limit = filters + count * unit + 4
        reason, needed = suits(variant, "forward", IEEE, x, w, limit, **options)
        assert (reason, needed) == ("", filters + count * unit)
        got = run(emulated, variant, cuconv.conv2d, (x, w), {**options, "workspace_limit": limit})
        assert got.tobytes() == whole.tobytes()
    for batch in (1, 5):  # it has no say
        reason, _ = suits(variant, "forward", IEEE, x[:batch], w, filters + unit - 1, **options)
        assert f"take {filters + unit} bytes of workspace, the limit is" in reason


def test_fused_needs_its_filters_alone(emulated):
    x, w = drawn(channels=3)
    needed = 16 * 3 * 8 * 4  # six filters count as eight
    assert suits("winograd_fused_2x2", "forward", IEEE, x, w, needed) == ("", needed)
    reason, _ = suits("winograd_fused_2x2", "forward", IEEE, x, w, needed - 1)
    assert f"transformed filters take {needed} bytes of workspace" in reason


def test_a_large_batch_goes_by_chunks_that_stay_in_the_cache(emulated):
    x, w = (np.broadcast_to(F.type(0), s) for s in ((64, 64, 56, 56), (64, 64, 3, 3)))
    reason, needed = suits("winograd_staged_4x4", "forward", IEEE, x, w, padding=1)
    filters = 36 * 64 * 64 * 4
    assert (reason, (needed - filters) // 2**20) == ("", 31)


# ---- refusals and the choice ----


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((2, 3, 5, 5), {}, "filters of 3x3 .*, not 1x5x5"),
        ((2, 3, 1, 3), {}, "filters of 3x3 .*, not 1x1x3"),
        ((2, 3, 3, 3), {"stride": 2}, "stride 1, not 2"),
        ((2, 3, 3, 3), {"dilation": (1, 2)}, "dilation 1, not 2"),
    ],
)
def test_refusals(emulated, shape, options, words):
    x, w = np.ones((1, 3, 9, 9), F), np.ones(shape, F)
    for variant in VARIANTS:
        with (
            emulated.select(variant=variant),
            pytest.raises(cuconv.UnsupportedError, match=words),
        ):
            cuconv.conv2d(x, w, **options)
    with emulated.select(), pytest.raises(cuconv.UnsupportedError, match=r"im2col.* can do this"):
        cuconv.conv2d(x, w, algo="winograd", **options)


def test_there_is_no_weight_gradient(emulated):
    x, g = np.ones((1, 1, 5, 5), F), np.ones((1, 1, 3, 3), F)
    with (
        emulated.select(),
        pytest.raises(cuconv.UnsupportedError, match=r"winograd .*in this direction; direct"),
    ):
        cuconv.conv2d_weight_grad(g, x, (1, 1, 3, 3), algo="winograd")


def test_huge_problems_are_refused_without_overflow(emulated):
    big = 2**40
    for sizes in (
        (1, 1, big, big, 1, 3, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1),
        (1, big, 1, 1, 1, 3, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1),
        (1, 1, 1, 1, big, big, big, 1, 3, 3, big, big, big, 1, 1, 1, 0, 1, 1, 1, 1, 1),
        (1, 1, 2**29, 2**29, 1, 3, 3, 1, 3, 3, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1),
    ):
        for variant in VARIANTS:
            found = MODULE.conv_suits("forward", variant, "float32", "ieee", NO_LIMIT, sizes)
            assert found[0] != "", (variant, sizes)


def test_work_is_of_an_image(emulated):
    for variant in VARIANTS:
        works = set()
        for batch in (1, 7, 64):
            call = conv_call(2, F, (batch, 64, 14, 14), (64, 64, 3, 3), padding=1)
            request = ("forward", variant, "float32", "ieee", NO_LIMIT, sizes_of(call.problem))
            works.add(MODULE.conv_suits(*request)[2])
        assert len(works) == 1, variant


def chosen(x_shape, w_shape, dtype=F, **options):
    plan = cuconv.Conv2dPlan(x_shape, w_shape, dtype, padding=1, device="cpu", **options)
    return plan.algo


def test_auto_takes_it_where_there_is_much_to_win(emulated):
    large, w = (1, 128, 56, 56), (128, 128, 3, 3)
    with emulated.select():
        assert chosen(large, w) == "winograd"
        assert chosen((32, *large[1:]), w) == "winograd"
        assert chosen(large, w, precision="tf32x3") != "winograd"
        assert chosen(large, w, dtype="float16") != "winograd"
        assert chosen(large, w, dtype="float64") != "winograd"
        # less than 2^22 multiply-adds of one image, whatever the batch
        assert chosen((64, 32, 20, 20), (32, 32, 3, 3)) != "winograd"
        assert chosen((1, 3, 8, 8), (4, 3, 3, 3), algo="winograd") == "winograd"


@pytest.mark.parametrize("variant", ["winograd_staged_2x2", "winograd_staged_4x4"])
def test_a_group_costs_the_same_however_many_there_are(emulated, variant):
    """Their product was chosen for all at once, which a grid could not hold from 512 on."""
    a_group = set()
    for groups in (1, 64, 1024):
        call = conv_call(2, F, (1, 16 * groups, 1000, 1000), (16 * groups, 16, 3, 3), groups=groups)
        request = ("forward", variant, "float32", "ieee", NO_LIMIT, sizes_of(call.problem))
        _, _, (work, *_) = MODULE.conv_suits(*request)
        a_group.add(round(work / groups))
    assert len(a_group) == 1
