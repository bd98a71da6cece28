"""Every checker is shown a kernel with the bug it is for, and names it.

Each bug is switched on by an argument. With the bug off the same compiled kernel must pass, in
every order and flavour: so the checker does not cry wolf, and the bug was really in the code.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from emulation.device import ORDERS, Device


@dataclass(frozen=True)
class Case:
    kernel: str
    clean: dict[str, Any]
    bug: dict[str, Any]
    message: str
    size: dict[str, Any] = field(default_factory=dict)
    orders: tuple[str, ...] = tuple(ORDERS)  # in which the bug must be seen


def switch(kernel: str, message: str, *, size: Any = None, orders: Any = ORDERS) -> Case:
    return Case(kernel, {"argument": 0}, {"argument": 1}, message, size or {}, tuple(orders))


TWO_BLOCKS = {"blocks": 2}
UNINITIALISED = "nothing has written: uninitialised"

# Seen by the race flavour.
RACES = {
    "missing barrier before reading": switch("reverse_block", UNINITIALISED),
    "missing barrier before refilling": switch(
        "refill",
        r"with no __syncthreads( or __syncwarp)? between: a race",
        size={"x": np.arange(128, dtype=np.float32)},
    ),
    "missing __syncwarp, other lane first": switch(
        "exchange_lanes", "with no __syncthreads or __syncwarp between: a race"
    ),
    "missing __syncwarp, other lane later": switch("swap_lanes", UNINITIALISED),
    # In these orders the write comes last, so only the reads before it can tell.
    "write after reads of its own warp": Case(
        "write_after_read",
        {"argument": 0},
        {"argument": 1},
        r"thread \(31, 0, 0\) writes byte 0 of shared memory, which thread \(30, 0, 0\) read "
        r"with no __syncthreads or __syncwarp between: a race",
        size={"threads": 32},
        orders=("forward",),
    ),
    "write after reads of another warp": Case(
        "write_after_read",
        {"argument": 0},
        {"argument": 2},
        r"thread \(63, 0, 0\) writes byte 0 of shared memory, which thread \(\d+, 0, 0\) read "
        r"with no __syncthreads between: a race",
        orders=("forward", "reverse", "shuffled"),
    ),
    "write after a read of one thread": Case(
        "write_after_read",
        {"argument": 0},
        {"argument": 1},
        r"byte 0 of shared memory, which thread \(\d+, 0, 0\) (read|wrote) with no __syncthreads",
    ),
    "missing barrier in global memory": switch("read_neighbour", "element .* of 'y', which"),
    "two threads write one element": switch(
        "write_twice", r"writes element \[\d+\] of 'y', which thread .* wrote with no __sync"
    ),
    "two threads write one place in shared memory": switch(
        "write_shared_twice", r"writes byte \d+ of shared memory, which thread .* wrote"
    ),
    "two blocks write one element": Case(
        "copy_tiles",
        {"argument": 64},
        {"argument": 63},
        r"writes element \[63\] of 'y', which block \([01], 0, 0\) of the same launch wrote",
        TWO_BLOCKS,
    ),
    "a block reads what another wrote": switch(
        "read_other_block",
        r"element \[\d+\] of 'y', which (block \(0, 0, 0\) of the same launch wrote"
        r"|block \(1, 0, 0\) of the same launch read|nothing has written)",
        size=TWO_BLOCKS,
    ),
}
BOUNDS = {
    "read past the end": Case(
        "read_global",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) reads out of bounds: 4 bytes at 0 bytes past the end of 'x'",
    ),
    "read before the start": Case(
        "read_global",
        {"argument": 0},
        {"argument": -1},
        r"thread \(0, 0, 0\) reads out of bounds: 4 bytes at 4 bytes before the start of 'x'",
    ),
    "write past the end": Case(
        "write_global",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) writes out of bounds: 4 bytes at 0 bytes past the end of 'y'",
    ),
    "read 2**32 elements away": Case(
        "read_global",
        {"argument": 0},
        {"argument": 2**32},
        r"reads out of bounds: 4 bytes at \d{11} bytes past the end of 'y'",
    ),
    "read past shared memory": Case(
        "read_shared",
        {"argument": 0},
        {"argument": 1},
        r"thread \(63, 0, 0\) reads out of bounds: 4 bytes at offset 256 of 256 bytes of shared",
        {"shared_bytes": 256},
    ),
    "write before shared memory": Case(
        "write_shared",
        {"argument": 0},
        {"argument": -1},
        r"thread \(0, 0, 0\) writes out of bounds: 4 bytes at offset -4 of 256 bytes of shared",
        {"shared_bytes": 256},
    ),
    "write to an input": switch(
        "write_input", r"writes element \[3\] of 'x', an input: inputs are read-only"
    ),
}
UNINITIALISED_READS = {
    f"read of unwritten {where}": Case(
        "read_back",
        {"argument": 1},
        {"argument": 0},
        f"reads {what}, which nothing has written: uninitialised",
        {"through": through},
    )
    for where, through, what in [
        ("shared memory", 0, r"byte \d+ of shared memory"),
        ("workspace", "workspace", r"element \[\d+\] of 'workspace'"),
        ("output", "y", r"element \[\d+\] of 'y'"),
    ]
}
NEVER_WRITTEN = {
    "output element never written": Case(
        "skip_element",
        {"argument": -1},
        {"argument": 5},
        r"output 'y': element \[5\] was never written \(1 such elements\)",
    ),
    "output element written in part": switch(
        "half_an_element", r"output 'y': element \[5\] was never written \(1 such elements\)"
    ),
}
# Copies that g++ turns into vector moves, hooks for ranges, or calls of the C library.
COPIES = {
    "struct of 16 bytes": Case(
        "copy_four",
        {"argument": 0},
        {"argument": 1},
        "reads out of bounds: .* 0 bytes past the end of 'x'",
        {"threads": 8, "x": np.arange(32, dtype=np.float32)},
    ),
    "struct of 48 bytes": Case(
        "copy_twelve",
        {"argument": 0},
        {"argument": 1},
        "reads out of bounds: .* 0 bytes past the end of 'x'",
        {"threads": 8, "x": np.arange(96, dtype=np.float32)},
    ),
    "memcpy": Case(
        "copy_bytes", {"argument": 256}, {"argument": 257}, r"reads out of bounds: 257 bytes at"
    ),
}
UNDEFINED = {
    "signed overflow": Case(
        "add_ints",
        {"argument": 0},
        {"argument": 2**31 - 5},
        r"undefined behaviour at kernels.cu:\d+: a signed sum overflows",
    )
}
RACE_FLAVOUR = {
    **RACES,
    **BOUNDS,
    **UNINITIALISED_READS,
    **NEVER_WRITTEN,
    **COPIES,
    **UNDEFINED,
}

# Seen by every flavour.
DIVERGENCE = {
    "barrier against __syncwarp": switch(
        "divergent_barrier",
        r"divergent barrier: threads 0 to 31 wait at __syncthreads \(kernels.cu:\d+\); "
        r"threads 32 to 39 wait at __syncwarp \(kernels.cu:\d+\); threads 40 to 63 have exited",
    ),
    "two barriers": switch(
        "two_barriers",
        r"divergent barrier: threads 0 to 31 wait at __syncthreads \(kernels.cu:\d+\); "
        r"threads 32 to 63 wait at __syncthreads \(kernels.cu:\d+\)",
    ),
    "exit before a barrier": switch(
        "early_exit", r"divergent barrier: threads 0 to 39 wait at __sync.*; threads 40 to 63 have"
    ),
    "shuffle by half a warp": switch(
        "partial_warp",
        r"warp operation that part of a warp never reaches: "
        r"threads 0 to 15 wait at __shfl_down_sync \(kernels.cu:\d+\); threads 16 to \d+ have",
    ),
    "lanes at different operations": switch(
        "mixed_operations",
        r"warp operation that part of a warp never reaches: thread 0 waits at __shfl_xor_sync "
        r"\(kernels.cu:\d+\); thread 1 waits at __syncwarp",
        size={"threads": 32},
    ),
    "mask names absent lanes": Case(
        "masked_shuffle",
        {"argument": 0xFFFF},
        {"argument": 0xFFFFFFFF},
        "the mask of __shfl_xor_sync names lane 16, but this warp has only 16 threads",
        {"threads": 16},
    ),
    "mask leaves lanes out": Case(
        "masked_shuffle",
        {"argument": 0xFFFFFFFF},
        {"argument": 0xFFFF},
        "the mask of __shfl_xor_sync leaves out lane 16",
        {"threads": 32},
    ),
}
ALL = {**RACE_FLAVOUR, **DIVERGENCE}


def cases(table: dict[str, Case]) -> Any:
    """(case, order) pairs for every order in which the bug must be seen."""
    return pytest.mark.parametrize(
        ("case", "order"),
        [
            pytest.param(case, order, id=f"{name.replace(' ', '-')}-{order}")
            for name, case in table.items()
            for order in case.orders
        ],
    )


def expect_fault(device: Device, case: Case, order: str, arrival: str = "late") -> None:
    with pytest.raises(device.emulation.EmulationError) as caught:
        device.run(case.kernel, order=order, arrival=arrival, **case.size, **case.bug)
    message = str(caught.value)
    assert re.search(case.message, message), message
    assert "\n" not in message
    if not message.startswith("output"):  # that one is found after the launch
        assert message.startswith(f"kernel '{case.kernel}', block ("), message


@cases(RACE_FLAVOUR)
def test_race_flavour_names_the_bug(race, case, order):
    expect_fault(race, case, order)


@cases(DIVERGENCE)
def test_divergence_is_named_in_every_flavour(device, case, order):
    expect_fault(device, case, order)


@cases(ALL)
def test_the_same_kernel_without_its_bug_passes(device, case, order):
    y = device.run(case.kernel, order=order, **case.size, **case.clean)
    assert not np.isnan(y).any()


@pytest.mark.parametrize("order", ORDERS)
def test_write_after_reads_of_another_block(race, order):
    """Block 0 read it, then every thread of block 1, which puts only itself in order."""
    y, z = np.zeros(128, np.float32), np.ones(1, np.float32)
    for write in (0, 1):
        race.emulation.configure(order, 1, "late")
        addresses = {"y": race.place("output", y, "y"), "through": race.place("inout", z, "z")}
        launch = {"grid": (2, 1, 1), "block": (64, 1, 1), "argument": write, **addresses}
        if write:
            with pytest.raises(race.emulation.EmulationError) as caught:
                race.module.launch("write_what_blocks_read", **launch)
            read_first = (
                "block (1, 0, 0), thread (0, 0, 0) writes element [0] of 'z', which block (0"
            )
            written_first = (
                "reads element [0] of 'z', which block (1, 0, 0) of the same launch wrote"
            )
            message = str(caught.value)
            if order in ("forward", "one_warp_far"):
                assert read_first in message
                assert message.endswith("of the same launch read")
            else:
                assert read_first in message or written_first in message
        else:
            race.module.launch("write_what_blocks_read", **launch)
        race.emulation.reset()


@pytest.mark.parametrize("order", ORDERS)
def test_a_launch_may_rely_on_all_of_the_launch_before(device, order):
    """Back and forth between two arrays: each launch overwrites what the one before has read."""
    z, y = np.arange(192, dtype=np.float32), np.zeros(192, np.float32)
    device.emulation.configure(order, 1, "late")
    z_address, y_address = device.place("inout", z, "z"), device.place("output", y, "y")
    shape = {"grid": (3, 1, 1), "block": (64, 1, 1)}
    for _ in range(2):
        device.module.launch("reverse_grid", y=y_address, through=z_address, **shape)
        device.module.launch("reverse_grid", y=z_address, through=y_address, **shape)
    device.collect(y_address, y, "y")
    device.collect(z_address, z, "z")
    device.emulation.reset()
    assert z.tolist() == list(range(192))
    assert y.tolist() == list(range(192))[::-1]


def test_a_device_goes_on_after_a_fault(device):
    for case in DIVERGENCE.values():
        expect_fault(device, case, "forward")
        assert device.run("sum_block", argument=2)[0] == 64 * 65 // 2


@pytest.mark.parametrize(
    ("kernel", "clean", "bug", "message"),
    [
        (
            "launcher_overflows",
            0,
            2**31 - 5,
            r"undefined behaviour at kernels.cu:\d+: a signed sum",
        ),
        (
            "launcher_reads",
            0,
            1,
            r"the host reads element \[0\] of 'x', which lies in device memory",
        ),
    ],
)
def test_bugs_of_launchers_are_named(race, kernel, clean, bug, message):
    race.run(kernel, argument=clean)
    with pytest.raises(race.emulation.EmulationError, match=message):
        race.run(kernel, argument=bug)
    race.run(kernel, argument=clean)


def test_a_removed_barrier_gives_wrong_results_in_some_orders(plain):
    """What comparison of results sees without a checker: the forward order hides this bug."""
    x = np.arange(128, dtype=np.float32)
    right = np.concatenate([x[:64][::-1], x[64:][::-1]])
    wrong = {
        order: int((plain.run("refill", x, order=order, argument=1) != right).sum())
        for order in ORDERS
    }
    assert plain.run("refill", x, argument=0).tolist() == right.tolist()
    assert wrong["reverse"] > 0
    assert wrong["shuffled"] > 0


@pytest.mark.parametrize(
    ("step", "offset", "message"),
    [
        (2, 0, None),
        (2, 1, r"4 bytes at the gap 4 bytes after the start of element \[0\] of 'x'"),
        (-1, 0, None),
        (-1, 1, r"4 bytes at 0 bytes past the end of 'x'"),
        (-3, -1, r"4 bytes at the gap 8 bytes after the start of element \[1\] of 'x'"),
    ],
)
def test_gaps_of_strided_arrays_are_out_of_bounds(race, step, offset, message):
    base = np.arange(256, dtype=np.float32)
    x = base[::step][:64]
    launch = {"x": x, "y": np.zeros(64, np.float32), "stride": step, "argument": offset}
    if message is None:
        assert race.run("read_global", **launch).tolist() == x.tolist()
    else:
        with pytest.raises(race.emulation.EmulationError, match=message):
            race.run("read_global", **launch)


def test_writing_into_a_gap_is_out_of_bounds(race):
    y = np.zeros(128, np.float32)[::2]
    x = np.arange(64, dtype=np.float32)
    assert race.run("write_global", x, y, stride=2).tolist() == x.tolist()
    with pytest.raises(race.emulation.EmulationError, match=r"gap 4 bytes after .* \[0\] of 'y'"):
        race.run("write_global", x, y, stride=2, argument=1)


def test_misaligned_vector_access_is_named(race):
    room = np.zeros(64, np.float32)
    start = (
        -(room.__array_interface__["data"][0] // 4) % 4
    )  # so that room[start] is 16-byte aligned
    y = np.zeros(32, np.float32)
    race.run("copy_four", room[start : start + 32], y, threads=8)
    with pytest.raises(race.emulation.EmulationError, match="16-byte alignment lies 4 bytes off"):
        race.run("copy_four", room[start + 1 : start + 33], y, threads=8)
