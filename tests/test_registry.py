"""Every kernel variant of the registry, forced, under race checks and every schedule."""

import importlib

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, summed_eps, wide
from fft_bounds import fft_factor
from winograd_bound import rounding, winograd_bound

FUNCTIONS = {
    "forward": "conv{}d",
    "input_grad": "conv{}d_input_grad",
    "weight_grad": "conv{}d_weight_grad",
}


NO_LIMIT = 2**63 - 1
# A plain problem that no variant refuses for its sizes: n, groups, c, k, then in, filter, out,
# stride, pad, dilation.
PLAIN = (1, 1, 8, 8, 1, 8, 9, 1, 3, 3, 1, 6, 7, 1, 1, 1, 0, 0, 0, 1, 1, 1)


ORDERS = ("forward", "reverse", "shuffled")


def registry():
    try:
        return importlib.import_module("cuconv._C_emulated_plain")
    except ImportError:
        return None


MODULE = registry()
VARIANTS = [(name, of) for name, _, of in MODULE.conv_variants()] if MODULE else []
WINOGRAD = (
    {name for name, family, _ in MODULE.conv_variants() if family == "winograd"}
    if MODULE
    else set()
)
# Of the Winograd variants whose matrices have fractions: outputs of a tile along an axis. All other
# variants but those of fft are exact on small integers.
INEXACT = {name: 4 for name in WINOGRAD if name.endswith("4x4")}


def refusal(variant, direction, dtype, precision):
    return MODULE.conv_suits(direction, variant, str(dtype), precision, NO_LIMIT, PLAIN)[0]


def kinds_of(variant, direction):
    """The (dtype, precision) that a variant takes: of float32 whatever makes a difference to it."""
    kinds = [(dtype, "ieee") for dtype in problems.ALL]
    if refusal(variant, direction, "float32", "ieee"):
        kinds += [(np.dtype("float32"), precision) for precision in ("tf32", "tf32x3")]
    return [kind for kind in kinds if not refusal(variant, direction, *kind)]


CASES = [(v, d, *kind) for v, d in VARIANTS for kind in kinds_of(v, d)]


def test_there_are_variants(emulated):
    assert {direction for _, direction in VARIANTS} == set(FUNCTIONS)
    assert len(set(VARIANTS)) == len(VARIANTS)


def test_every_variant_takes_something(emulated):
    assert {(variant, direction) for variant, direction, *_ in CASES} == set(VARIANTS)


@pytest.mark.parametrize(("variant", "direction"), VARIANTS, ids=str)
def test_variants_take_all_their_types(emulated, variant, direction):
    """A refusal too many would take its cases away without a failure."""
    every = {dtype.name for dtype in problems.ALL}
    halves = {"float16", "bfloat16"}
    types = {
        "sm75_64x64": {"float16"},
        "sm80_groups": halves,
        "sm80_64x64": {*halves, "float32"},
        "sm80_128x128": {*halves, "float32"},
        "sm90_128x128": {*halves, "float32"},
        "sm90_256x128": {*halves, "float32"},
        "simt_128x128": {*halves, "float32"},
        "simt_64x64": every - {"complex128"},
        "fused_2x2": {*halves, "float32"},
        "fused_4x4": {"float32"},
        "staged_2x2": {"float32", "float64"},
        "staged_4x4": {"float32", "float64"},
    }
    dtypes = next((taken for end, taken in types.items() if variant.endswith(end)), every)
    precisions = {"tf32", "tf32x3"} if "_sm80_" in variant else {"ieee"}
    if "_sm90_" in variant:
        precisions = {"tf32"}
        dtypes = dtypes if direction == "forward" else halves
    want = {(name, p) for name in dtypes for p in (precisions if name == "float32" else {"ieee"})}
    assert {(dtype.name, precision) for dtype, precision in kinds_of(variant, direction)} == want


@pytest.mark.parametrize(
    ("variant", "dtype", "precision", "words"),
    [
        (
            "implicit_gemm_simt_128x128",
            "float64",
            "ieee",
            "sums of 4 bytes, those of float64 have 8",
        ),
        ("im2col_simt_64x64", "complex128", "ieee", "those of complex128 have 16"),
        ("implicit_gemm_sm80_64x64", "float32", "ieee", 'precision="ieee" asks for exact products'),
        ("im2col_sm80_128x128", "complex64", "tf32", "tensor cores have no complex64"),
        ("implicit_gemm_sm75_64x64", "bfloat16", "ieee", "takes float16 alone"),
        ("implicit_gemm_sm80_groups", "float32", "tf32", "float16 and bfloat16, not float32"),
        ("winograd_fused_4x4", "bfloat16", "ieee", "takes float32 alone, not bfloat16"),
        ("winograd_fused_2x2", "float64", "ieee", "float16 and bfloat16, not float64"),
        ("winograd_staged_4x4", "float16", "ieee", "float32 and float64, not float16"),
        ("winograd_staged_2x2", "complex64", "ieee", "takes real numbers, not complex64"),
        ("implicit_gemm_sm90_128x128", "float32", "ieee", 'tf32, once: precision="tf32"'),
        ("implicit_gemm_sm90_128x128", "float32", "tf32x3", 'tf32, once: precision="tf32"'),
        ("implicit_gemm_sm90_128x128", "complex64", "ieee", "tensor cores have no complex64"),
    ],
)
def test_variants_say_which_types_they_take(emulated, variant, dtype, precision, words):
    directions = [direction for name, direction in VARIANTS if name == variant]
    if "_sm90_" in variant:  # what its gradient takes is held in test_hopper.py
        directions = ["forward"]
    assert directions
    for direction in directions:
        assert words in refusal(variant, direction, dtype, precision)


def call_of(reference, seed, rank, dtype, direction, **drawn):
    """A drawn problem as (function, arguments, options) in one direction."""
    p = problems.draw_conv(seed, rank, dtype, **drawn)
    function = getattr(cuconv, FUNCTIONS[direction].format(rank))
    if seed % 2:  # every other one as the adjoint kernels like it
        p.options["stride"] = 1
    if direction == "forward":
        return function, (p.x, p.w, p.bias), {**p.options, "activation": p.activation}
    y = reference.run(getattr(cuconv, f"conv{rank}d"), p.x, p.w, **p.options)
    g = problems.integers(np.random.default_rng(seed), y.shape, dtype)
    if direction == "input_grad":
        return function, (g, p.w, p.x.shape), p.options
    return function, (g, p.x, p.w.shape), p.options


def bound_of(reference, variant, call, dtype):
    """None where the result has to be exact. Of transforms whose numbers have fractions, their
    bound, or what tells one integer from the next."""
    if m := INEXACT.get(variant):
        return winograd_bound(reference, m, *call, dtype)
    if not variant.startswith("fft"):
        return None
    function, (first, second, *_), _ = call
    norms = np.linalg.norm(wide(first).ravel()) * np.linalg.norm(wide(second).ravel())
    # A border made of the image repeats an element up to twice along an axis, and tiles overlap.
    repeats = 3 ** (second.ndim - 2) * (8 if "weight" in function.__name__ else 1)
    return min(0.3, fft_factor(True, first.size) * summed_eps(dtype) * norms * repeats)


@pytest.mark.parametrize(("variant", "direction", "dtype", "precision"), CASES, ids=str)
def test_variant_is_right_on_integers(emulated, reference, variant, direction, dtype, precision):
    """Each drawn problem under one order of threads: all orders in turn."""
    flavour = emulated.options()["flavour"]
    ran = 0
    by_tma = direction if "_sm90_" in variant else ""
    kernels = {2: (3, 3), 3: (1, 3, 3)} if variant in WINOGRAD else dict.fromkeys((1, 2, 3))
    for rank, kernel in kernels.items():
        for seed in range(500, 503 if by_tma else 506):  # whose tiles are large
            call = call_of(reference, seed, rank, dtype, direction, kernel=kernel, by_tma=by_tma)
            function, arguments, options = call
            want = reference.run(function, *arguments, **options)
            if dtype.itemsize == 2 and np.abs(want.astype("f8")).max(initial=0) > 200:
                continue  # a sum that bfloat16 cannot hold
            choice = {"flavour": flavour, "seed": seed, "variant": variant}
            choice["order"] = ORDERS[(seed + rank) % 3]
            choice["arrival"] = ("late", "eager")[seed % 2]
            with cuconv.use_backend("emulated", **choice):
                try:
                    got = function(*arguments, precision=precision, **options)
                except cuconv.UnsupportedError:
                    continue  # why is the business of test_variants_refuse_for_a_reason
            ran += 1
            if (bound := bound_of(reference, variant, call, dtype)) is None:
                assert_equal(got, want)
            else:
                assert_within(got, want, bound + rounding(wide(want), dtype))
    assert ran >= 3, f"{variant}, {direction} did {ran} problems: it was hardly tested"


TAKES_ALL = {"direct_naive", "direct_gather", "direct_reduce"}  # what is legal, a direction each


@pytest.mark.parametrize("direction", FUNCTIONS)
@pytest.mark.parametrize("option", ["stride", "dilation"])
@pytest.mark.parametrize(("far", "step"), [(2**61, 1), (2**62, 2)], ids=["address", "offset"])
def test_no_variant_forms_what_leaves_64_bits(emulated, reference, option, direction, far, step):
    """One output, or one tap, meets the image; the others lie so far off that their address, or
    its offset from the first element, would overflow: which the race flavour traps."""
    rng = np.random.default_rng(0)

    def spread(n, c, size):
        return problems.integers(rng, (n, c, size * step), np.dtype("f4"))[..., ::step]

    x, w = spread(1, 1, 3), spread(1, 1, 2)
    options = {option: far, "padding": [(0, far)]}
    g = spread(*reference.run(cuconv.conv1d, x, w, **options).shape)
    operands = {"forward": (x, w), "input_grad": (g, w, x.shape), "weight_grad": (g, x, w.shape)}
    function = getattr(cuconv, FUNCTIONS[direction].format(1))
    want = reference.run(function, *operands[direction], **options)
    ran = set()
    for variant in (name for name, of in VARIANTS if of == direction):
        with cuconv.use_backend("emulated", flavour="race", variant=variant):
            try:
                got = function(*operands[direction], **options)
            except cuconv.UnsupportedError:
                continue
        assert_equal(got, want)
        ran.add(variant)
    assert ran & TAKES_ALL


def test_an_unknown_variant_is_refused(emulated):
    x = np.ones((1, 1, 4, 4), "f4")
    with (
        cuconv.use_backend("emulated", variant="direct_magic"),
        pytest.raises(cuconv.UnsupportedError, match="direct_magic"),
    ):
        cuconv.conv2d(x, x)


def test_variants_refuse_for_a_reason(emulated):
    x, w = np.ones((1, 1, 200, 200), "f8"), np.ones((1, 1, 90, 90), "f8")
    with (
        cuconv.use_backend("emulated", variant="direct_tiled_16x16"),
        pytest.raises(cuconv.UnsupportedError, match=r"shared memory.* 48 KiB"),
    ):
        cuconv.conv2d(x, w)
    g = np.ones((1, 1, 2, 2), "f8")
    with (
        cuconv.use_backend("emulated", variant="direct_tiled_16x16"),
        pytest.raises(cuconv.UnsupportedError, match="stride 1, not 2"),
    ):
        cuconv.conv2d_input_grad(g, np.ones((1, 1, 3, 3)), (1, 1, 5, 5), stride=2)
