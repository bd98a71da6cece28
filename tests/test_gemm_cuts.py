"""How matrix products are cut: sums into pieces, columns into chunks, batches into stretches.

Each is a place where what a kernel is promised and what it gets can drift apart: memory is asked
for by one calculation and used by another, and the last part is shorter than the others.
"""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from gemm_calls import HALF, F, call_in, in_layout, run, suits, terms_of, within
from test_registry import FUNCTIONS


def integers(seed, *shape, dtype=F):
    return problems.integers(np.random.default_rng(seed), shape, dtype)


def forced(emulated, variant):
    return cuconv.use_backend("emulated", variant=variant, **emulated.options())


def test_pieces_of_every_residue_have_memory(emulated, reference):
    """A strided input gradient: the residue with the most positions has the fewest taps."""
    g, w = integers(1, 1, 520, 4, 4), integers(2, 520, 8, 3, 3)
    options = {"stride": 2, "padding": 1}
    want = reference.run(cuconv.conv2d_input_grad, g, w, (1, 8, 8, 8), **options)
    with forced(emulated, "implicit_gemm_simt_32x32"):
        assert_equal(cuconv.conv2d_input_grad(g, w, (1, 8, 8, 8), **options), want)


@pytest.mark.parametrize("length", [20608, 20736, 21000])
def test_a_last_chunk_has_no_more_pieces_than_the_first(emulated, reference, length):
    g, x = integers(1, 1, 1, length), integers(2, 1, 1, length)
    options = {"padding": 4, "workspace_limit": 377104}
    want = reference.run(cuconv.conv1d_weight_grad, g, x, (1, 1, 9), padding=4)
    with forced(emulated, "im2col_simt_32x32"):
        assert_equal(cuconv.conv1d_weight_grad(g, x, (1, 1, 9), **options), want)


@pytest.mark.parametrize("limit", [0, 3000, 20_000, 200_000, None])
def test_split_sums_are_exact_within_any_limit(emulated, reference, limit):
    """Forward, on an image smaller than a tile, with several images."""
    x, w, bias = integers(1, 5, 230, 5, 6), integers(2, 20, 230, 3, 3), integers(3, 20)
    want = reference.run(cuconv.conv2d, x, w, bias, padding=1)
    plain = {"workspace_limit": limit, "device": "cpu", "algo": "implicit_gemm", "padding": 1}
    with forced(emulated, "implicit_gemm_simt_32x32"):
        plan = cuconv.Conv2dPlan(x.shape, w.shape, F, **plain)
        assert (plan.workspace_bytes > 0) == (limit is None or limit >= 20_000)
        assert limit is None or plan.workspace_bytes <= limit
        assert_equal(plan(x, w, bias), want)


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("limit", [20_000, 33_333, 100_000, 400_000])
def test_columns_are_cut_to_any_limit(emulated, reference, direction, limit):
    x, w = integers(1, 3, 6, 15, 14), integers(2, 10, 3, 3, 2)
    options = {"padding": ((2, 0), (1, 1)), "stride": (1, 2), "groups": 2, "dilation": (2, 1)}
    y = reference.run(cuconv.conv2d, x, w, **options)
    g = integers(3, *y.shape)
    function, arguments = call_in(direction, x, w, g)
    want = reference.run(function, *arguments, **options)
    with forced(emulated, "im2col_simt_64x64"):
        assert_equal(function(*arguments, workspace_limit=limit, **options), want)


def test_columns_that_just_fit_are_taken(emulated):
    """No rounding up beyond a limit that was kept."""
    x, w = (1, 1, 12, 12), (1, 1, 3, 3)
    with forced(emulated, "im2col_simt_32x32"):
        plan = cuconv.Conv2dPlan(x, w, F, device="cpu", algo="im2col", workspace_limit=3600)
        assert plan.workspace_bytes == 3600
        with pytest.raises(cuconv.UnsupportedError, match=r"3599 bytes of workspace"):
            cuconv.Conv2dPlan(x, w, F, device="cpu", algo="im2col", workspace_limit=3599)


@pytest.mark.parametrize("variant", ["implicit_gemm_simt_64x64", "im2col_simt_64x64"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_an_image_with_split_sums_does_not_depend_on_its_batch(emulated, variant, kernel):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 2100 // kernel**2, 4, 5)).astype("f4")
    w = rng.standard_normal((9, *x.shape[1:2], kernel, kernel)).astype("f4")
    with forced(emulated, variant):
        whole = cuconv.conv2d(x, w, padding=kernel // 2)
        for n in range(3):
            one = cuconv.conv2d(x[n : n + 1], w, padding=kernel // 2)
            assert one.tobytes() == whole[n].tobytes()


def test_pieces_of_a_large_batch_wait_for_each_other(emulated):
    """Their memory has a bound of its own, whatever the batch."""
    with forced(emulated, "implicit_gemm_sm80_128x128"):
        plan = cuconv.Conv2dPlan((4096, 512, 7, 7), (512, 512, 3, 3), "float16", device="cpu")
        assert 0 < plan.workspace_bytes <= 64 << 20


def test_the_cost_of_a_strided_input_gradient_is_that_of_its_taps(emulated):
    """3x3 taps over all residues of stride 2: as many products as at stride 1 with a quarter of
    the outputs. And a 1x1 kernel is not for nothing, though most residues meet no tap."""
    with forced(emulated, "implicit_gemm_simt_32x32"):

        def cost(kernel, stride, size):
            backend = cuconv._backends.host_backend()
            out = (size + 2 - kernel) // stride + 1
            call = cuconv._problem.conv_call(
                2, F, (1, 64, size, size), (64, 64, kernel, kernel), stride=stride, padding=1
            )
            assert call.y_shape[-1] == out
            options = cuconv._backends._protocol.ConvOptions(algo="implicit_gemm")
            found = backend.conv_candidates("input_grad", call.problem, options)
            found = next(c for c in found if c.algo == "implicit_gemm")
            return dict(found.parts)["products"]

        assert cost(3, 2, 64) == pytest.approx(cost(3, 1, 32), rel=0.1)
        assert cost(1, 2, 64) > 0


@pytest.mark.parametrize("algo", ["implicit_gemm", "im2col"])
def test_more_blocks_than_a_grid_has_are_refused(emulated, algo):
    with emulated.select():
        found = cuconv.algorithms(
            (1, 2**31, 1, 1), (2**31, 1, 1, 1), "float16", device="cpu", groups=2**31
        )
    (candidate,) = (c for c in found if c.algo == algo)
    assert not candidate.supported
    assert candidate.reason


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
