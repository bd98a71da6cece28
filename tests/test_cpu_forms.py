"""Every form of convolution the CPU has, forced: exact where it can be, within its bound else."""

import math

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, sum_bound, summed_eps, wide
from cuconv._backends._cpu import adjoint, direct, forms, threads, winograd
from cuconv._backends._cpu.blocks import Scratch, accumulator, split
from cuconv._backends._cpu.epilogue import Epilogue
from cuconv._conv import Convolution, conv_options
from cuconv._problem import conv_call
from winograd_bound import absolute_winograd

LIMITS = (20_000, 256 << 20)  # small blocks, and those a user gets
EXACT = {"direct_taps", "direct_shifted", "im2col_first", "im2col_last", "im2col_small"}
EXACT |= {"winograd_f2x3"}
SHAPES = {  # what a drawn problem may lack: x, w, options
    "3x3": ((2, 4, 11, 14), (6, 4, 3, 3), {"padding": 1}),
    "3x3 of one tile": ((1, 1, 3, 3), (1, 1, 3, 3), {}),
    "3x3 of groups": ((2, 6, 9, 9), (4, 3, 3, 3), {"groups": 2, "padding": ((1, 0), (2, 1))}),
    "1x3": ((1, 3, 5, 19), (4, 3, 1, 3), {}),
    "3x1": ((3, 3, 13, 4), (4, 3, 3, 1), {"padding": 1}),
    "depthwise": ((2, 5, 12, 37), (5, 1, 5, 7), {"groups": 5, "padding": 2, "dilation": (1, 2)}),
    "depthwise, strided": ((1, 3, 14, 15), (6, 1, 3, 3), {"groups": 3, "stride": (2, 3)}),
    "image": ((1, 1, 70, 50), (1, 1, 9, 9), {"padding": "same"}),
    "image, strided": ((1, 1, 70, 93), (2, 1, 5, 4), {"stride": (2, 3), "dilation": (3, 2)}),
    "wide gaps": ((1, 2, 9, 90), (3, 2, 2, 2), {"dilation": (1, 80)}),
    "wider than the image": ((1, 2, 5, 4), (3, 2, 9, 7), {"padding": (6, 5)}),
    "prime": ((1, 2, 31, 37), (2, 2, 11, 13), {"stride": (1, 2)}),
    "pointwise": ((2, 5, 6, 7), (3, 5, 1, 1), {}),
}


def canonical(x, w, options):
    rank = x.ndim - 2
    call = conv_call(rank, x.dtype, x.shape, w.shape, **options)
    return call.problem, x.reshape(call.problem.x_shape), w.reshape(call.problem.w_shape)


def forms_of(problem, limit, x_last=False):
    for family in forms.FAMILIES:
        for form in forms.forward(family, problem, limit, x_last):
            if not isinstance(form, str):
                yield form


def computed(form, problem, x, w, bias=None, activation=None):
    y = np.full(problem.y_shape, np.nan, x.dtype)
    built = form.build(problem, Scratch())
    if bias is not None:
        bias = bias.astype(accumulator(x.dtype))
    with np.errstate(all="ignore"):
        filters = built.prepare(w)
        built.compute(x, filters, y, Epilogue(bias, activation))
    return y


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_every_form_is_exact_on_integers(reference, name, dtype, limit):
    x_shape, w_shape, options = SHAPES[name]
    rng = np.random.default_rng(len(name))
    x, w = (problems.integers(rng, shape, dtype) for shape in (x_shape, w_shape))
    bias = problems.integers(rng, w_shape[:1], dtype)
    want = reference.run(cuconv.conv2d, x, w, bias, **options)
    problem, x5, w5 = canonical(x, w, options)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x5, 1, -1)), -1, 1)
    seen = set()
    for source in (x5, last):
        for form in forms_of(problem, limit, source is last):
            seen.add(form.variant)
            got = computed(form, problem, source, w5, bias).reshape(want.shape)
            if form.variant not in EXACT:  # integers for all that, once rounded
                assert np.abs(wide(got) - wide(want)).max() < 0.3, form.variant
                got = np.round(wide(got)).astype(dtype)
            try:
                assert_equal(got, want)
            except AssertionError as error:
                raise AssertionError(f"{form.variant}: {error}") from error
    assert "direct_taps" in seen


@pytest.mark.parametrize(("piece", "short"), [(40, 0), (40, 10**9), (10**9, 0)])
@pytest.mark.parametrize("name", SHAPES)
def test_shifted_lines_cut_in_any_way_have_the_same_sums(
    reference, monkeypatch, name, piece, short
):
    """Pieces of the positions, or of the groups; all taps at a time, or a row of them."""
    monkeypatch.setattr(direct, "PIECE", piece)
    monkeypatch.setattr(direct, "SHORT", short)
    x_shape, w_shape, options = SHAPES[name]
    rng = np.random.default_rng(3)
    x, w = (problems.integers(rng, shape, np.dtype("f4")) for shape in (x_shape, w_shape))
    want = reference.run(cuconv.conv2d, x, w, **options)
    problem, x5, w5 = canonical(x, w, options)
    for form in forms_of(problem, LIMITS[1]):
        if form.variant == "direct_shifted":
            assert_equal(computed(form, problem, x5, w5).reshape(want.shape), want)


def test_forms_share_buffers_and_no_views(reference):
    """As the parts of an input gradient do: of two with outputs of one shape, the second was
    computed through the views, and so with the kernel, of the first."""
    rng, scratch = np.random.default_rng(9), Scratch()
    x = problems.integers(rng, (1, 1, 5, 2), np.dtype("f4"))
    for w_shape, low in (((3, 1, 4, 2), 1), ((3, 1, 4, 1), 0)):
        w, options = problems.integers(rng, w_shape, x.dtype), {"padding": ((3, 3), (low, 1))}
        want = reference.run(cuconv.conv2d, x, w, **options)
        assert want.shape == (1, 3, 8, 3)
        problem, x5, w5 = canonical(x, w, options)
        for family in ("direct", "im2col"):
            for form in forms.forward(family, problem, LIMITS[1], False):
                built, y = form.build(problem, scratch), np.empty(problem.y_shape, x.dtype)
                built.compute(x5, built.prepare(w5), y, Epilogue(None, None))
                assert_equal(y.reshape(want.shape), want)


def test_every_form_is_exercised():
    seen = set()
    for x_shape, w_shape, options in SHAPES.values():
        problem = conv_call(2, "f4", x_shape, w_shape, **options).problem
        seen |= {form.variant for form in forms_of(problem, LIMITS[1])}
    assert seen == EXACT | {"winograd_f4x3", "fft_overlap_save"}


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_form_is_exact_on_drawn_problems(reference, rank, dtype):
    function = getattr(cuconv, f"conv{rank}d")
    for seed in range(300, 312):
        p = problems.draw_conv(seed, rank, dtype)
        options = {k: v for k, v in p.options.items() if k not in ("padding_mode", "layout")}
        options["padding"] = "same" if isinstance(options["padding"], str) else options["padding"]
        flip = options.pop("flip_kernel", False)
        x, w = p.x, p.w
        if p.options.get("layout") == problems.LAST[rank]:
            x, w = np.moveaxis(x, -1, -1 - rank), np.moveaxis(w, -1, 1)
        if x.ndim == rank + 1:
            x = x[None]
        if flip:
            w = np.flip(w, tuple(range(2, w.ndim)))
        want = reference.run(function, x, w, **options)
        problem, x5, w5 = canonical(x, w, options)
        for form in forms_of(problem, 20_000):
            got = computed(form, problem, x5, w5).reshape(want.shape)
            if form.variant in EXACT:
                assert_equal(got, want)
            else:
                assert_within(got, wide(want), 0.3)


# ---- bounds ----


def winograd_bound(m, problem, x, w):
    """(C + 2 points + 4) eps of what the transforms make of absolute values."""
    axes = sum(k == 3 for k in problem.kernel)
    terms = problem.in_channels // problem.groups + 2 * (m + 2) ** axes + 4
    factor = 4 if w.dtype.kind == "c" else 1
    return factor * terms * summed_eps(w.dtype) * absolute_winograd(m, problem, x, w)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "c8"])
@pytest.mark.parametrize("channels", [1, 8, 200])
@pytest.mark.parametrize("make", ["normal", "positive", "hostile"])
def test_winograd_is_within_its_bound(reference, m, dtype, channels, make):
    rng = np.random.default_rng(channels)
    dtype = np.dtype(dtype)
    shapes = (2, channels, 13, 18), (5, channels, 3, 3)
    x, w = (problems.normal(rng, shape, dtype) for shape in shapes)
    if make == "positive":
        x, w = np.abs(x).astype(dtype), np.abs(w).astype(dtype)
    if make == "hostile":  # one large element beside small ones
        x[:, :, ::5, ::7] *= 1000
    problem, x5, w5 = canonical(x, w, {"padding": 1})
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), padding=1)
    form = next(f for f in forms_of(problem, LIMITS[1]) if f.variant == f"winograd_f{m}x3")
    got = computed(form, problem, x5, w5).reshape(exact.shape)
    bound = winograd_bound(m, problem, x5, w5).reshape(exact.shape)
    rounding = np.abs(exact) * float(np.finfo(dtype).eps) + float(np.finfo(dtype).tiny)
    assert_within(got, exact, bound + rounding)


def fft_bound(problem, x, w, elements):
    """6 log2(elements) eps of the product of the 2-norms of image and filter, over channels."""
    x, w = (split(wide(a), problem.groups, axis) for a, axis in ((x, 1), (w, 0)))
    norms_x = np.sqrt((np.abs(x) ** 2).sum(axis=(-3, -2, -1)))  # n, g, c
    norms_w = np.sqrt((np.abs(w) ** 2).sum(axis=(-3, -2, -1)))  # g, k, c
    product = np.einsum("ngc,gkc->ngk", norms_x, norms_w).reshape(problem.batch, -1)
    terms = 6 * math.log2(elements) + problem.in_channels // problem.groups
    return terms * product[:, :, None, None, None]


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "f2"])
@pytest.mark.parametrize("size", [3, 7, 15])
@pytest.mark.parametrize("channels", [1, 16])
def test_fft_is_within_its_bound(reference, dtype, size, channels):
    rng = np.random.default_rng(size)
    dtype = np.dtype(dtype)
    x = problems.normal(rng, (2, channels, 40, 53), dtype)
    w = problems.normal(rng, (3, channels, size, size), dtype)
    problem, x5, w5 = canonical(x, w, {"padding": size // 2})
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), padding=size // 2)
    bound = fft_bound(problem, x5, w5, 4096).reshape(2, 3, 1, 1) * summed_eps(dtype)
    rounding = np.abs(exact) * float(np.finfo(dtype).eps) + float(np.finfo(dtype).tiny)
    for form in forms.forward("fft", problem, LIMITS[1], False):
        got = computed(form, problem, x5, w5).reshape(exact.shape)
        assert_within(got, exact, bound + rounding)


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_matrices_are_exact(m):
    """A^T[(G w) * (B^T x)] is the correlation of any x and w."""
    of = winograd.matrices(m, 1, np.dtype(np.float64))
    x, w = np.arange(1.0, m + 3) ** 2, np.array([3.0, -1, 2])
    got = of.output @ ((of.filter @ w) * (of.input @ x))
    np.testing.assert_allclose(got, np.correlate(x, w, "valid"), rtol=1e-13)


# ---- gradients ----


def test_input_gradients_are_forward_problems_of_residues():
    """Each input belongs to one part, and the parts' taps are the kernel's."""
    for seed in range(40):
        p = problems.draw_conv(seed, 2, np.dtype("f4"))
        problem = conv_call(
            2,
            "f4",
            (1, 1, *p.x.shape[-2:]),
            (1, 1, 3, 4),
            stride=int(seed % 4 + 1),
            dilation=int(seed % 3 + 1),
            padding=9,
        ).problem
        inputs = np.zeros(problem.input, int)
        for part in adjoint.parts_of(problem):
            inputs[part.inputs] += 1
            if part.problem is not None:
                assert inputs[part.inputs].shape == part.problem.output
        assert (inputs == 1).all()


@pytest.mark.parametrize("algo", ["direct", "im2col", "fft"])
def test_wide_strides_scatter(reference, algo):
    rng = np.random.default_rng(3)
    x, w = (problems.integers(rng, s, np.dtype("f4")) for s in ((2, 3, 40, 41), (4, 3, 6, 5)))
    options = {"stride": (7, 6), "padding": 2}
    g = reference.run(cuconv.conv2d, x, w, **options)
    want = reference.run(cuconv.conv2d_input_grad, g, w, x.shape, **options)
    if algo == "fft":
        with pytest.raises(cuconv.UnsupportedError, match="fft does input gradients"):
            cuconv.conv2d_input_grad(g, w, x.shape, algo=algo, **options)
    else:
        assert_equal(cuconv.conv2d_input_grad(g, w, x.shape, algo=algo, **options), want)


@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_transforms_do_gradients(reference, dtype):
    rng = np.random.default_rng(4)
    dtype = np.dtype(dtype)
    x, w = (problems.normal(rng, s, dtype) for s in ((2, 3, 21, 18), (4, 3, 3, 3)))
    g = problems.normal(rng, (2, 4, 21, 18), dtype)
    want_x = reference.run(cuconv.conv2d_input_grad, g, w, x.shape, padding=1)
    want_w = reference.run(cuconv.conv2d_weight_grad, g, x, w.shape, padding=1)
    for algo in ("winograd", "fft"):
        got = cuconv.conv2d_input_grad(g, w, x.shape, padding=1, algo=algo)
        assert_within(got, wide(want_x), 1e-4)
    got = cuconv.conv2d_weight_grad(g, x, w.shape, padding=1, algo="fft")
    assert_within(got, wide(want_w), 1e-3)
    with pytest.raises(cuconv.UnsupportedError, match="no weight gradient"):
        cuconv.conv2d_weight_grad(g, x, w.shape, padding=1, algo="winograd")


def test_auto_leaves_small_problems_exact():
    convolution = Convolution(
        "forward",
        conv_call(2, "f4", (1, 8, 20, 20), (8, 8, 3, 3)),
        conv_options(np.dtype("f4")),
    )
    from cuconv._backends.numpy_backend import NumpyBackend

    assert convolution.executor(NumpyBackend()).algo in ("direct", "im2col")


def test_sum_bound_holds_for_direct_forms(reference):
    rng = np.random.default_rng(9)
    dtype = np.dtype("f4")
    x, w = (problems.normal(rng, s, dtype) for s in ((2, 6, 30, 33), (6, 1, 7, 7)))
    problem, x5, w5 = canonical(x, w, {"groups": 6})
    exact = reference.run(cuconv.conv2d, wide(x), wide(w), groups=6)
    absolute = reference.run(cuconv.conv2d, np.abs(wide(x)), np.abs(wide(w)), groups=6)
    for form in forms.forward("direct", problem, LIMITS[1], False):
        got = computed(form, problem, x5, w5).reshape(exact.shape)
        assert_within(got, exact, sum_bound(dtype, 49, absolute, exact))


def test_threads_do_not_change_bits(monkeypatch):
    """Where blocks are the same, who computes them is all the same."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((4, 16, 40, 41)), rng.standard_normal((16, 16, 3, 3))
    first = [cuconv.conv2d(x, w, algo=algo).tobytes() for algo in ("im2col", "winograd", "fft")]
    for _ in range(3):
        again = [cuconv.conv2d(x, w, algo=algo).tobytes() for algo in ("im2col", "winograd", "fft")]
        assert again == first
    assert threads.count() >= 1
