"""How matrix products are cut: sums into pieces, columns into chunks, batches into stretches.

Each is a place where what a kernel is promised and what it gets can drift apart: memory is asked
for by one calculation and used by another, and the last part is shorter than the others.
"""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal

F = np.dtype("float32")


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


@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
@pytest.mark.parametrize("limit", [20_000, 33_333, 100_000, 400_000])
def test_columns_are_cut_to_any_limit(emulated, reference, direction, limit):
    x, w = integers(1, 3, 6, 15, 14), integers(2, 10, 3, 3, 2)
    options = {"padding": ((2, 0), (1, 1)), "stride": (1, 2), "groups": 2, "dilation": (2, 1)}
    y = reference.run(cuconv.conv2d, x, w, **options)
    g = integers(3, *y.shape)
    function, arguments = {
        "forward": (cuconv.conv2d, (x, w)),
        "input_grad": (cuconv.conv2d_input_grad, (g, w, x.shape)),
        "weight_grad": (cuconv.conv2d_weight_grad, (g, x, w.shape)),
    }[direction]
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
            return next(c.cost for c in found if c.algo == "implicit_gemm")

        assert cost(3, 2, 64) == pytest.approx(cost(3, 1, 32), rel=0.1)
        assert cost(1, 2, 64) > 0


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_infinities_stay_infinite_on_tensor_cores(emulated, precision):
    """Infinity minus infinity, a number's small part, must not make them NaN."""
    x, w = np.ones((1, 8, 3, 3), F), np.ones((8, 8, 1, 1), F)
    x[0, 0, 0, 0], x[0, 0, 1, 1], x[0, 0, 2, 2] = np.inf, np.nan, 3.402e38
    w[0] *= np.float32(0.3)
    w[1] *= -1
    with forced(emulated, "implicit_gemm_sm80_64x64"):
        y = cuconv.conv2d(x, w, precision=precision)
    assert y[0, 0, 0, 0] == np.inf
    assert y[0, 1, 0, 0] == -np.inf
    assert np.isnan(y[0, :, 1, 1]).all()
    assert y[0, 0, 2, 2] == pytest.approx(0.3 * 3.402e38, rel=1e-2)
    assert np.isfinite(y[0, :, 0, 1:]).all()


@pytest.mark.parametrize("algo", ["implicit_gemm", "im2col"])
def test_more_blocks_than_a_grid_has_are_refused(emulated, algo):
    with emulated.select():
        found = cuconv.algorithms(
            (1, 2**31, 1, 1), (2**31, 1, 1, 1), "float16", device="cpu", groups=2**31
        )
    (candidate,) = (c for c in found if c.algo == algo)
    assert not candidate.supported
    assert candidate.reason
