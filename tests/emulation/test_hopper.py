"""mbarriers, TMA copies and wgmma: what they compute, and that every misuse is named.

As in test_checkers.py each bug is switched on by an argument, and the same kernel passes without.
"""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from emulation.device import ORDERS, Device
from emulation.test_checkers import Case, cases, expect_fault
from emulation.test_cp_async import ARRIVALS, aligned
from tma_model import Im2col, swizzled

STEPS = 5
LINES = 32  # of a stage, 128 bytes each
A, B, FLOATS = 64, 128, 32  # lines of a product's operands, and floats in each


def ring(fault: int, message: str, **changes: Any) -> Case:
    x = aligned(STEPS * LINES * FLOATS)
    size = {"x": x, "y": np.zeros_like(x), "threads": 64, "stride": STEPS, "shared_bytes": 8232}
    return Case("ring", {"argument": 0}, {"argument": fault}, message, size, **changes)


def product(fault: int, message: str, **changes: Any) -> Case:
    x = aligned((A + B) * FLOATS)
    size = {"x": x, "y": np.zeros(128 * 64, np.float32), "threads": 128, "shared_bytes": 24584}
    return Case("product_tf32", {"argument": 0}, {"argument": fault}, message, size, **changes)


BAR = r"the mbarrier at byte \d+ of shared memory"
COPY = rf"a TMA copy that reports to {BAR}"
IN_FLIGHT = rf"byte \d+ of shared memory, where {COPY} is in flight: nobody has waited"
# Of bytes that a copy has brought or is to bring, depending on the order.
TOUCHED = (
    rf"({IN_FLIGHT}|which {COPY} wrote with no mbarrier_wait between: a race"
    r"|nothing has written: uninitialised)"
)

# Seen by the race flavour.
RACES = {
    "no wait for a stage": ring(1, TOUCHED),
    "wrong parity of a stage": ring(
        2, rf"{TOUCHED}|deadlock at an mbarrier: .*for phase 1 of {BAR}, which is in phase 1"
    ),
    "another stage than the one waited for": ring(14, TOUCHED),
    "refilled without a wait": ring(
        5,
        rf"writes byte \d+ of shared memory, ({IN_FLIGHT[len('byte 0 of shared memory, ') :]}"
        rf"|which thread \(\d+, 0, 0\) read with no __syncthreads between: a race"
        rf"|which {COPY} wrote with no mbarrier_wait)|where {COPY} is in flight"
        r"|mbarrier_arrive_expect once more than the 1 arrivals of a phase",
    ),
    "released before it was read": ring(
        15,
        rf"({IN_FLIGHT}|which thread \(\d+, 0, 0\) read with no __syncthreads between: a race"
        rf"|which {COPY} wrote with no mbarrier_wait)",
    ),
    "no barrier after mbarrier_init": ring(
        7,
        r"where no mbarrier has been initialised"
        r"|which thread \(0, 0, 0\) wrote with no __syncthreads between: a race",
    ),
    "product before the copy has come": product(4, TOUCHED),
    "refilled under a product": product(
        5,
        r"writes byte \d+ of shared memory, which a wgmma of threads 0 to 127 read "
        r"with no wgmma_wait between: a race",
    ),
}
# Seen by every flavour.
MISUSE = {
    "too many bytes expected": ring(
        3,
        r"deadlock at an mbarrier: threads? .*wait at mbarrier_wait \(hopper.cu:\d+, for phase 0 "
        rf"of {BAR}, which is in phase 0: 0 of 1 arrivals and 16 bytes are to come\)",
    ),
    "too few bytes expected": ring(4, r"0 of 1 arrivals and -16 bytes are to come"),
    "more bytes expected than an mbarrier counts": ring(
        16, rf"1048576 bytes are to come at {BAR}, which counts to 1048575 either way"
    ),
    "no fence after mbarrier_init": ring(
        6,
        rf"a TMA copy reports to {BAR}, which thread \(0, 0, 0\) has initialised with no "
        r"fence_mbarrier_init after it",
    ),
    "an arrival too many": ring(
        8, rf"mbarrier_arrive once more than the 1 arrivals of a phase, at {BAR}"
    ),
    "misaligned target": ring(
        9, r"misaligned TMA copy: its target at byte 64 of shared memory is no multiple of 128"
    ),
    "block that ends under a copy": ring(
        10, r"deadlock at an mbarrier|the block ends while a TMA copy into it is in flight"
    ),
    "mbarrier that was not initialised": ring(
        11, r"at byte \d+ of shared memory, where no mbarrier has been initialised"
    ),
    "another place than the mbarrier": ring(
        12, r"mbarrier_arrive_expect at byte 8224 of shared memory, where no mbarrier has been"
    ),
    "another kind of map": ring(
        13, r"a TMA copy in 3 dimensions, im2col, by a tensor map of 5, tiled"
    ),
    "no wgmma_fence": product(1, r"wgmma on sums .* with no wgmma_fence since"),
    "no wgmma_wait": product(2, r"exits before wgmma_wait has waited for its warpgroup's last"),
    "sum written under a product": product(
        3,
        r"thread \(70, 0, 0\): register 5 of the sums was written while a wgmma was adding to it",
    ),
    "sum written after wgmma_fence": product(
        11, r"thread \(70, 0, 0\): register 5 of the sums was written after wgmma_fence"
    ),
    "layout that is not emulated": product(6, r"wgmma by a descriptor of a layout"),
    "operands that differ": product(
        7, r"thread \(100, 0, 0\): wgmma with operands that are not those of the warpgroup's first"
    ),
    "half a warpgroup": product(
        8,
        r"operation that part of a warpgroup never reaches: threads 0 to 63 wait at wgmma_fence "
        r"\(hopper.cu:\d+\); threads 64 to 127 have exited",
    ),
    "operand past the end": product(10, r"operand that reaches past the end of shared memory"),
}
ALL = {**RACES, **MISUSE}


@pytest.mark.parametrize("arrival", ARRIVALS)
@cases(RACES)
def test_race_flavour_names_the_bug(race, case, order, arrival):
    expect_fault(race, case, order, arrival)


@pytest.mark.parametrize("arrival", ARRIVALS)
@cases(MISUSE)
def test_misuse_is_named_in_every_flavour(device, case, order, arrival):
    expect_fault(device, case, order, arrival)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
def test_ring_moves_the_right_bytes(device, order, arrival):
    case = RACES["no wait for a stage"]
    y = device.run("ring", order=order, arrival=arrival, argument=0, **case.size)
    np.testing.assert_array_equal(y, case.size["x"])


def test_sums_are_nan_until_waited_for(plain: Device):
    case = product(9, "")
    for arrival in ARRIVALS:
        y = plain.run("product_tf32", arrival=arrival, argument=9, **case.size)
        assert np.isnan(y[0])


def test_a_warpgroup_with_too_few_threads_is_named(device):
    size = {**MISUSE["half a warpgroup"].size, "threads": 96}
    with pytest.raises(device.emulation.EmulationError, match="this warpgroup has only 96"):
        device.run("product_tf32", argument=0, **size)


# ---- products ----

DTYPES = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16, "tf32": np.float32}


def sum_place(thread: int, i: int) -> tuple[int, int]:
    """Of register i of a thread: (row, column), as the PTX ISA has it."""
    row = thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8
    return row, i // 4 * 8 + thread % 4 * 2 + i % 2


def multiply(
    device: Device,
    name: str,
    a: np.ndarray,
    b: np.ndarray,
    place: Any,
    kernel: str = "product",
    **run: Any,
) -> np.ndarray:
    """2 A B' by "product", which goes over its operands twice."""
    x = aligned((A + B) * FLOATS)
    x[:] = np.concatenate([a, b]).astype(DTYPES[name]).view(np.float32).ravel()
    y = np.zeros((128, 64), np.float32)
    device.run(f"{kernel}_{name}", x, y, threads=128, shared_bytes=24584, argument=0, **run)
    result = np.full((A, B), np.nan, np.float32)
    for thread in range(128):
        for i in range(64):
            result[place(thread, i)] = y[thread, i]
    return result


def operands(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    depth = 32 if name == "tf32" else 64
    random = np.random.default_rng(seed)
    return random.integers(-8, 9, (A, depth)), random.integers(-8, 9, (B, depth))


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", DTYPES)
def test_products_of_small_integers_are_exact(device, name, order, arrival):
    a, b = operands(name, 1)
    got = multiply(device, name, a, b, sum_place, order=order, arrival=arrival)
    np.testing.assert_array_equal(got, 2 * a @ b.T)


def by_k(b: np.ndarray) -> np.ndarray:
    """Rows of A (64), columns of B (128) as lines of 64: 64 k of the first, then of the others."""
    return np.concatenate([np.ascontiguousarray(part.T) for part in np.split(b, len(b) // 64)])


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["half", "bfloat16"])
def test_products_of_operands_by_k(device, name, both, arrival):
    a, b = operands(name, 2)
    left, kernel = (by_k(a), "product_both_by_k") if both else (a, "product_by_k")
    got = multiply(device, name, left, by_k(b), sum_place, kernel=kernel, arrival=arrival)
    np.testing.assert_array_equal(got, a @ b.T)


# ---- im2col copies ----


class Image:
    """An im2col map of a tensor (N, spatial axes, C) of 16 bits, and copies by it."""

    def __init__(self, x: np.ndarray, copy: Im2col) -> None:
        self.x, self.copy = x, copy
        self.rank = x.ndim

    def described(self, device: Device, address: int, **changes: Any) -> Any:
        width_first = slice(None, None, -1)
        strides = [s if n > 1 else 16 for n, s in zip(self.x.shape, self.x.strides, strict=True)]
        described: dict[str, Any] = {
            "data_type": 6,
            "rank": self.rank,
            "x": address,
            "dims": list(self.x.shape[width_first]),
            "strides": strides[-2::-1],
            "lower": list(self.copy.lower[width_first]),
            "upper": list(self.copy.upper[width_first]),
            "channels": self.copy.channels,
            "pixels": self.copy.pixels,
            "steps": [1, *self.copy.step[width_first], 1],
        }
        return device.module.ImageMap(**{**described, **changes})

    def load(self, device: Device, at: list[int], offset: list[int], **schedule: Any) -> np.ndarray:
        y = np.zeros(self.copy.pixels * self.copy.channels, np.float16)
        settings = {"order": "forward", "seed": 1, "arrival": "late", **schedule}
        device.emulation.reset()
        device.emulation.configure(settings["order"], settings["seed"], settings["arrival"])
        try:
            x_address = device.place("input", self.x, "x")
            y_address = device.place("output", y, "y")
            device.module.copy_image(self.described(device, x_address), y_address, at, offset)
            device.collect(y_address, y, "y")
        finally:
            device.emulation.reset()
        return y


def drawn_image(seed: int) -> tuple[Image, list[int], list[int]]:
    """(image, coordinates, offsets) of one copy."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 4))
    shape = [int(rng.integers(1, 4)), *(int(n) for n in rng.integers(1, 9, axes))]
    channels = 8 * int(rng.integers(1, 13))
    room = aligned(int(np.prod(shape)) * channels // 2).view(np.float16)
    x = room.reshape(*shape, channels)
    x[...] = rng.integers(1, 1000, x.shape)
    lower = tuple(int(n) for n in rng.integers(-6, 4, axes))
    upper = tuple(
        int(rng.integers(max(-8, low - n + 1), 7)) for low, n in zip(lower, shape[1:], strict=True)
    )
    step = tuple(int(n) for n in rng.integers(1, 5, axes))
    copy = Im2col(lower, upper, step, 64, int(rng.integers(1, 40)))
    start = [
        int(low + s * rng.integers(count))
        for low, s, count in zip(lower, step, copy.positions(x), strict=True)
    ]
    offset = [int(n) for n in rng.integers(0, 10, axes)]
    at = [8 * int(rng.integers(0, 12)), *start[::-1], int(rng.integers(shape[0]))]
    return Image(x, copy), at, offset


def test_im2col_copies_bring_what_the_model_says(race):
    ranks = set()
    for seed in range(150):
        image, at, offset = drawn_image(seed)
        schedule = {"order": ORDERS[seed % 4], "arrival": ARRIVALS[seed % 2]}
        got = image.load(race, at, offset[::-1], **schedule)
        want = image.copy.column(image.x, at[0], tuple(at[-2:0:-1]), at[-1], tuple(offset))
        np.testing.assert_array_equal(got.view(np.uint8), swizzled(want).ravel())
        ranks.add(image.rank)
    assert ranks == {3, 4, 5}


@pytest.mark.parametrize(
    ("at", "offset", "message"),
    [
        ([0, -3, 0, 0], [0, 0], r"im2col coordinate -3 of dimension 1 is outside of the bounding"),
        ([0, 0, 9, 0], [0, 0], r"im2col coordinate 9 of dimension 2 is outside of the bounding"),
        ([0, 0, 0, 0], [0, 256], r"an im2col offset of 256: in 4 dimensions it is 255 at the most"),
    ],
)
def test_wrong_positions_are_named(device, at, offset, message):
    x = aligned(8 * 8 * 32).view(np.float16).reshape(1, 8, 8, 64)
    image = Image(x, Im2col((-1, -2), (0, 0), (1, 1), 64, 8))
    with pytest.raises(device.emulation.EmulationError, match=message):
        image.load(device, at, offset)


# ---- the limits of cuTensorMapEncodeIm2col, as it is documented ----

BROKEN_LIMITS = {
    "rank": {"rank": 2},
    "type": {"data_type": 20},
    "address": {"x": 1 << 20 | 8},
    "size of zero": {"dims": [64, 0, 8, 1]},
    "size": {"dims": [64, (1 << 32) + 1, 8, 1]},
    "stride not of 16 bytes": {"strides": [136, 1088, 8192]},
    "stride": {"strides": [128, 1024, 1 << 40]},
    "lower corner": {"lower": [-129, 0]},
    "upper corner": {"upper": [0, 128]},
    "empty box": {"lower": [8, 0]},
    "channels": {"channels": 0},
    "channels past the swizzle": {"channels": 72},
    "pixels": {"pixels": 1025},
    "step of zero": {"steps": [1, 0, 1, 1]},
    "step": {"steps": [1, 1, 9, 1]},
    "fill": {"fill": 1},
}


def test_the_encoder_takes_what_is_at_the_limits(plain):
    x = np.zeros((1, 8, 8, 64), np.float16)
    image = Image(x, Im2col((-128, -1), (127, 0), (8, 1), 64, 1024))
    assert plain.module.encode_image(image.described(plain, 1 << 20)) == 0
    wide = {"dims": [64, 1 << 32, 8, 1], "strides": [128, (1 << 40) - 16, 16]}
    assert plain.module.encode_image(image.described(plain, 1 << 20, **wide)) == 0


@pytest.mark.parametrize("limit", BROKEN_LIMITS)
def test_the_encoder_refuses_what_is_past_a_limit(plain, limit):
    x = np.zeros((1, 8, 8, 64), np.float16)
    image = Image(x, Im2col((-1, -1), (0, 0), (1, 1), 64, 128))
    assert plain.module.encode_image(image.described(plain, 1 << 20)) == 0
    broken = image.described(plain, BROKEN_LIMITS[limit].get("x", 1 << 20))
    described = {name: value for name, value in BROKEN_LIMITS[limit].items() if name != "x"}
    broken = image.described(plain, BROKEN_LIMITS[limit].get("x", 1 << 20), **described)
    assert plain.module.encode_image(broken) == 1
