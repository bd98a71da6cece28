"""The matrix-product families: the same bits by every way to fetch, and errors within bounds."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, sum_bound, wide
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._problem import conv_call
from test_registry import FUNCTIONS, MODULE, VARIANTS, kinds_of

F = np.dtype("float32")
HALF = np.dtype("float16")
SIMT = ("simt_32x32", "simt_64x64", "simt_128x128")
LEAST_CUT = 1024  # terms: shorter sums are in one piece


def run(emulated, variant, function, arguments, options):
    with cuconv.use_backend("emulated", variant=variant, **emulated.options()):
        return function(*arguments, **options)


def suits(variant, direction, kind, x, w, limit=None, **options):
    """(refusal, bytes of workspace) for arrays like these."""
    dtype, precision = kind
    sizes = sizes_of(conv_call(x.ndim - 2, dtype, x.shape, w.shape, **options).problem)
    limit = NO_LIMIT if limit is None else limit
    return MODULE.conv_suits(direction, variant, dtype.name, precision, limit, sizes)[:2]


def call_in(direction, x, w, g):
    """(function, arguments) of a 2-D problem."""
    return {
        "forward": (cuconv.conv2d, (x, w)),
        "input_grad": (cuconv.conv2d_input_grad, (g, w, x.shape)),
        "weight_grad": (cuconv.conv2d_weight_grad, (g, x, w.shape)),
    }[direction]


def terms_of(direction, arguments, options):
    """How long its sums are."""
    if direction == "forward":
        return arguments[1][0].size + 1  # and the bias
    first, second, shape = arguments
    first_channel = options.get("layout", "NCHW")[-1] != "C"
    if direction == "input_grad":
        channels = shape[-(second.ndim - 1)] if first_channel else shape[-1]
        return second.size // channels
    filters = first.shape[-(len(shape) - 1)] if first_channel else first.shape[-1]
    return first.size // filters


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
    """But tiles may cut long sums each into their own pieces."""
    tiles = [t for t in SIMT if (dtype, "ieee") in kinds_of(f"implicit_gemm_{t}", direction)]
    assert "simt_32x32" in tiles
    several = 0
    for seed in range(700, 706):
        for rank in (1, 2, 3):
            call = drawn(reference, seed, rank, dtype, direction)
            short = terms_of(direction, *call[1:]) < LEAST_CUT
            several += short
            variants = [f"implicit_gemm_{t}" for t in (tiles if short else ["simt_32x32"])]
            if direction == "forward" and short:
                variants.append("im2col_simt_32x32")
            want = run(emulated, "implicit_gemm_analytic_32x32", *call)
            for variant in variants:
                got = run(emulated, variant, *call)
                assert got.tobytes() == want.tobytes(), f"{variant}, seed {seed}, rank {rank}"
    assert several >= 12


def in_layout(a, layout):
    return a if layout == "NCHW" else np.moveaxis(a, 1, -1).copy()


def pitched_view(a):
    """As a slice of channels lies: every line aligned, whatever its length."""
    pitch = -(-(a.shape[-1] + 1) // 16) * 16
    view = np.full((*a.shape[:-1], pitch), np.nan, a.dtype)[..., : a.shape[-1]]
    assert view.ctypes.data % 16 == 0
    view[...] = a
    return view


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("channels", "filters", "groups"),
    [(16, 24, 1), (3, 8, 1), (12, 9, 1), (5, 1, 1), (1, 16, 1), (16, 24, 2)],
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_vectors_and_single_elements_give_the_same_bits(
    emulated, layout, channels, filters, groups, kernel
):
    """Aligned arrays are fetched 16 bytes at a time, shifted or sliced ones by elements. Aligned
    lines of a length that is no multiple of 16 bytes must not be.

    Emulation keeps where an array lies relative to 64 bytes (csrc/emu/arena.cpp).
    """
    rng = np.random.default_rng(channels)
    x = in_layout(rng.standard_normal((2, channels, 4, 12)), layout)
    w = in_layout(rng.standard_normal((filters, channels // groups, kernel, kernel)), layout)
    options = {"padding": kernel // 2, "layout": layout, "groups": groups}
    cases = [("implicit_gemm_simt_64x64", F, "ieee"), ("im2col_simt_32x32", F, "ieee")]
    cases += [("implicit_gemm_sm80_64x64", F, "tf32x3"), ("implicit_gemm_sm80_64x64", F, "tf32")]
    cases += [("implicit_gemm_sm80_128x128", HALF, "ieee")]
    cases += [("implicit_gemm_sm75_64x64", HALF, "ieee")]
    for variant, dtype, precision in cases:
        a, b = x.astype(dtype), w.astype(dtype)
        g = rng.standard_normal(in_layout(np.empty((2, filters, 4, 12)), layout).shape)
        g = g.astype(dtype)
        for function, first, second, shape in (
            (cuconv.conv2d, a, b, ()),
            (cuconv.conv2d_input_grad, g, b, (a.shape,)),
            (cuconv.conv2d_weight_grad, g, a, (b.shape,)),
        ):
            with cuconv.use_backend("emulated", variant=variant, **emulated.options()):
                want = function(first, second, *shape, precision=precision, **options)
                assert all(v.ctypes.data % 16 == 0 for v in (first, second, want))
                for view in (problems.shifted_view, problems.sliced_view, pitched_view):
                    odd = view(first), view(second)
                    got = function(*odd, *shape, precision=precision, **options)
                    assert got.tobytes() == want.tobytes(), f"{variant}, {view.__name__}"
                for view in (problems.shifted_view, pitched_view):
                    out = view(np.zeros_like(want))
                    function(first, second, *shape, precision=precision, out=out, **options)
                    assert out.tobytes() == want.tobytes(), f"{variant}, out by {view.__name__}"


def test_results_go_into_a_slice_of_channels(emulated, reference):
    """What the concatenation of an Inception module needs: an offset and a pitch of rows."""
    rng = np.random.default_rng(1)
    for layout, dtype, variant in (
        ("NHWC", HALF, "implicit_gemm_sm80_64x64"),
        ("NCHW", HALF, "implicit_gemm_sm80_64x64"),
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


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("terms", [27, 288, 1152])
def test_tf32x3_is_as_exact_as_float32(emulated, reference, terms, direction):
    """Root mean square and largest error at most twice those of float32 on CUDA cores."""
    rng = np.random.default_rng(terms)
    summed, other = terms // 9, 32
    n, c, k, size = {
        "forward": (1, summed, other, (8, 16)),
        "input_grad": (1, other, summed, (8, 16)),
        "weight_grad": (1, 16, other, (terms // 9, 9)),
    }[direction]
    x = rng.standard_normal((n, c, *size)).astype(F)
    w = rng.standard_normal((k, c, 3, 3)).astype(F)
    g = rng.standard_normal((n, k, *size)).astype(F)
    function, arguments = call_in(direction, x, w, g)
    exact = reference.run(
        function, wide(arguments[0]), wide(arguments[1]), *arguments[2:], padding=1
    )

    def errors(variant, precision):
        options = {"padding": 1, "precision": precision}
        difference = run(emulated, variant, function, arguments, options) - exact
        return np.array([np.sqrt((difference**2).mean()), np.abs(difference).max()])

    plain = errors("implicit_gemm_simt_64x64", "ieee")
    for variant in ("implicit_gemm_sm80_64x64", "im2col_sm80_128x128"):
        assert (errors(variant, "tf32x3") <= 2 * plain).all()
    coarse = errors("implicit_gemm_sm80_64x64", "tf32")
    assert (coarse > 50 * plain).all(), "one pass of tf32 rounds to 11 bits"


# ---- sums in pieces ----

LONG = {  # x, w, options: more than LEAST_CUT terms a sum, few sums
    "forward": ((1, 232, 4, 7), (7, 232, 3, 3), {"padding": 1}),
    "input_grad": ((1, 5, 4, 7), (232, 5, 3, 3), {"padding": 1}),
    "weight_grad": ((2, 3, 43, 48), (4, 3, 3, 3), {"padding": 1}),
}
IN_PIECES = [
    ("implicit_gemm_simt_32x32", (F, "ieee")),
    ("implicit_gemm_simt_32x32", (np.dtype("complex64"), "ieee")),
    ("implicit_gemm_sm80_64x64", (HALF, "ieee")),
    ("implicit_gemm_sm80_64x64", (F, "tf32")),
    ("implicit_gemm_sm80_64x64", (F, "tf32x3")),
    ("implicit_gemm_sm75_64x64", (HALF, "ieee")),
]


def long_call(direction, dtype, make):
    """(x, w, function, arguments, options)."""
    rng = np.random.default_rng(9)
    x_shape, w_shape, options = LONG[direction]
    x, w = make(rng, x_shape, dtype), make(rng, w_shape, dtype)
    g = make(rng, (x_shape[0], w_shape[0], *x_shape[2:]), dtype)
    function, arguments = call_in(direction, x, w, g)
    if direction == "forward":
        arguments = (*arguments, make(rng, w_shape[:1], dtype))
    return x, w, function, arguments, options


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize(("variant", "kind"), IN_PIECES, ids=str)
def test_sums_in_pieces(emulated, reference, direction, variant, kind):
    """Exact, within the bound, the same bits each time; and one piece where memory is denied."""
    dtype, precision = kind
    x, w, *call = long_call(direction, dtype, problems.integers)
    sums = {"forward": x[:, 0].size * len(w), "input_grad": x.size, "weight_grad": w.size}
    piece = sums[direction] * max(dtype.itemsize, 4)  # bytes: sums of 16-bit numbers are float32
    refusal, workspace = suits(variant, direction, kind, x, w, **call[2])
    assert not refusal
    assert workspace % piece == 0
    assert workspace // piece >= 4
    assert suits(variant, direction, kind, x, w, limit=0, **call[2]) == ("", 0)
    assert suits(variant, direction, kind, x, w, limit=3 * piece, **call[2]) == ("", 3 * piece)

    function, arguments, options = call
    options = {**options, "precision": precision}
    if direction == "forward" and dtype.kind != "c":
        options["activation"] = "relu"
    want = reference.run(function, *arguments, **options)
    for limit in (None, 3 * piece, 0):
        got = run(emulated, variant, function, arguments, {**options, "workspace_limit": limit})
        assert_equal(got, want)

    x, w, *call = long_call(direction, dtype, problems.normal)
    function, arguments, options = call
    whole, *others = (
        run(emulated, variant, function, arguments, {**options, "precision": precision})
        for _ in range(3)  # each under another order
    )
    for again in others:
        assert again.tobytes() == whole.tobytes()
    one = {**options, "precision": precision, "workspace_limit": 0}
    one = run(emulated, variant, function, arguments, one)
    terms = terms_of(direction, arguments, options)
    for got in (whole, one):
        within(got, call, dtype, precision, reference, terms)
    if dtype != HALF:
        assert one.tobytes() != whole.tobytes(), "pieces should have ordered the sum anew"


@pytest.mark.parametrize("direction", FUNCTIONS)
def test_iterators_give_the_same_bits_in_pieces(emulated, direction):
    *_, function, arguments, options = long_call(direction, F, problems.normal)
    want = run(emulated, "implicit_gemm_analytic_32x32", function, arguments, options)
    got = run(emulated, "implicit_gemm_simt_32x32", function, arguments, options)
    assert got.tobytes() == want.tobytes()


# ---- columns in chunks ----

CHUNKED = {  # x, w, options, and limits for: most of it, some of it, the least chunk
    "forward": (
        (3, 6, 15, 14),
        (10, 3, 3, 2),
        {"padding": ((2, 0), (1, 1)), "groups": 2, "dilation": (2, 1)},
    ),
    "input_grad": ((3, 10, 9, 8), (4, 5, 3, 2), {"padding": 1, "groups": 2, "stride": (1, 2)}),
    "weight_grad": ((3, 6, 15, 14), (4, 3, 3, 2), {"padding": 1, "groups": 2, "stride": (1, 2)}),
}


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        ("im2col_simt_32x32", (F, "ieee")),
        ("im2col_simt_32x32", (np.dtype("complex128"), "ieee")),
        ("im2col_simt_64x64", (HALF, "ieee")),
        ("im2col_sm80_64x64", (HALF, "ieee")),
        ("im2col_sm80_128x128", (F, "tf32x3")),
    ],
    ids=str,
)
def test_columns_keep_to_every_limit(emulated, reference, direction, variant, kind):
    """From all columns at once down to the least chunk, below which they refuse."""
    dtype, precision = kind
    rng = np.random.default_rng(4)
    x_shape, w_shape, options = CHUNKED[direction]
    x, w = problems.integers(rng, x_shape, dtype), problems.integers(rng, w_shape, dtype)
    y = reference.run(cuconv.conv2d, x, w, **options)
    g = problems.integers(rng, y.shape, dtype)
    function, arguments = call_in(direction, x, w, g)
    want = reference.run(function, *arguments, **options)

    def asked(limit):
        return suits(variant, direction, kind, x, w, limit=limit, **options)

    _, everything = asked(None)
    taken = {everything: everything}  # by limit: the workspace of ever smaller chunks
    limit = everything
    while not asked(limit := taken[limit] - 1)[0]:
        _, taken[limit] = asked(limit)
        assert 0 < taken[limit] <= limit
    limits, steps = list(taken), list(taken.values())
    assert len(steps) >= 3, f"{steps}: hardly cut"
    if direction == "input_grad":
        assert everything % 15 == 0
        assert everything // 3 in steps  # one image at a time
        assert everything // 15 in steps  # and one channel of each group
    some = {*limits[:2], limits[len(limits) // 2], limits[-1], sum(limits[:2]) // 2}
    for limit in some:
        how = {"workspace_limit": limit, "precision": precision, **options}
        assert_equal(run(emulated, variant, function, arguments, how), want)

    limit = steps[-1] - 1
    how = {"workspace_limit": limit, "precision": precision, **options}
    with pytest.raises(cuconv.UnsupportedError, match=f"{variant}.* {limit} bytes"):
        run(emulated, variant, function, arguments, how)
    with emulated.select():
        assert_equal(function(*arguments, **how), want)  # by something else


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", ["forward", "weight_grad"])
def test_one_tap_is_not_lowered(emulated, reference, direction, layout):
    rng = np.random.default_rng(3)
    x, w = problems.integers(rng, (2, 9, 7, 8), F), problems.integers(rng, (6, 9, 1, 1), F)
    g = problems.integers(rng, (2, 6, 7, 8), F)
    assert suits("im2col_simt_32x32", direction, (F, "ieee"), x, w) == ("", 0)
    assert suits("im2col_simt_32x32", direction, (F, "ieee"), x, w, stride=2)[1] == 0
    assert suits("im2col_simt_32x32", direction, (F, "ieee"), x, w, padding=1)[1] > 0
    x, w, g = (in_layout(a, layout) for a in (x, w, g))
    function, arguments = call_in(direction, x, w, g)
    options = {"workspace_limit": 0, "layout": layout}
    want = reference.run(function, *arguments, layout=layout)
    assert_equal(run(emulated, "im2col_simt_32x32", function, arguments, options), want)


# ---- images apart ----


@pytest.mark.parametrize("summed", [6, 240], ids=["whole", "in pieces"])
@pytest.mark.parametrize("direction", ["forward", "input_grad"])
@pytest.mark.parametrize(
    ("variant", "kind"),
    [
        ("implicit_gemm_simt_32x32", (F, "ieee")),
        ("implicit_gemm_sm80_64x64", (HALF, "ieee")),
        ("implicit_gemm_sm80_64x64", (F, "tf32x3")),
        ("im2col_simt_32x32", (F, "ieee")),
        ("im2col_sm80_64x64", (HALF, "ieee")),
    ],
    ids=str,
)
def test_an_image_does_not_depend_on_its_batch(emulated, variant, kind, direction, summed):
    dtype, precision = kind
    rng = np.random.default_rng(2)
    c, k = (summed, 9) if direction == "forward" else (9, summed)
    x, w = (problems.normal(rng, s, dtype) for s in ((4, c, 5, 7), (k, c, 3, 3)))
    g = problems.normal(rng, (4, k, 5, 7), dtype)
    if "implicit" in variant:
        assert (suits(variant, direction, kind, x, w, padding=1)[1] > 0) == (summed == 240)
    options = {"padding": 1, "precision": precision}
    function, arguments = call_in(direction, x, w, g)
    whole = run(emulated, variant, function, arguments, options)
    for n in (0, 3):
        function, arguments = call_in(direction, x[n : n + 1], w, g[n : n + 1])
        one = run(emulated, variant, function, arguments, options)
        assert one.tobytes() == whole[n].tobytes()


# ---- special numbers and shapes ----


NOT_FINITE = [
    ("implicit_gemm_simt_64x64", (F, "ieee")),
    ("implicit_gemm_analytic_32x32", (F, "ieee")),
    ("im2col_simt_32x32", (F, "ieee")),
    ("implicit_gemm_sm80_64x64", (HALF, "ieee")),
    ("implicit_gemm_sm80_64x64", (problems.BFLOAT16, "ieee")),
    ("implicit_gemm_sm80_64x64", (F, "tf32")),
    ("implicit_gemm_sm80_128x128", (F, "tf32x3")),
    ("im2col_sm80_64x64", (F, "tf32x3")),
    ("implicit_gemm_sm75_64x64", (HALF, "ieee")),
]


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize(("variant", "kind"), NOT_FINITE, ids=str)
def test_what_is_not_finite_stays_in_its_windows(emulated, reference, variant, kind, direction):
    """One NaN and one infinity. The oracle multiplies them by the weights one by one."""
    dtype, precision = kind
    rng = np.random.default_rng(8)
    x, w = (problems.normal(rng, s, dtype) for s in ((2, 4, 9, 11), (3, 4, 3, 3)))
    g = problems.normal(rng, (2, 3, 5, 6), dtype)
    assert all((a != 0).all() for a in (x, w, g))
    options = {"padding": 1, "stride": 2}
    function, arguments = call_in(direction, x, w, g)
    clean = reference.run(function, *arguments, **options)
    spoilt = arguments[1] if direction == "weight_grad" else arguments[0]
    spoilt[0, 0, 0, 0], spoilt[0, 2, 3, 4], spoilt[1, 1, 4, 2] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        want = reference.run(function, *arguments, **options)
    finite = np.isfinite(wide(want))
    assert 0 < finite.sum() < finite.size
    assert np.isinf(wide(want)).any()
    assert np.isnan(wide(want)).any()
    got = run(emulated, variant, function, arguments, {**options, "precision": precision})
    assert_within(got, wide(want), 0.05 * (1 + np.abs(wide(clean))))


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


EVERY_FAMILY = [
    ("implicit_gemm_simt_32x32", (F, "ieee")),
    ("implicit_gemm_sm80_64x64", (F, "tf32")),
    ("implicit_gemm_sm80_64x64", (HALF, "ieee")),
    ("im2col_simt_32x32", (F, "ieee")),
    ("im2col_sm80_64x64", (F, "tf32x3")),
]


@pytest.mark.parametrize(
    ("stride", "kernel", "dilation", "padding"),
    [
        ((2, 3), (3, 3), (1, 1), ((1, 0), (1, 2))),
        ((4, 3), (1, 2), (1, 1), ((0, 0), (0, 0))),  # positions that no window meets
        ((4, 2), (3, 3), (6, 4), ((5, 2), (3, 3))),  # common divisors
        ((4, 4), (5, 4), (2, 3), ((1, 4), (4, 0))),
        ((8, 8), (3, 2), (1, 5), ((0, 1), (2, 2))),  # all 64 residues that are taken
    ],
    ids=str,
)
@pytest.mark.parametrize(("variant", "kind"), EVERY_FAMILY, ids=str)
def test_strided_input_gradients(
    emulated, reference, variant, kind, stride, kernel, dilation, padding
):
    dtype, precision = kind
    rng = np.random.default_rng(5)
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    w = problems.integers(rng, (6, 5, *kernel), dtype)
    reach = [d * (k - 1) + 1 - sum(p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    for outputs, beyond in (((4, 3), (0, 0)), ((1, 5), (stride[0] - 1, stride[1] // 2))):
        size = [
            (n - 1) * s + r + rest
            for n, s, r, rest in zip(outputs, stride, reach, beyond, strict=True)
        ]
        shape = (2, 5, *(max(n, 1) for n in size))
        y = conv_call(2, dtype, shape, w.shape, **options).y_shape
        g = problems.integers(rng, y, dtype)
        call = cuconv.conv2d_input_grad, (g, w, shape), {**options, "precision": precision}
        want = reference.run(call[0], *call[1], **options)
        assert want.any()
        assert_equal(run(emulated, variant, *call), want)


@pytest.mark.parametrize(("variant", "kind"), EVERY_FAMILY, ids=str)
def test_transposed_convolution_with_bias_and_activation(emulated, reference, variant, kind):
    dtype, precision = kind
    with_bias = 0
    for seed in range(8):
        x, w, bias, options = problems.draw_transposed(seed, 2, dtype)
        with_bias += bias is not None
        options = {**options, "activation": "relu", "precision": precision}
        want = reference.run(cuconv.conv_transpose2d, x, w, bias, **options)
        assert_equal(run(emulated, variant, cuconv.conv_transpose2d, (x, w, bias), options), want)
    assert 0 < with_bias < 8


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("variant", ["implicit_gemm_simt_32x32", "im2col_simt_32x32"])
def test_complex_gradients_conjugate(emulated, reference, variant, dtype):
    rng = np.random.default_rng(7)
    shapes = (2, 4, 7, 6), (6, 2, 3, 2), (2, 6, 4, 6)
    x, w, g = (problems.integers(rng, shape, np.dtype(dtype)) for shape in shapes)
    options = {"groups": 2, "stride": (2, 1), "padding": ((1, 1), (1, 0))}
    for direction, other in (("input_grad", w), ("weight_grad", x)):
        function, arguments = call_in(direction, x, w, g)
        want = reference.run(function, *arguments, **options)
        plain = reference.run(function, arguments[0], other.conj(), arguments[2], **options)
        assert (want != plain).any(), "data that cannot tell"
        assert_equal(run(emulated, variant, function, arguments, options), want)


@pytest.mark.parametrize(("variant", "kind"), EVERY_FAMILY, ids=str)
def test_empty_problems(emulated, reference, variant, kind):
    dtype, precision = kind
    how = {"precision": precision}
    for x_shape, w_shape, options in (
        ((0, 3, 5, 6), (2, 3, 3, 3), {}),
        ((2, 0, 5, 6), (2, 0, 3, 3), {}),
        ((2, 3, 0, 6), (2, 3, 3, 3), {"padding": 2}),
        ((2, 3, 5, 6), (0, 3, 3, 3), {}),
        ((2, 0, 5, 6), (0, 0, 3, 3), {}),
    ):
        x, w = np.ones(x_shape, dtype), np.ones(w_shape, dtype)
        bias = np.arange(1, 1 + len(w)).astype(dtype)
        want = reference.run(cuconv.conv2d, x, w, bias, **options)
        assert_equal(want, np.broadcast_to(bias[:, None, None], want.shape).astype(dtype))
        assert_equal(run(emulated, variant, cuconv.conv2d, (x, w, bias), {**options, **how}), want)
        for direction, zeros in (("input_grad", x), ("weight_grad", w)):
            function, arguments = call_in(direction, x, w, np.ones_like(want))
            got = run(emulated, variant, function, arguments, {**options, **how})
            assert_equal(got, np.zeros_like(zeros))
