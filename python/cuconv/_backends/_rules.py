"""How a backend chooses among the algorithms that can do a problem, on CPU and GPU alike.

Every candidate's *work* is counted: on a GPU by the launchers (`Work` in csrc/launch/registry.h),
on the CPU by `_cpu/cost.py`. A device has a *rate* for each kind of work. The *estimate* is their
product, part by part. The least one wins, but for those that `not_for_auto` names.
docs/choosing.md has the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cuconv._problem import ConvProblem

TRANSFORMS = ("winograd", "fft")
WORTH_TRANSFORMS = 1 << 22  # multiply-adds
NOMINAL_BATCH = 8  # of nobody in particular: the true one must not change an image's bits


@dataclass(frozen=True, slots=True)
class Estimate:
    seconds: float
    parts: tuple[tuple[str, float], ...]  # what for, and seconds; on a GPU they overlap


def multiply_adds(problem: ConvProblem) -> int:
    channels = problem.in_channels // problem.groups * problem.out_channels
    return problem.batch * channels * math.prod(problem.output) * math.prod(problem.kernel)


def not_for_auto(family: str, problem: ConvProblem) -> str:
    """Why "auto" leaves a family that could do the problem alone; empty if it does not.

    Transforms mix neighbours: an error, or a NaN, of one reaches others. Where there is little to
    win that is let be, so that small problems are exact on integers.
    """
    if family in TRANSFORMS and multiply_adds(problem) < WORTH_TRANSFORMS:
        return f"for {WORTH_TRANSFORMS} multiply-adds and more, unless asked for by name"
    return ""


# ---- GPUs ----


def not_for_auto_on_gpu(family: str, problem: ConvProblem, precision: str) -> str:
    """The same of one image, since the batch must not decide. Winograd is for exact float32 alone:
    16-bit dtypes and tf32 have tensor cores, and who takes float64 wants its digits. FFT is not for
    16 bits, which it computes in float32 beside those tensor cores."""
    exact_float32 = problem.dtype.name == "float32" and precision == "ieee"
    if family == "winograd" and not exact_float32:
        return 'for float32 with precision="ieee", unless asked for by name'
    if family == "fft" and problem.dtype.itemsize == 2:
        return "for dtypes of 32 bits and more, unless asked for by name"
    return not_for_auto(family, replace(problem, batch=1))


@dataclass(frozen=True, slots=True)
class GpuRates:
    """Of the largest GPU of a compute capability, by its data sheet: nothing was measured yet."""

    float32: float  # multiply-adds a second, on CUDA cores
    float64: float
    half: float  # on tensor cores, float16 and bfloat16
    tf32: float
    bandwidth: float  # bytes a second
    launch: float = 2.5e-6  # seconds


GPUS = {
    75: GpuRates(4.05e12, 0.13e12, 32.5e12, 0.01e12, 0.32e12),  # T4
    80: GpuRates(9.75e12, 4.85e12, 156e12, 78e12, 2.04e12),  # A100 80 GB
    86: GpuRates(17.8e12, 0.28e12, 35.5e12, 17.8e12, 0.94e12),  # GeForce RTX 3090
    89: GpuRates(41.3e12, 0.65e12, 82.5e12, 41.3e12, 1.01e12),  # GeForce RTX 4090
    90: GpuRates(33.5e12, 17.0e12, 495e12, 247e12, 3.35e12),  # H100 SXM
}


def gpu_rates(capability: int) -> GpuRates:
    """Those of the nearest compute capability that is not above, as 10 * major + minor."""
    return GPUS[max((known for known in GPUS if known <= capability), default=min(GPUS))]


Counted = tuple[float, str, float, float]  # multiply-adds, unit, bytes of workspace, launches


def gpu_estimate(
    counted: Counted, problem: ConvProblem, precision: str, rates: GpuRates
) -> Estimate:
    """Of one image: a kernel's arithmetic and its memory overlap, launches come on top."""
    multiply_adds, unit, workspace, launches = counted
    dtype = problem.dtype
    if unit == "tensor_cores" and dtype.itemsize == 2:
        rate = rates.half
    elif unit == "tensor_cores":
        rate = rates.tf32 / (3 if precision == "tf32x3" else 1)
    else:
        part = dtype.itemsize // (2 if dtype.kind == "c" else 1)
        rate = (rates.float64 if part == 8 else rates.float32) / (4 if dtype.kind == "c" else 1)
    images = math.prod(problem.x_shape[1:]) + math.prod(problem.y_shape[1:])
    filters = math.prod(problem.w_shape)
    operands = (images + filters / NOMINAL_BATCH) * dtype.itemsize
    products = multiply_adds / rate
    memory = (operands + workspace) / rates.bandwidth
    launching = launches * rates.launch / NOMINAL_BATCH
    parts = (("products", products), ("memory", memory), ("launches", launching))
    return Estimate(max(products, memory) + launching, parts)
