"""The everyday CPU path: blocks, families and memory."""

import tracemalloc

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal


@pytest.mark.parametrize("algo", ["direct", "im2col"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_block_size_gives_the_same(rank, algo, reference):
    """Limits from one output position a block upwards."""
    for seed in range(600, 606):
        p = problems.draw_conv(seed, rank, np.dtype("float32"))
        conv = getattr(cuconv, f"conv{rank}d")
        want = reference.run(conv, p.x, p.w, **p.options)
        g = problems.integers(np.random.default_rng(seed), want.shape, np.dtype("float32"))
        input_grad = getattr(cuconv, f"conv{rank}d_input_grad")
        weight_grad = getattr(cuconv, f"conv{rank}d_weight_grad")
        want_x = reference.run(input_grad, g, p.w, p.x.shape, **p.options)
        want_w = reference.run(weight_grad, g, p.x, p.w.shape, **p.options)
        for limit in (2_500, 20_000, None):
            options = {**p.options, "algo": algo, "workspace_limit": limit}
            try:
                assert_equal(conv(p.x, p.w, **options), want)
                assert_equal(input_grad(g, p.w, p.x.shape, **options), want_x)
                assert_equal(weight_grad(g, p.x, p.w.shape, **options), want_w)
            except cuconv.UnsupportedError as error:
                if limit is None:
                    raise AssertionError("refused without a limit") from error


def test_workspace_is_kept():
    """Peak memory beyond the result stays within the limit and a little for the interpreter."""
    x = np.ones((4, 16, 96, 95), np.float32)
    w = np.ones((16, 16, 5, 5), np.float32)
    out = np.empty((4, 16, 92, 91), np.float32)
    limit = 3 << 20
    plan = cuconv.Conv2dPlan(x.shape, w.shape, x.dtype, workspace_limit=limit, device="cpu")
    assert plan.workspace_bytes <= limit
    cuconv.conv2d(x, w, out=out, workspace_limit=limit)
    tracemalloc.start()
    try:
        cuconv.conv2d(x, w, out=out, workspace_limit=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    lowered = 4 * 16 * 25 * 92 * 91 * 4
    assert peak <= limit + (256 << 10) < lowered


def test_auto_takes_the_least_hungry_where_nothing_fits():
    shapes = (1, 8, 20, 21), (8, 8, 5, 5)
    with pytest.raises(cuconv.UnsupportedError, match="at least"):
        cuconv.Conv2dPlan(*shapes, "float32", algo="im2col", workspace_limit=0, device="cpu")
    plan = cuconv.Conv2dPlan(*shapes, "float32", workspace_limit=0, device="cpu")
    assert plan.algo == "direct"


def test_families_are_listed():
    found = {c.algo: c for c in cuconv.algorithms((1, 3, 9, 9), (4, 3, 3, 3), "f4", device="cpu")}
    assert list(found) == ["direct", "im2col", "implicit_gemm", "winograd", "fft"]
    assert [algo for algo in found if found[algo].supported] == [
        "direct",
        "im2col",
        "winograd",
        "fft",
    ]
    assert "CPU" in found["implicit_gemm"].reason
    assert all(c.workspace_bytes > 0 and c.cost > 0 for c in found.values() if c.supported)
    assert {c.status for c in found.values()} == {"cpu"}
