"""The matrix-product families: the same bits by every way to fetch, and errors within bounds."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, sum_bound, wide
from test_registry import FUNCTIONS, VARIANTS, kinds_of

F = np.dtype("float32")
EPS = 2.0**-23
SIMT = ("simt_32x32", "simt_64x64", "simt_128x128")


def run(emulated, variant, function, arguments, options):
    with cuconv.use_backend("emulated", variant=variant, **emulated.options()):
        return function(*arguments, **options)


def drawn(reference, seed, rank, dtype, direction, **changes):
    """A problem of random numbers as (function, arguments, options) in one direction."""
    p = problems.draw_conv(seed, rank, dtype, make=problems.normal)
    p.options.update(changes)
    function = getattr(cuconv, FUNCTIONS[direction].format(rank))
    if direction == "forward":
        return function, (p.x, p.w, p.bias), p.options
    y = reference.run(getattr(cuconv, f"conv{rank}d"), p.x, p.w, **p.options)
    rng = np.random.default_rng(seed)
    g = problems.arranged(rng, problems.normal(rng, y.shape, dtype))
    if direction == "input_grad":
        return function, (g, p.w, p.x.shape), p.options
    return function, (g, p.x, p.w.shape), p.options


# ---- the same bits ----


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("direction", FUNCTIONS)
def test_iterators_and_tiles_give_the_same_bits(emulated, reference, direction, dtype):
    """None of these sums is long enough to be cut into pieces, which would order it anew."""
    compared = 0
    for seed in range(700, 706):
        for rank in (1, 2, 3):
            call = drawn(reference, seed, rank, dtype, direction)
            want = run(emulated, "implicit_gemm_analytic_32x32", *call)
            for tile in SIMT:
                if (f"implicit_gemm_{tile}", direction) in VARIANTS and (dtype, "ieee") in kinds_of(
                    f"implicit_gemm_{tile}", direction
                ):
                    got = run(emulated, f"implicit_gemm_{tile}", *call)
                    assert got.tobytes() == want.tobytes(), f"{tile}, seed {seed}, rank {rank}"
                    compared += 1
            if direction == "forward":
                got = run(emulated, "im2col_simt_32x32", *call)
                assert got.tobytes() == want.tobytes(), f"im2col, seed {seed}, rank {rank}"
    assert compared >= 18


def in_layout(a, layout):
    return a if layout == "NCHW" else np.moveaxis(a, 1, -1).copy()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("channels", "filters"), [(16, 24), (3, 8), (12, 9), (5, 1), (1, 16)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_vectors_and_single_elements_give_the_same_bits(
    emulated, layout, channels, filters, kernel
):
    """Aligned arrays are fetched 16 bytes at a time, shifted or sliced ones by elements."""
    rng = np.random.default_rng(channels)
    x = in_layout(rng.standard_normal((2, channels, 8, 12)), layout)
    w = in_layout(rng.standard_normal((filters, channels, kernel, kernel)), layout)
    options = {"padding": kernel // 2, "layout": layout}
    cases = [("implicit_gemm_simt_64x64", F, "ieee"), ("im2col_simt_32x32", F, "ieee")]
    cases += [("implicit_gemm_sm80_64x64", F, "tf32x3"), ("implicit_gemm_sm80_64x64", F, "tf32")]
    cases += [("implicit_gemm_sm80_128x128", np.dtype("float16"), "ieee")]
    cases += [("implicit_gemm_sm75_64x64", np.dtype("float16"), "ieee")]
    for variant, dtype, precision in cases:
        a, b = x.astype(dtype), w.astype(dtype)
        g = rng.standard_normal(in_layout(np.empty((2, filters, 8, 12)), layout).shape)
        g = g.astype(dtype)
        for function, first, second, shape in (
            (cuconv.conv2d, a, b, ()),
            (cuconv.conv2d_input_grad, g, b, (a.shape,)),
            (cuconv.conv2d_weight_grad, g, a, (b.shape,)),
        ):
            with cuconv.use_backend("emulated", variant=variant, **emulated.options()):
                want = function(first, second, *shape, precision=precision, **options)
                for view in (problems.shifted_view, problems.sliced_view, problems.reversed_view):
                    odd = view(first), view(second)
                    got = function(*odd, *shape, precision=precision, **options)
                    assert got.tobytes() == want.tobytes(), f"{variant}, {view.__name__}"


def test_results_go_into_a_slice_of_channels(emulated, reference):
    """What the concatenation of an Inception module needs: an offset and a pitch of rows."""
    rng = np.random.default_rng(1)
    for layout, dtype, variant in (
        ("NHWC", np.dtype("float16"), "implicit_gemm_sm80_64x64"),
        ("NCHW", np.dtype("float16"), "implicit_gemm_sm80_64x64"),
        ("NHWC", F, "implicit_gemm_simt_64x64"),
        ("NCHW", F, "im2col_simt_64x64"),
    ):
        x = in_layout(problems.integers(rng, (2, 8, 4, 8), dtype), layout)
        w = in_layout(problems.integers(rng, (16, 8, 1, 1), dtype), layout)
        want = reference.run(cuconv.conv2d, x, w, layout=layout)
        for offset in (0, 8, 5):
            whole = np.full(in_layout(np.empty((2, 40, 4, 8)), layout).shape, 7, dtype)
            part = (Ellipsis, slice(offset, offset + 16))
            if layout == "NCHW":
                part = (slice(None), *part[1:])
            run(emulated, variant, cuconv.conv2d, (x, w), {"layout": layout, "out": whole[part]})
            assert_equal(whole[part].copy(), want)
            assert int((whole == 7).sum()) >= whole.size - want.size


# ---- errors ----


def within(got, call, dtype, precision, reference, terms):
    """The documented bounds, docs/bounds.md."""
    function, arguments, options = call
    numbers = [wide(a) if isinstance(a, np.ndarray) else a for a in arguments]
    exact = reference.run(function, *numbers, **options)
    sizes = [np.abs(a) if isinstance(a, np.ndarray) else a for a in numbers]
    absolute = reference.run(function, *sizes, **options)
    bound = sum_bound(dtype, terms, absolute, exact)
    if precision == "tf32":
        bound = bound + (2.0**-10 + 2.0**-22) * absolute
    elif precision == "tf32x3":
        bound = sum_bound(dtype, 3 * terms, absolute, exact) + 3 * 2.0**-22 * absolute
    assert_within(got, exact, bound)


def terms_of(direction, arguments, options):
    """The length of the longest sum."""
    g, other = arguments[:2]
    if direction == "forward":
        return other[0].size + 1  # and the bias
    if direction == "weight_grad":
        return g.size // arguments[2][0]
    last = options.get("layout", "NC").endswith("C")
    return other.size // other.shape[-1 if last and other.ndim > 2 else 1] // options["groups"]


@pytest.mark.parametrize(
    ("variant", "direction"), [v for v in VARIANTS if not v[0].startswith("direct")], ids=str
)
def test_errors_are_within_their_bounds(emulated, reference, variant, direction):
    for i, (dtype, precision) in enumerate(kinds_of(variant, direction)):
        for seed in range(720 + i, 724 + i):
            # Borders of zeros: what folding others back adds is held in test_conv_grad.py.
            call = drawn(reference, seed, 1 + seed % 3, dtype, direction, padding_mode="zeros")
            function, arguments, options = call
            got = run(emulated, variant, function, arguments, {**options, "precision": precision})
            terms = terms_of(direction, arguments, options)
            within(got, call, dtype, precision, reference, terms)


@pytest.mark.parametrize("terms", [27, 288, 1152])
def test_tf32x3_is_as_exact_as_float32(emulated, reference, terms):
    """Root mean square and largest error at most twice those of float32 on CUDA cores."""
    rng = np.random.default_rng(terms)
    x = rng.standard_normal((1, terms // 9, 16, 18)).astype(F)
    w = rng.standard_normal((32, terms // 9, 3, 3)).astype(F)
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), padding=1)

    def errors(variant, precision):
        options = {"padding": 1, "precision": precision}
        difference = run(emulated, variant, cuconv.conv2d, (x, w), options) - exact
        return np.array([np.sqrt((difference**2).mean()), np.abs(difference).max()])

    plain = errors("implicit_gemm_simt_64x64", "ieee")
    for variant in ("implicit_gemm_sm80_64x64", "im2col_sm80_128x128"):
        assert (errors(variant, "tf32x3") <= 2 * plain).all()
    coarse = errors("implicit_gemm_sm80_64x64", "tf32")
    assert (coarse > 50 * plain).all(), "one pass of tf32 rounds to 11 bits"


# ---- special numbers and shapes ----


@pytest.mark.parametrize("variant", ["implicit_gemm_simt_64x64", "implicit_gemm_sm80_64x64"])
def test_nan_stays_in_its_windows(emulated, variant):
    dtype = F if "simt" in variant else np.dtype("float16")
    x, w = np.ones((1, 4, 9, 11), dtype), np.ones((3, 4, 3, 3), dtype)
    x[0, 2, 4, 5] = np.nan
    y = run(emulated, variant, cuconv.conv2d, (x, w), {})
    assert np.isnan(y[0, :, 2:5, 3:6]).all()
    assert int(np.isnan(y).sum()) == 3 * 9


def test_many_residues_of_a_stride_are_refused_by_name(emulated, reference):
    g, w = np.ones((1, 2, 3, 4), F), np.ones((2, 3, 9, 9), F)
    options = {"stride": 9}
    shape = (1, 3, 27, 36)
    with emulated.select(), pytest.raises(cuconv.UnsupportedError, match=r"81 residues.* 64"):
        cuconv.conv2d_input_grad(g, w, shape, algo="implicit_gemm", **options)
    want = reference.run(cuconv.conv2d_input_grad, g, w, shape, **options)
    for algo in ("im2col", "auto"):
        with emulated.select():
            assert_equal(cuconv.conv2d_input_grad(g, w, shape, algo=algo, **options), want)


@pytest.mark.parametrize("algo", ["implicit_gemm", "im2col"])
def test_transposed_convolution_with_bias_and_activation(emulated, reference, algo):
    for seed in range(8):
        x, w, bias, options = problems.draw_transposed(seed, 2, F)
        options = {**options, "activation": "relu"}
        want = reference.run(cuconv.conv_transpose2d, x, w, bias, **options)
        with emulated.select():
            assert_equal(cuconv.conv_transpose2d(x, w, bias, algo=algo, **options), want)


@pytest.mark.parametrize("algo", ["implicit_gemm", "im2col"])
def test_empty_problems(emulated, reference, algo):
    bias = np.arange(2, dtype=F)
    for x, w, options in (
        (np.ones((0, 3, 5, 6), F), np.ones((2, 3, 3, 3), F), {}),
        (np.ones((2, 0, 5, 6), F), np.ones((2, 0, 3, 3), F), {}),
        (np.ones((2, 3, 0, 6), F), np.ones((2, 3, 3, 3), F), {"padding": 2}),
    ):
        want = reference.run(cuconv.conv2d, x, w, bias, **options)
        with emulated.select():
            assert_equal(cuconv.conv2d(x, w, bias, algo=algo, **options), want)
            for function, a, b, shape in (
                (cuconv.conv2d_input_grad, np.ones_like(want), w, x.shape),
                (cuconv.conv2d_weight_grad, np.ones_like(want), x, w.shape),
            ):
                assert_equal(function(a, b, shape, algo=algo, **options), np.zeros(shape, F))
