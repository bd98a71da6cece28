"""The shortest way through a call: the same bits, and no call that it should not take."""

import threading

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from cuconv import _quick, conv
from cuconv._backends._cpu import small
from cuconv._backends.numpy_backend import NumpyBackend, decide
from cuconv._conv import Convolution, conv_options

X, W = (2, 4, 9, 8), (6, 2, 3, 3)
OPTIONS = {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "groups": 2, "activation": "relu"}


def arrays(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [problems.integers(rng, shape, np.dtype(dtype)) for shape in (X, W, W[:1])]


@pytest.fixture
def called(monkeypatch):
    """Grows by an item with every convolution of the reference backend."""
    found = []
    run = cuconv._backends.reference.ReferenceConv.__call__
    monkeypatch.setattr(
        cuconv._backends.reference.ReferenceConv,
        "__call__",
        lambda *args: (found.append(1), run(*args)),
    )
    return found


def plan_of(dtype="float32", **options):
    return cuconv.Conv2dPlan(X, W, dtype, device="cpu", **{**OPTIONS, **options})


@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_small_form_is_exact_by_either_way(reference, rank, dtype):
    """By the quick way of a plan's contiguous arrays, and by the executor's own."""
    function, plan_type = getattr(cuconv, f"conv{rank}d"), getattr(cuconv, f"Conv{rank}dPlan")
    ran = 0
    for seed in range(40):
        p = problems.draw_conv(seed, rank, dtype)
        want = reference.run(function, p.x, p.w, p.bias, **p.options)
        if dtype.itemsize == 2 and np.abs(want.astype("f8")).max(initial=0) > 200:
            continue
        plan = plan_type(p.x.shape, p.w.shape, dtype, device="cpu", algo="im2col", **p.options)
        ran += plan.variant == "im2col_small"
        for _ in range(2):
            assert_equal(plan(p.x, p.w, p.bias), want)
            assert_equal(plan(np.ascontiguousarray(p.x), p.w.copy(), p.bias), want)
            assert_equal(plan(p.x, p.w, p.bias, out=np.empty_like(want)), want)
    assert ran > 10


def test_quick_and_slow_calls_have_the_same_bits():
    rng = np.random.default_rng(3)
    for k, c, n in ((1, 1, 1), (5, 3, 2), (16, 8, 1), (7, 12, 3)):
        x = rng.standard_normal((n, c, 9, 8)).astype("f4")
        w = rng.standard_normal((k, c, 3, 3)).astype("f4")
        b = rng.standard_normal(k).astype("f4")
        plan = cuconv.Conv2dPlan(x.shape, w.shape, "f4", padding=1, activation="tanh", device="cpu")
        quick = plan(x, w, b)
        assert plan.variant == "im2col_small"
        assert_equal(plan(x, w, b, out=np.empty_like(quick)), quick)  # `out` goes the long way
        assert_equal(plan(x[:, :, ::-1][:, :, ::-1], w, b), quick)
        assert_equal(plan(np.asfortranarray(x), np.asfortranarray(w), b), quick)
        assert_equal(cuconv.conv2d(x, w, b, padding=1, activation="tanh"), quick)
        assert_equal(cuconv.conv2d(x, w, b, padding=1, activation="tanh"), quick)
        assert_equal(plan(x, w, b)[:1], cuconv.conv2d(x[:1], w, b, padding=1, activation="tanh"))


def test_many_images_go_in_several_steps():
    x, w = np.ones((900, 2, 5, 5), "f4"), np.ones((3, 2, 3, 3), "f4")
    x[:] = np.arange(900, dtype="f4")[:, None, None, None] % 7
    decision = decide("im2col", "forward", problem_of(x, w), 1 << 28, False, 2)
    assert decision.variant == "im2col_small"
    y = cuconv.conv2d(x, w, algo="im2col")
    assert_equal(y, np.broadcast_to(x[:, :1, :1, :1] * 18, y.shape).astype("f4"))


def problem_of(x, w):
    return cuconv._problem.conv_call(2, x.dtype, x.shape, w.shape).problem


def test_results_are_new_each_time():
    x, w, b = arrays()
    plan = plan_of()
    first = plan(x, w, b)
    kept = first.copy()
    plan(-x, w, b)
    assert_equal(first, kept)
    assert first.flags.c_contiguous
    assert first.base is None


def test_what_a_quick_call_leaves_to_others():
    x, w, b = arrays()
    plan = plan_of()
    want = plan(x, w, b)
    with pytest.raises(TypeError, match="w is float64, but x is float32"):
        plan(x, w.astype("f8"), b)
    with pytest.raises(TypeError, match="float64, but the plan is for float32"):
        plan(x.astype("f8"), w.astype("f8"))
    with pytest.raises(ValueError, match="x has shape"):
        plan(x[:1], w, b)
    with pytest.raises(ValueError, match="bias must have shape"):
        plan(x, w, b[:-1])
    with pytest.raises(TypeError, match="masked"):
        plan(np.ma.masked_array(x), w, b)
    with pytest.raises(TypeError, match="must be a NumPy or CuPy array"):
        plan(x.tolist(), w, b)
    swapped = x.astype(">f4")
    with pytest.raises(TypeError):
        plan(swapped, w, b)
    assert_equal(plan(x, w, b), want)


def test_another_backend_is_not_passed_by(monkeypatch, called):
    """Neither one chosen in a block, nor one by the environment."""
    x, w, b = arrays()
    plan = plan_of()
    plan(x, w, b), cuconv.conv2d(x, w, b, **OPTIONS)
    with cuconv.use_backend("reference"):
        plan(x, w, b), cuconv.conv2d(x, w, b, **OPTIONS)
    assert len(called) == 2
    monkeypatch.setenv("CUCONV_BACKEND", "reference")
    plan(x, w, b), cuconv.conv2d(x, w, b, **OPTIONS)
    assert len(called) == 4


def test_equal_but_other_arguments_are_checked():
    """True equals 1, and is no stride."""
    x, w, _ = arrays()
    cuconv.conv2d(x, w, stride=1, groups=2)
    cuconv.conv2d(x, w, stride=1, groups=2)
    with pytest.raises(TypeError, match="stride"):
        cuconv.conv2d(x, w, stride=True, groups=2)
    with pytest.raises(TypeError, match="stride"):
        cuconv.conv2d(x, w, stride=(True, 1), groups=2)


def test_functions_forget(monkeypatch):
    monkeypatch.setattr(conv, "QUICK_CALLS", 3)
    conv._quick.clear()
    for n in range(3, 12):
        x, w = np.ones((1, 1, n), "f4"), np.ones((1, 1, 2), "f4")
        for _ in range(2):
            assert_equal(cuconv.conv1d(x, w), np.full((1, 1, n - 1), 2, "f4"))
    assert 0 < len(conv._quick) <= 4


def test_threads_share_a_plan():
    x, w, b = arrays()
    plan = plan_of(activation=None)
    want = [plan(x * i, w, b) for i in range(8)]
    wrong = []

    def work(i):
        for _ in range(200):
            if not np.array_equal(plan(x * i, w, b), want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_borders_and_empty_arrays_have_no_quick_way():
    backend = NumpyBackend()
    for shape, options in (((2, 3, 5), {"padding": 1, "padding_mode": "reflect"}), ((0, 3, 5), {})):
        call = cuconv._problem.conv_call(1, np.dtype("f4"), shape, (2, 3, 3), **options)
        convolution = Convolution("forward", call, conv_options(np.dtype("f4")))
        assert _quick.quick_call(convolution, backend, convolution.executor(backend)) is None


def test_small_problems_keep_inside_what_they_say():
    for shape, kernel in (((4, 3, 8, 8), (4, 3, 3, 3)), ((1, 1, 80, 80), (1, 1, 1, 1))):
        problem = cuconv._problem.conv_call(2, np.dtype("f4"), shape, kernel).problem
        assert small.is_small(problem)
        b = small.Buffers(problem)
        total = sum(a.nbytes for a in (b.inner.base, b.copied, b.sums, b.filters))
        assert total == small.bytes_of(problem)
    large = cuconv._problem.conv_call(2, np.dtype("f4"), (1, 8, 99, 99), (8, 8, 3, 3)).problem
    assert not small.is_small(large)


# ---- the gradients of a plan, and transposed ones ----


@pytest.mark.parametrize("layout", [None, "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "float16"])
def test_a_plan_has_its_gradients(dtype, layout):
    x, w, _ = arrays(1, dtype)
    options = {**OPTIONS, "layout": layout, "flip_kernel": True}
    del options["activation"]
    if layout:
        x, w = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w))
    plan = cuconv.Conv2dPlan(x.shape, w.shape, dtype, device="cpu", **options)
    g = np.ascontiguousarray(plan(x, w) % 5) if dtype == "float32" else plan(x, w)
    for _ in range(3):
        assert_equal(plan.input_grad(g, w), cuconv.conv2d_input_grad(g, w, x.shape, **options))
        assert_equal(plan.weight_grad(g, x), cuconv.conv2d_weight_grad(g, x, w.shape, **options))
    out = np.empty_like(x)
    assert plan.input_grad(g, w, out=out) is out
    with pytest.raises(ValueError, match="grad_out has shape"):
        plan.input_grad(g[:1], w)
    assert plan.input_grad is plan.input_grad
    assert "grad_out" in repr(plan.weight_grad)


def test_gradients_of_a_plan_with_an_activation_are_those_of_the_sum():
    x, w, _ = arrays(1)
    plan = plan_of()
    g = plan(x, w)
    options = {k: v for k, v in OPTIONS.items() if k != "activation"}
    assert_equal(plan.input_grad(g, w), cuconv.conv2d_input_grad(g, w, x.shape, **options))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_plans(rank):
    shapes = (2, 4, *(5, 6, 3)[:rank]), (4, 3, *(3, 2, 3)[:rank])
    rng = np.random.default_rng(rank)
    x, w = (problems.integers(rng, shape, np.dtype("f4")) for shape in shapes)
    b = problems.integers(rng, (3,), np.dtype("f4"))
    options = {"stride": 2, "padding": 1, "output_padding": 1, "activation": "relu"}
    plan = getattr(cuconv, f"ConvTranspose{rank}dPlan")(*shapes, "f4", device="cpu", **options)
    want = getattr(cuconv, f"conv_transpose{rank}d")(x, w, b, **options)
    for _ in range(2):
        assert_equal(plan(x, w, b), want)
    assert_equal(plan(x, w, b, out=np.empty_like(want)), want)
    with pytest.raises(ValueError, match="bias must have shape"):
        plan(x, w, b[:2])


# ---- explanations ----


def test_a_plan_explains_itself(capsys):
    plan = cuconv.Conv2dPlan((1, 64, 56, 56), (64, 64, 3, 3), "float32", padding=1, device="cpu")
    plan.explain()
    text = capsys.readouterr().out
    assert repr(plan) in text
    (line,) = [line for line in text.splitlines() if line.startswith("*")]
    assert plan.variant in line
    assert "products" in line
    assert "implicit_gemm has no form for the CPU" in text
    assert "the least estimate" in text
    estimates = [
        c.cost
        for c in cuconv.algorithms(
            (1, 64, 56, 56), (64, 64, 3, 3), "float32", device="cpu", padding=1
        )
        if c.supported
    ]
    assert min(estimates) > 0


def test_explanations_name_what_was_asked_for(capsys):
    plan_of(algo="im2col", workspace_limit=1 << 20).explain()
    assert "algo='im2col' was asked for" in capsys.readouterr().out
    plan_of(workspace_limit=1 << 20).explain()
    text = capsys.readouterr().out
    assert "inside workspace_limit=1048576" in text
    assert "only for 4194304 multiply-adds" in text
    plan_of(algo="autotune").input_grad.explain()
    assert "timed" in capsys.readouterr().out


def test_estimates_are_the_sum_of_their_parts_on_the_cpu():
    found = cuconv.algorithms((1, 64, 56, 56), (64, 64, 3, 3), "float32", device="cpu")
    for candidate in found:
        if candidate.supported:
            assert candidate.cost == pytest.approx(sum(seconds for _, seconds in candidate.parts))


# ---- found by reading and attacking ----


def test_a_gradient_first_used_in_a_block_runs_where_the_block_says(called):
    """Its plan was made outside, and recorded the block's choice as its own."""
    x, w, _ = arrays()
    plan = plan_of(activation=None)
    g = plan(x, w)
    with cuconv.use_backend("reference"):
        for _ in range(3):
            plan.weight_grad(g, x)
    assert len(called) == 3


def test_functions_keep_no_large_problem():
    """Its buffers and filters are for plans, and so is the number of threads it was decided for."""
    conv._quick.clear()
    x, w = np.ones((1, 8, 60, 60), "f4"), np.ones((8, 8, 3, 3), "f4")
    for _ in range(2):
        cuconv.conv2d(x, w)
    assert not conv._quick
    cuconv.conv2d(x[:, :, :6, :6].copy(), w)
    assert len(conv._quick) == 1


def test_what_only_looks_like_an_array_is_named():
    with pytest.raises(TypeError, match="x must be a NumPy or CuPy array"):
        cuconv.conv2d(memoryview(b"abc"), memoryview(b"abc"))


def test_options_that_are_none_are_named():
    with pytest.raises(TypeError, match="algorithms has no option 'strides'"):
        cuconv.algorithms(X, W, "f4", device="cpu", strides=2)
    for call in (cuconv.algorithms, cuconv.Conv2dPlan, cuconv.ConvTranspose2dPlan):
        with pytest.raises(TypeError, match="dtype must be given"):
            call(X, W, None)


def test_an_explanation_where_nothing_keeps_inside_the_limit(capsys):
    shapes = (1, 64, 56, 56), (64, 64, 3, 3)
    plan = cuconv.Conv2dPlan(*shapes, "f4", device="cpu", workspace_limit=1)
    plan.explain()
    text = capsys.readouterr().out
    assert "nothing keeps inside workspace_limit=1" in text
    assert sum(line.startswith("*") for line in text.splitlines()) == 1
