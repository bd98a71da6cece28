"""Plans, and the answer cache of autotune."""

import json
import warnings

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from cuconv import autotune

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


# ---- autotune ----


def test_autotune_remembers_on_disk():
    x, w, _ = arrays()
    want = cuconv.conv2d(x, w, **OPTIONS)
    assert_equal(cuconv.conv2d(x, w, algo="autotune", **OPTIONS), want)
    file = autotune.cache_file()
    entries = json.loads(file.read_text())
    assert set(entries.values()) <= {"direct", "im2col"}
    assert len(entries) == 1
    assert [f.name for f in file.parent.iterdir()] == [file.name]  # nothing half-written is left


def test_autotune_believes_the_file(monkeypatch):
    x, w, _ = arrays()
    plan = cuconv.Conv2dPlan(X, W, "float32", algo="autotune", device="cpu", **OPTIONS)
    assert plan.algo == "autotune"
    plan(x, w)
    file = autotune.cache_file()
    (key,) = json.loads(file.read_text())
    for answer in ("direct", "im2col"):
        file.write_text(json.dumps({key: answer}))
        autotune._memory.clear()
        monkeypatch.setattr(autotune, "measure", None)  # timing again would fail
        again = cuconv.Conv2dPlan(X, W, "float32", algo="autotune", device="cpu", **OPTIONS)
        again(x, w)
        assert again.algo == answer


def test_plan_autotune_times_again():
    x, w, _ = arrays()
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    assert plan.autotune(x, w) == plan.algo
    assert plan.algo in ("direct", "im2col")


def test_gradients_can_be_tuned():
    x, w, _ = arrays()
    g = cuconv.conv2d(x, w, **OPTIONS)
    for function, call in (
        (cuconv.conv2d_input_grad, (g, w, X)),
        (cuconv.conv2d_weight_grad, (g, x, W)),
    ):
        assert_equal(function(*call, algo="autotune", **OPTIONS), function(*call, **OPTIONS))
    assert len(json.loads(autotune.cache_file().read_text())) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\x00\x01", ""])
def test_a_broken_cache_is_ignored_with_one_warning(content):
    file = autotune.cache_file()
    file.parent.mkdir(parents=True)
    file.write_text(content)
    x, w, _ = arrays()
    with pytest.warns(RuntimeWarning, match="is ignored") as caught:
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    assert len(json.loads(file.read_text())) == 1  # mended


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUCONV_CACHE_DIR", str(tmp_path / "file" / "folder"))
    x, w, _ = arrays()
    with pytest.warns(RuntimeWarning, match="cache"):
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)


def test_writers_keep_each_other_s_answers():
    file = autotune.cache_file()
    autotune.write(file, {"a": "direct"})
    autotune.write(file, {"b": "im2col"})
    assert autotune.read(file) == {"a": "direct", "b": "im2col"}
