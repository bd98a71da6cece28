"""The matrix-product families on numbers and shapes that are easy to get wrong."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within, wide
from cuconv._problem import conv_call
from gemm_calls import HALF, F, call_in, run
from test_registry import FUNCTIONS

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


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_infinities_stay_infinite_on_tensor_cores(emulated, precision):
    """Infinity minus infinity, a number's small part, must not make them NaN."""
    x, w = np.ones((1, 8, 3, 3), F), np.ones((8, 8, 1, 1), F)
    x[0, 0, 0, 0], x[0, 0, 1, 1], x[0, 0, 2, 2] = np.inf, np.nan, 3.402e38
    w[0] *= np.float32(0.3)
    w[1] *= -1
    y = run(emulated, "implicit_gemm_sm80_64x64", cuconv.conv2d, (x, w), {"precision": precision})
    assert y[0, 0, 0, 0] == np.inf
    assert y[0, 1, 0, 0] == -np.inf
    assert np.isnan(y[0, :, 1, 1]).all()
    assert y[0, 0, 2, 2] == pytest.approx(0.3 * 3.402e38, rel=1e-2)
    assert np.isfinite(y[0, :, 0, 1:]).all()
