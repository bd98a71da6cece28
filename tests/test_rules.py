"""The rules by which backends choose: counts, rates and estimates of a GPU."""

from dataclasses import replace

import numpy as np
import pytest

import cuconv
from cuconv._backends import _rules
from cuconv._backends._rules import GPUS, GpuRates, gpu_estimate, gpu_rates, not_for_auto
from cuconv._problem import conv_call

ROUND = GpuRates(1e12, 5e11, 1e13, 5e12, 1e12, launch=8e-6)


def problem_of(dtype="float32", **options):
    x, w = (1, 64, 32, 32), (64, 64, 3, 3)
    return conv_call(2, np.dtype(dtype), x, w, padding=1, **options).problem


@pytest.mark.parametrize(
    ("dtype", "unit", "precision", "rate"),
    [
        ("float32", "cuda_cores", "ieee", 1e12),
        ("float16", "cuda_cores", "ieee", 1e12),
        ("float64", "cuda_cores", "ieee", 5e11),
        ("complex64", "cuda_cores", "ieee", 1e12 / 4),  # a product of four
        ("complex128", "cuda_cores", "ieee", 5e11 / 4),
        ("float16", "tensor_cores", "ieee", 1e13),
        ("float32", "tensor_cores", "tf32", 5e12),
        ("float32", "tensor_cores", "tf32x3", 5e12 / 3),
    ],
)
def test_products_go_at_the_rate_of_their_unit(dtype, unit, precision, rate):
    found = gpu_estimate((1e9, unit, 0, 1), problem_of(dtype), precision, ROUND)
    assert dict(found.parts)["products"] == pytest.approx(1e9 / rate)


def test_arithmetic_and_memory_overlap_and_launches_do_not():
    problem = problem_of()
    operands = (2 * 64 * 32 * 32 + 64 * 64 * 9 / 8) * 4
    for counted in ((0, "cuda_cores", 1e6, 2), (1e9, "cuda_cores", 1e6, 2)):
        found = gpu_estimate(counted, problem, "ieee", ROUND)
        parts = dict(found.parts)
        assert parts["memory"] == pytest.approx((operands + 1e6) / 1e12)
        assert parts["launches"] == pytest.approx(2 * 8e-6 / 8)
        longer = max(parts["memory"], parts["products"])
        assert found.seconds == pytest.approx(longer + parts["launches"])


def test_a_gpu_without_rates_has_those_of_the_one_before():
    assert gpu_rates(90) is GPUS[90]
    assert gpu_rates(87) is GPUS[86]
    assert gpu_rates(120) is GPUS[90]
    assert gpu_rates(70) is GPUS[75]


def test_estimates_do_not_depend_on_the_batch(emulated):
    """Else an image's bits would."""
    for algo in ("direct", "im2col", "implicit_gemm"):
        found = []
        for batch in (1, 8, 100):
            with cuconv.use_backend("emulated", flavour=emulated.options()["flavour"]):
                shapes = (batch, 16, 20, 20), (32, 16, 3, 3)
                listed = cuconv.algorithms(*shapes, "float32", device="cpu")
            found.append(next(c for c in listed if c.algo == algo))
        assert len({(c.variant, c.cost) for c in found}) == 1


def test_transforms_are_for_much_work():
    large = problem_of()
    small = replace(large, output=(1, 4, 4))
    assert _rules.multiply_adds(large) == 64 * 64 * 9 * 1024
    for family in ("winograd", "fft"):
        assert not_for_auto(family, large) == ""
        assert str(_rules.WORTH_TRANSFORMS) in not_for_auto(family, small)
    for family in ("direct", "im2col", "implicit_gemm"):
        assert not_for_auto(family, small) == ""
