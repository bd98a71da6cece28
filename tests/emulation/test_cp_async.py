"""Asynchronous copies: what they move and when, and that every misuse is named.

As in test_checkers.py each bug is switched on by an argument, and the same kernel passes without.
"""

from typing import Any

import numpy as np
import pytest

from emulation.device import ORDERS, Device
from emulation.test_checkers import Case, cases, expect_fault, switch

ARRIVALS = ["late", "eager"]
IN_FLIGHT = (
    r"byte \d+ of shared memory, where a cp_async of thread \(\d+, 0, 0\) is in flight: "
    r"no cp_async_wait of that thread has waited for it"
)
STEPS = 5
PIPELINE: dict[str, Any] = {"x": np.arange(64 * STEPS, dtype=np.float32), "stride": STEPS}


def aligned(size: int) -> np.ndarray:
    """1, 2, 3 ... at a multiple of 64 bytes."""
    room = np.zeros(size + 16, np.float32)
    start = -(room.__array_interface__["data"][0] // 4) % 16
    x = room[start : start + size]
    x[:] = np.arange(1, size + 1)
    return x


def chunks(side: str, size: int, off: int) -> Case:
    where = {"shared": {"argument": off}, "global": {"through": off}}[side]
    return Case(
        f"copy_chunks_{size}",
        {},
        where,
        rf"misaligned cp_async: its address in {side} memory lies {off} bytes off the "
        rf"{size}-byte alignment",
        {"x": aligned(64 * size // 4), "y": np.zeros(64 * size // 4, np.float32)},
    )


# Seen by the race flavour.
RACES = {
    "read without a wait": switch("copy_tile", f"reads {IN_FLIGHT}"),
    "missing barrier after the wait, copied before": Case(
        "copy_tile",
        {"argument": 0},
        {"argument": 2},
        r"thread \(1, 0, 0\) reads byte 0 of shared memory, which thread \(0, 0, 0\) wrote "
        r"with no __syncthreads or __syncwarp between: a race",
        orders=("forward",),
    ),
    "missing barrier after the wait, copied later": Case(
        "copy_tile",
        {"argument": 0},
        {"argument": 2},
        f"reads {IN_FLIGHT}",
        orders=("reverse",),
    ),
    "wait one group short": Case(
        "pipeline", {"argument": 0}, {"argument": 1}, f"reads {IN_FLIGHT}", PIPELINE
    ),
    "missing barrier before refill, read later": Case(
        "pipeline",
        {"argument": 0},
        {"argument": 2},
        f"reads {IN_FLIGHT}",
        PIPELINE,
        orders=("forward", "reverse"),
    ),
    "missing barrier before refill, read before": Case(
        "copy_after_read",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) writes byte 0 of shared memory, which thread \(\d+, 0, 0\) read "
        r"with no __syncthreads between: a race",
        orders=("forward",),
    ),
    "own read before the wait": switch("touch_in_flight", f"reads {IN_FLIGHT}"),
    "own write before the wait": Case(
        "touch_in_flight", {"argument": 0}, {"argument": 2}, f"writes {IN_FLIGHT}"
    ),
    "second copy before the wait": Case(
        "touch_in_flight", {"argument": 0}, {"argument": 3}, f"writes {IN_FLIGHT}"
    ),
    "zeros before the wait": Case(
        "touch_in_flight", {"argument": 0}, {"argument": 4}, f"writes {IN_FLIGHT}"
    ),
    "copy in no group": switch("copy_without_group", f"reads {IN_FLIGHT}"),
    "source past the end": switch(
        "copy_edge",
        r"thread \(63, 0, 0\) reads out of bounds: 4 bytes at 0 bytes past the end of 'x'",
    ),
    "target past shared memory": Case(
        "copy_past_shared",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) writes out of bounds: 4 bytes at offset 256 of 256 bytes of shared",
        {"shared_bytes": 256},
    ),
    "source that nothing has written": Case(
        "copy_fresh",
        {"argument": 0},
        {"argument": 1},
        r"reads element \[\d+\] of 'workspace', which nothing has written: uninitialised",
        {"through": "workspace"},
    ),
    "source without a barrier": Case(
        "copy_fresh",
        {"argument": 0},
        {"argument": 2},
        r"thread \(1, 0, 0\) reads element \[0\] of 'workspace', which thread \(0, 0, 0\) wrote",
        {"through": "workspace"},
        orders=("forward",),
    ),
}
# Seen by every flavour.
ADDRESSES = {
    **{
        f"{size} bytes, {side} address {off} off": chunks(side, size, off)
        for size, off in [(4, 2), (8, 4), (16, 8)]
        for side in ("shared", "global")
    },
    "target in global memory": switch(
        "copy_between_spaces", "cp_async to an address that is not in shared memory"
    ),
    "source in shared memory": Case(
        "copy_between_spaces",
        {"argument": 0},
        {"argument": 2},
        "cp_async from an address that is not in global memory",
    ),
}
ALL = {**RACES, **ADDRESSES}


@pytest.mark.parametrize("arrival", ARRIVALS)
@cases(RACES)
def test_race_flavour_names_the_bug(race, case, order, arrival):
    expect_fault(race, case, order, arrival)


@pytest.mark.parametrize("arrival", ARRIVALS)
@cases(ADDRESSES)
def test_wrong_addresses_are_named_in_every_flavour(device, case, order, arrival):
    expect_fault(device, case, order, arrival)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ALL)
def test_the_same_kernel_without_its_bug_passes(device, name, order, arrival):
    case = ALL[name]
    y = device.run(case.kernel, order=order, arrival=arrival, **case.size, **case.clean)
    assert not np.isnan(y).any()


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
def test_bytes_in_flight_at_a_fault_are_forgotten(race, order, arrival):
    """The next launch finds shared memory uninitialised, not in flight."""
    for _ in range(2):
        expect_fault(race, RACES["read without a wait"], order, arrival)
        with pytest.raises(race.emulation.EmulationError, match="uninitialised"):
            race.run("read_back", argument=0, order=order)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_pipeline_moves_the_right_bytes(device, steps, order, arrival):
    x = np.arange(64 * steps, dtype=np.float32)
    y = device.run("pipeline", x, order=order, arrival=arrival, stride=steps)
    assert y.tolist() == x.reshape(steps, 64)[:, ::-1].ravel().tolist()


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("size", [4, 8, 16])
def test_copies_of_every_size(device, size, arrival):
    x = aligned(64 * size // 4)
    assert device.run(f"copy_chunks_{size}", x, arrival=arrival).tolist() == x.tolist()


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_what_is_not_copied_is_zero(device, arrival):
    """Beside the guard that lies after x: a read there is named above."""
    y = device.run("copy_edge", arrival=arrival)
    assert y.tolist() == [*range(2, 65), 0]


@pytest.mark.parametrize(("kernel", "fault"), [("copy_tile", 1), ("copy_without_group", 1)])
def test_without_a_wait_the_result_depends_on_the_arrival(plain: Device, kernel, fault):
    """In this order each thread reads before the one that copies for it exits."""
    late = plain.run(kernel, argument=fault, order="reverse", arrival="late")
    eager = plain.run(kernel, argument=fault, order="reverse", arrival="eager")
    assert np.isnan(late).all()
    assert eager.tolist() == plain.run(kernel, argument=0).tolist()


def test_a_wait_one_group_short_gives_wrong_results_late(plain):
    right = plain.run("pipeline", argument=0, **PIPELINE)
    assert (plain.run("pipeline", argument=1, arrival="eager", **PIPELINE) == right).all()
    assert (plain.run("pipeline", argument=1, arrival="late", **PIPELINE) != right).all()
