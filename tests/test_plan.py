"""Plans."""

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal

X, W = (2, 4, 9, 8), (6, 2, 3, 3)
OPTIONS = {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "groups": 2, "padding_mode": "reflect"}


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype("float32")
    x, w = problems.integers(rng, X, dtype), problems.integers(rng, W, dtype)
    return x, w, problems.integers(rng, W[:1], dtype)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_plan_computes_what_the_function_does(backend, rank):
    plan_type, function = getattr(cuconv, f"Conv{rank}dPlan"), getattr(cuconv, f"conv{rank}d")
    for seed in range(6):
        p = problems.draw_conv(seed, rank, np.dtype("float32"))
        device = "cuda" if backend.name == "cuda" else "cpu"
        with backend.select():
            plan = plan_type(p.x.shape, p.w.shape, "float32", device=device, **p.options)
            moved = [backend.to_device(a) for a in (p.x, p.w)]
            bias = None if p.bias is None else backend.to_device(p.bias)
            for _ in range(3):
                got = backend.to_host(plan(*moved, bias))
        assert_equal(got, backend.run(function, p.x, p.w, p.bias, **p.options))
        assert plan.algo in ("direct", "im2col")
        assert plan.workspace_bytes >= 0


def test_a_plan_follows_its_arrays():
    """One plan, computed by whatever backend is chosen where it is called."""
    x, w, b = arrays()
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    first = plan(x, w, b)
    with cuconv.use_backend("reference"):
        assert_equal(plan(x, w, b), first)


def test_a_plan_writes_into_out():
    x, w, _ = arrays()
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    out = np.empty_like(plan(x, w))
    assert plan(x, w, out=out) is out
    assert_equal(out, plan(x, w))
    assert "direct" in repr(plan) or "im2col" in repr(plan)
