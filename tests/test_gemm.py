"""The matrix-product families: the same bits by every way to fetch, and errors within bounds."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, wide
from gemm_calls import HALF, LEAST_CUT, F, call_in, drawn, in_layout, run, terms_of, within
from test_registry import FUNCTIONS, VARIANTS, kinds_of

SIMT = ("simt_32x32", "simt_64x64", "simt_128x128")


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


@pytest.mark.parametrize(
    ("variant", "direction"),
    [v for v in VARIANTS if v[0].startswith(("im2col", "implicit_gemm"))],
    ids=str,
)
def test_errors_are_within_their_bounds(emulated, reference, variant, direction):
    for i, (dtype, precision) in enumerate(kinds_of(variant, direction)):
        for seed in range(720 + i, 724 + i):
            # Borders of zeros: what folding others back adds is held in test_conv_grad.py.
            how = {"padding_mode": "zeros", "by_tma": direction if "_sm90_" in variant else ""}
            call = drawn(reference, seed, 1 + seed % 3, dtype, direction, **how)
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
