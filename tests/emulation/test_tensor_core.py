"""ldmatrix, mma and round_to_tf32: what they compute, and that every misuse is named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from emulation.device import ORDERS, Device
from emulation.test_checkers import Case, cases, expect_fault, switch
from emulation.test_cp_async import IN_FLIGHT, aligned

LANES = 32
M, N = 16, 8


# ---- fragments: who holds which element ----

# (lane, i) -> (row, column) of the i-th element, counted through a lane's registers; for B (k, n).
# As the PTX ISA has it, in the section on each shape of mma.
Place = Callable[[int, int], tuple[int, int]]


def a_pairs(lane: int, i: int) -> tuple[int, int]:
    return lane // 4 + 8 * (i // 2 % 2), lane % 4 * 2 + i % 2 + 8 * (i // 4)


def b_pairs(lane: int, i: int) -> tuple[int, int]:
    return lane % 4 * 2 + i % 2 + 8 * (i // 2), lane // 4


def a_tf32(lane: int, i: int) -> tuple[int, int]:
    return lane // 4 + 8 * (i % 2), lane % 4 + 4 * (i // 2)


def b_tf32(lane: int, i: int) -> tuple[int, int]:
    return lane % 4 + 4 * i, lane // 4


def c_pairs(lane: int, i: int) -> tuple[int, int]:
    return lane // 4 + 8 * (i // 2), lane % 4 * 2 + i % 2


@dataclass(frozen=True)
class Product:
    depth: int
    dtype: Any  # of an element as it lies in a register
    a: Place
    b: Place
    c: Place = c_pairs


PRODUCTS = {
    "half_k8": Product(8, np.float16, a_pairs, b_pairs),
    "half_k16": Product(16, np.float16, a_pairs, b_pairs),
    "bfloat16_k16": Product(16, ml_dtypes.bfloat16, a_pairs, b_pairs),
    "tf32_k8": Product(8, np.float32, a_tf32, b_tf32),
}
FRAGMENTS = np.dtype([("a", np.uint32, 4), ("b", np.uint32, 2), ("sum", np.float32, 4)])


def fragment(matrix: np.ndarray, place: Place, dtype: Any, registers: int) -> np.ndarray:
    """A matrix of 16 by K or K by 8 as the lanes hold it: (lane, register)."""
    count = matrix.size // LANES
    held = [[matrix[place(lane, i)] for i in range(count)] for lane in range(LANES)]
    words = np.ascontiguousarray(np.array(held, dtype)).view(np.uint32)
    return np.pad(words, ((0, 0), (0, registers - words.shape[1])))


def multiply(
    device: Device,
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    product: Product | None = None,
    **run: Any,
) -> np.ndarray:
    product = product or PRODUCTS[name]
    x = np.zeros(LANES, FRAGMENTS)
    x["a"] = fragment(a, product.a, product.dtype, 4)
    x["b"] = fragment(b, product.b, product.dtype, 2)
    x["sum"] = [[c[product.c(lane, i)] for i in range(4)] for lane in range(LANES)]
    y = np.zeros((LANES, 4), np.float32)
    device.run(name, x, y, threads=LANES, stride=1, **run)
    result = np.full((M, N), np.nan, np.float32)
    for lane in range(LANES):
        for i in range(4):
            result[product.c(lane, i)] = y[lane, i]
    return result


def small_integers(depth: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return tuple(
        random.integers(-8, 9, shape).astype(np.float32)
        for shape in [(M, depth), (depth, N), (M, N)]
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_small_integers_are_exact(device, name, order):
    for seed in range(3):
        a, b, c = small_integers(PRODUCTS[name].depth, seed)
        np.testing.assert_array_equal(multiply(device, name, a, b, c, order=order), a @ b + c)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_fused_multiply_adds_in_order(device, name):
    """Sums in float after every step; float64 holds each product, and rounds once to float32."""
    product = PRODUCTS[name]
    random = np.random.default_rng(5)
    shapes = [(M, product.depth), (product.depth, N), (M, N)]
    a, b, c = (random.standard_normal(shape).astype(product.dtype) for shape in shapes)
    c = c.astype(np.float32)
    kept = -1 << 13 if name.startswith("tf32") else -1
    wide_a, wide_b = (
        (np.ascontiguousarray(v, np.float32).view(np.int32) & kept)
        .view(np.float32)
        .astype(np.float64)
        for v in (a, b)
    )
    expected = c
    for k in range(product.depth):
        expected = (wide_a[:, k, None] * wide_b[None, k] + expected).astype(np.float32)
    np.testing.assert_array_equal(multiply(device, name, a, b, c), expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_kind_of_number_goes_into_a_product(device, name):
    """One times each: denormals, the largest, infinities, NaN, both signs."""
    product = PRODUCTS[name]
    info = ml_dtypes.finfo(product.dtype)
    numbers = [info.tiny, info.max, 0.0, 1.5, np.inf, np.nan, info.eps]
    if name == "tf32_k8":
        numbers += [np.float32(3 * 2.0**-136), np.float32(2.0**-127)]
        numbers[1] = (1 - 2.0**-11) * 2.0**128  # tf32 drops the lower bits of float's largest
    else:
        numbers += [info.smallest_subnormal, 3 * np.float32(info.smallest_subnormal)]
    a = np.zeros((M, product.depth), product.dtype)
    a[: len(numbers), 0] = numbers
    a[len(numbers) :, 0] = -np.array(numbers[: M - len(numbers)], product.dtype)
    b = np.zeros((product.depth, N), product.dtype)
    b[0] = 1
    y = multiply(device, name, a, b, np.zeros((M, N), np.float32))
    np.testing.assert_array_equal(y, np.repeat(a[:, :1].astype(np.float32), N, axis=1))


def test_lower_bits_of_tf32_operands_are_ignored(device):
    a, b, c = small_integers(8, 1)
    noise = np.random.default_rng(2).integers(0, 1 << 13, a.shape, np.uint32)
    noisy_a = (a.view(np.uint32) | noise).view(np.float32)
    noisy_b = (b.view(np.uint32) | noise[:8, :8]).view(np.float32)
    noisy_a[a == 0] = 0  # else a denormal that tf32 has not
    noisy_b[b == 0] = 0
    np.testing.assert_array_equal(multiply(device, "tf32_k8", noisy_a, noisy_b, c), a @ b + c)


# ---- ldmatrix ----


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [32, 96])
@pytest.mark.parametrize("kernel", ["load_rows", "load_rows_trans"])
def test_ldmatrix(device, kernel, threads, order):
    # (warp, matrix, row, column), every element another
    x = aligned(4 * threads).view(np.uint16)
    x[:] = np.random.default_rng(3).permutation(x.size)
    matrices = x.reshape(threads // LANES, 4, 8, 8)
    if kernel == "load_rows_trans":
        matrices = matrices.swapaxes(2, 3)
    y = np.zeros((threads // LANES, LANES, 4, 2), np.uint16)
    device.run(kernel, x.view(np.uint32), y.view(np.uint32)[..., 0], threads=threads, order=order)
    # Lane 4g + t holds columns 2t, 2t + 1 of row g.
    held = matrices.reshape(-1, 4, 8, 4, 2).transpose(0, 2, 3, 1, 4).reshape(y.shape)
    np.testing.assert_array_equal(y, held)


# ---- round_to_tf32 ----


def to_tf32(x: np.ndarray) -> np.ndarray:
    """To 11 significant bits, or to multiples of 2**-136 below the normal range; ties away."""
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)  # signalling NaN among them
    _, exponent = np.frexp(wide)  # |x| in [2**(e-1), 2**e)
    unit = np.ldexp(1.0, np.maximum(exponent - 11, -136))
    rounded = np.copysign(np.floor(np.abs(wide) / unit + 0.5) * unit, wide)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(wide), rounded, wide).astype(np.float32)


def test_round_to_tf32(device):
    random = np.random.default_rng(4)
    bits = [
        random.integers(0, 1 << 32, 20000, np.uint32),
        random.integers(0, 1 << 19, 2000, np.uint32) << 13 | 0x1000,  # ties
        random.integers(0, 1 << 23, 2000, np.uint32),  # denormals
        np.arange(0x1000 - 2, 0x1000 + 3, dtype=np.uint32),
        np.float32([0, -0.0, np.inf, -np.inf, np.finfo(np.float32).max]).view(np.uint32),
        np.uint32([0x7F800001, 0x7FFFFFFF, 0xFF801000, 0xFFFFFFFF]),  # NaN, of any payload
    ]
    x = np.concatenate(bits)
    x = np.concatenate([x, x ^ np.uint32(1 << 31)]).view(np.float32)
    for part in np.array_split(x, x.size // 1024 + 1):
        y = np.zeros(part.size, np.float32)
        device.run("round_floats", part.copy(), y, threads=part.size)
        np.testing.assert_array_equal(y, to_tf32(part))
        assert (y.view(np.uint32) & 0x1FFF == 0).all()
        number = ~np.isnan(part)
        np.testing.assert_array_equal(np.signbit(y[number]), np.signbit(part[number]))


# ---- misuse ----

ROWS: dict[str, Any] = {"x": aligned(4 * LANES), "y": np.zeros(4 * LANES, np.float32)}
ROWS["threads"] = LANES
PRODUCT: dict[str, Any] = {
    "x": np.zeros(LANES, FRAGMENTS),
    "y": np.zeros((LANES, 4), np.float32),
    "threads": LANES,
}


def load_case(fault: int, message: str, *, trans: bool = False) -> Case:
    name = "load_rows_trans" if trans else "load_rows"
    return Case(name, {"argument": 0}, {"argument": fault}, message, ROWS)


def half_warp(operation: str) -> str:
    return (
        r"warp operation that part of a warp never reaches: "
        rf"threads 0 to 15 wait at {operation} \(tensor_core.cu:\d+\); threads 16 to 31 have"
    )


EVERY_FLAVOUR = {
    **{
        f"{name} by half a warp": switch(name, half_warp(operation), size=PRODUCT)
        for name, operation in [
            ("half_k8", "mma_m16n8k8"),
            ("half_k16", "mma_m16n8k16"),
            ("bfloat16_k16", "mma_m16n8k16"),
            ("tf32_k8", "mma_m16n8k8_tf32"),
        ]
    },
    "ldmatrix by half a warp": load_case(1, half_warp("ldmatrix_x4")),
    "ldmatrix.trans by half a warp": load_case(1, half_warp("ldmatrix_x4_trans"), trans=True),
    "misaligned row": load_case(
        4,
        r"thread \(5, 0, 0\): misaligned ldmatrix_x4: its row at byte 84 of shared memory lies "
        r"4 bytes off the 16-byte alignment that it needs",
    ),
    "misaligned row, trans": load_case(
        4, r"thread \(5, 0, 0\): misaligned ldmatrix_x4_trans: its row at byte 84", trans=True
    ),
    "row in global memory": load_case(
        5, r"thread \(5, 0, 0\): ldmatrix_x4 of a row that is not in shared memory"
    ),
}
RACE_FLAVOUR = {
    "missing __syncwarp before ldmatrix": load_case(
        2,
        r"reads byte \d+ of shared memory, which thread \(\d+, 0, 0\) wrote "
        r"with no __syncthreads or __syncwarp between: a race",
    ),
    "missing __syncwarp before ldmatrix.trans": load_case(
        2, r"reads byte \d+ of shared memory, which thread \(\d+, 0, 0\) wrote", trans=True
    ),
    "ldmatrix of bytes in flight": load_case(3, f"reads {IN_FLIGHT}"),
    "row past shared memory": load_case(
        6, r"thread \(20, 0, 0\) reads out of bounds: 4 bytes at offset 16464 of 4096 bytes"
    ),
    "write after ldmatrix of another warp": Case(
        "write_after_load",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) writes byte 0 of shared memory, which thread \(0, 0, 0\) read "
        r"with no __syncthreads between: a race",
        {"x": aligned(4 * LANES), "y": np.zeros(4 * 64, np.float32)},
        orders=("forward",),
    ),
}
ALL = {**EVERY_FLAVOUR, **RACE_FLAVOUR}


@cases(EVERY_FLAVOUR)
def test_misuse_is_named_in_every_flavour(device, case, order):
    expect_fault(device, case, order)


@cases(RACE_FLAVOUR)
def test_race_flavour_names_the_bug(race, case, order):
    expect_fault(race, case, order)


@cases(ALL)
def test_the_same_kernel_without_its_bug_passes(device, case, order):
    y = device.run(case.kernel, order=order, **case.size, **case.clean)
    assert not np.isnan(y).any()


@pytest.mark.parametrize(
    ("kernel", "operation"), [("half_k16", "mma_m16n8k16"), ("load_rows", "ldmatrix_x4")]
)
def test_a_warp_with_too_few_threads_is_named(device, kernel, operation):
    size = {**(PRODUCT if kernel == "half_k16" else ROWS), "threads": 16}
    size["argument"] = (
        0 if kernel == "half_k16" else 2
    )  # no __syncwarp before, which would tell first
    message = f"{operation} is done by 32 threads, but this warp has only 16"
    with pytest.raises(device.emulation.EmulationError, match=message):
        device.run(kernel, **size)
