"""Microbenchmarks of single calls, host overhead among them: `pytest bench/`, with the extra bench.

They print and compare times (`--benchmark-save`, `--benchmark-compare`), and never pass or fail by
one. What is called is what a user calls; on a GPU a turn ends when the work has.
"""

import types

import numpy as np
import pytest

import cuconv

pytest.importorskip("pytest_benchmark", reason='needs pip install ".[bench]"')
TINY = (1, 4, 8, 8), (4, 4, 3, 3)  # so small that the call itself is what costs
LAYER = (1, 64, 56, 56), (64, 64, 3, 3)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Makes arrays, and waits for the work."""
    if request.param == "cpu":
        return types.SimpleNamespace(name="cpu", array=np.asarray, wait=lambda: None)
    if not cuconv.is_cuda_available():
        pytest.skip("no CUDA device (and CuPy) on this machine")
    import cupy

    return types.SimpleNamespace(
        name="cuda", array=cupy.asarray, wait=cupy.cuda.get_current_stream().synchronize
    )


def drawn(device, *shapes):
    rng = np.random.default_rng(0)
    return [device.array(rng.uniform(-1, 1, shape).astype("f4")) for shape in shapes]


def timed(benchmark, device, call):
    def waited():
        result = call()
        device.wait()
        return result

    waited()
    return benchmark(waited)


def test_plan_call_overhead(benchmark, device):
    x, w = drawn(device, *TINY)
    plan = cuconv.Conv2dPlan(*TINY, "float32", padding=1, device=device.name)
    out = plan(x, w)
    assert timed(benchmark, device, lambda: plan(x, w, out=out)) is out


def test_function_call_overhead(benchmark, device):
    x, w = drawn(device, *TINY)
    assert timed(benchmark, device, lambda: cuconv.conv2d(x, w, padding=1)).shape == x.shape


def test_making_a_plan(benchmark, device):
    def make():
        return cuconv.Conv2dPlan(*LAYER, "float32", padding=1, device=device.name)

    assert timed(benchmark, device, make).algo


def test_listing_algorithms(benchmark, device):
    def ask():
        return cuconv.algorithms(*LAYER, "float32", padding=1, device=device.name)

    assert any(candidate.supported for candidate in timed(benchmark, device, ask))


def test_small_relu_in_place(benchmark, device):
    (x,) = drawn(device, (1, 64))
    assert timed(benchmark, device, lambda: cuconv.relu(x, out=x)) is x


def test_layer_3x3(benchmark, device):
    x, w = drawn(device, *LAYER)
    plan = cuconv.Conv2dPlan(*LAYER, "float32", padding=1, device=device.name)
    assert timed(benchmark, device, lambda: plan(x, w)).shape == x.shape


def test_layer_3x3_gradients(benchmark, device):
    x, w = drawn(device, *LAYER)
    g = cuconv.conv2d(x, w, padding=1)

    def both():
        return (
            cuconv.conv2d_input_grad(g, w, x.shape, padding=1),
            cuconv.conv2d_weight_grad(g, x, w.shape, padding=1),
        )

    grad_x, grad_w = timed(benchmark, device, both)
    assert (grad_x.shape, grad_w.shape) == (x.shape, w.shape)


def test_max_pool(benchmark, device):
    (x,) = drawn(device, (1, 64, 112, 112))
    pooled = timed(benchmark, device, lambda: cuconv.max_pool2d(x, 3, 2, 1))
    assert pooled.shape == (1, 64, 56, 56)
