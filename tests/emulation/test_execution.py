"""Kernels that are right run right: indices, shuffles, arithmetic, memory, launch limits."""

import threading

import numpy as np
import pytest

from emulation.device import ORDERS, Device


def launch(device: Device, kernel: str, grid=(1, 1, 1), block=(1, 1, 1), **arguments) -> None:
    device.module.launch(kernel, grid=grid, block=block, **arguments)


@pytest.mark.parametrize("order", ORDERS)
def test_every_thread_knows_its_place(device, order):
    grid, block = (3, 2, 4), (5, 3, 2)
    y = np.zeros((4, 2, 3, 2, 3, 5), np.int64)
    device.emulation.configure(order, 7, "late")
    address = device.place("output", y, "y")
    launch(device, "where_am_i", grid, block, y=address)
    device.collect(address, y, "y")
    device.emulation.reset()
    bz, by, bx, tz, ty, tx = np.indices(y.shape)
    flat_block = bx + 3 * (by + 2 * bz)
    np.testing.assert_array_equal(y, tx + 100 * ty + 10000 * tz + 1000000 * flat_block)


def visits(device: Device, order: str, seed: int = 1, blocks: int = 2) -> np.ndarray:
    """When each thread came by: [block, warp, lane, before or after a __syncwarp]."""
    y, counter = np.zeros((blocks, 2, 32, 2), np.float32), np.zeros(1, np.float32)
    device.emulation.configure(order, seed, "late")
    addresses = {
        "y": device.place("output", y, "y"),
        "through": device.place("inout", counter, "c"),
    }
    launch(device, "visit", (blocks, 1, 1), (64, 1, 1), **addresses)
    device.collect(addresses["y"], y, "y")
    device.emulation.reset()
    assert sorted(y.flat) == list(range(y.size))
    return y


def test_forward_and_reverse_order(plain):
    forward = visits(plain, "forward")
    steps = np.arange(64).reshape(2, 32)
    assert (forward[0, ..., 0] == steps).all()
    # Each warp's last lane goes on once the others have had their second turn.
    assert (np.diff(forward[0, ..., 1].ravel()) == 1).all()
    assert (forward[1] == forward[0] + 128).all()
    reverse = visits(plain, "reverse")
    assert (reverse[::-1, ::-1, ::-1] == forward).all()


def test_one_warp_far_order(plain):
    far = visits(plain, "one_warp_far")
    assert (far[0, 0, :, 0] == np.arange(32)).all()
    assert (far[0, 0, :, 1] == 32 + np.arange(32)).all()
    assert (far[0, 1] == far[0, 0] + 64).all()
    assert (far[1] == far[0] + 128).all()


def test_shuffled_order_follows_its_seed(plain):
    once, again, other = (visits(plain, "shuffled", seed, blocks=5) for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()
    ahead = once[0, 0, :, 0]
    assert (np.diff(ahead) < 0).any()
    assert (np.diff(ahead) > 0).any()
    first_of_block = {
        seed: visits(plain, "shuffled", seed, 5).min(axis=(1, 2, 3)) for seed in range(9)
    }
    assert len({tuple(first) for first in first_of_block.values()}) > 1


@pytest.mark.parametrize("through", [0, "workspace", "y"])
def test_memory_starts_as_nan(plain, through):
    size = {"threads": 64, "through": through}
    assert not np.isnan(plain.run("read_back", argument=1, **size)).any()
    assert np.isnan(plain.run("read_back", argument=0, **size)).all()


def test_shared_memory_starts_as_nan_in_every_block(plain):
    y = plain.run("first_come", threads=32, blocks=3, shared_bytes=128)
    assert np.isnan(y).all()


# What CUDA's programming guide says of each: the lane read from, within a group of `width`.
SHUFFLES = {
    0: lambda lane, argument, width: argument % width,
    1: lambda lane, argument, width: lane + argument if lane + argument < width else lane,
    2: lambda lane, argument, width: lane - argument if lane >= argument else lane,
    3: lambda lane, argument, width: lane ^ argument if lane ^ argument < width else lane,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [32, 16, 4])
@pytest.mark.parametrize("argument", [0, 1, 3, 17])
@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_shuffles(device, kind, argument, width, order):
    y = device.run(
        "shuffle_kinds", order=order, argument=kind, stride=argument, through=width, threads=64
    )
    sources = [
        lane // width * width + SHUFFLES[kind](lane % width, argument, width) for lane in range(64)
    ]
    assert y.tolist() == [source + 1.0 for source in sources]


@pytest.mark.parametrize("order", ORDERS)
def test_block_sum_with_every_kind_of_synchronisation(device, order):
    y = device.run("sum_block", threads=256, blocks=5, order=order, argument=3)
    sums = np.arange(1, 256 * 5 + 1).reshape(5, 256).sum(axis=1)
    assert y.tolist() == np.repeat(sums, 256).astype(float).tolist()


def test_largest_block_and_many_barriers(device):
    device.emulation.configure("forward", 0, "late")
    launch(device, "many_barriers", block=(1024, 1, 1), argument=50)


def test_only_fma_is_fused(device):
    a = 1 + 2.0**-12
    x = np.array([a, -(1 + 2.0**-11)], np.float32)  # a * a = 1 + 2**-11 + 2**-24
    y = device.run("multiply_add", x, np.zeros(2, np.float32), threads=1)
    assert y.tolist() == [2.0**-24, 0.0]


def test_shared_memory_has_the_promised_alignment_and_no_more(device):
    y = np.zeros(1, np.int64)
    address = device.place("output", y, "y")
    launch(device, "shared_address", shared_bytes=64, y=address)
    device.collect(address, y, "y")
    device.emulation.reset()
    assert y[0] % 1024 == 0
    assert y[0] % 2048 != 0


@pytest.mark.parametrize("offset", range(16))
def test_arrays_keep_their_misalignment(device, offset):
    x = np.zeros(64, np.float32)[offset:]
    for how in ("input", "output", "inout"):
        address = device.place(how, x, "x")
        assert address % 64 == x.__array_interface__["data"][0] % 64
    assert device.emulation.workspace(8) % 256 == 0
    device.emulation.reset()


VIEWS = {
    "contiguous": lambda base: base,
    "transposed": lambda base: base.T,
    "negative strides and gaps": lambda base: base[::-1, ::2, ::-3],
    "axis of one": lambda base: base[:, :1, :],
    "empty": lambda base: base[:0],
    "no axes": lambda base: base[3, 4, 5:6].reshape(()),
    "broadcast": lambda base: np.broadcast_to(base[:, :1], base.shape),
    "overlapping": lambda base: np.lib.stride_tricks.sliding_window_view(base, 3, 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_any_strides_go_in_and_out_unchanged(device, name):
    """What was placed comes back, element by element; what lies between is left alone."""
    base = np.arange(7 * 8 * 9, dtype=np.float64).reshape(7, 8, 9)
    view = VIEWS[name](base)
    writable = np.lib.stride_tricks.as_strided(view, view.shape, view.strides, writeable=True)
    before = view.copy()
    address = device.place("inout", writable, "view")
    base[...] = -1
    device.collect(address, writable, "view")
    device.emulation.reset()
    np.testing.assert_array_equal(view, before)
    assert (base != -1).sum() == np.unique(before).size


def test_collect_wants_what_was_placed(device):
    x = np.zeros(4, np.float32)
    address = device.place("inout", x, "x")
    with pytest.raises(ValueError, match="no array of this shape"):
        device.collect(address, x[:3], "x")
    with pytest.raises(ValueError, match="no array of this shape"):
        device.collect(address + 4, x, "x")
    device.emulation.reset()
    with pytest.raises(ValueError, match="no array of this shape"):
        device.collect(address, x, "x")


def test_each_host_thread_has_a_device_of_its_own(device):
    x = np.arange(8, dtype=np.float32)
    expected = x.copy()
    address = device.place("inout", x, "x")
    other = threading.Thread(target=device.emulation.reset)
    other.start()
    other.join()
    x[...] = 0
    device.collect(address, x, "x")
    device.emulation.reset()
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes"),
    [
        ((0, 1, 1), (1, 1, 1), 0),
        ((1, 0, 1), (1, 1, 1), 0),
        ((1, 1, -1), (1, 1, 1), 0),
        ((2**31, 1, 1), (1, 1, 1), 0),
        ((2**32 + 1, 1, 1), (1, 1, 1), 0),
        ((1, 65536, 1), (1, 1, 1), 0),
        ((1, 1, 65536), (1, 1, 1), 0),
        ((1, 1, 1), (0, 1, 1), 0),
        ((1, 1, 1), (1025, 1, 1), 0),
        ((1, 1, 1), (1, 1025, 1), 0),
        ((1, 1, 1), (1, 1, 65), 0),
        ((1, 1, 1), (32, 33, 1), 0),
        ((1, 1, 1), (1, 1, 1), 227 * 1024 + 1),
    ],
)
def test_launches_beyond_the_limits_of_a_gpu_fail(device, grid, block, shared_bytes):
    with pytest.raises(device.module.LaunchError) as caught:
        launch(device, "do_nothing", grid, block, shared_bytes=shared_bytes)
    message = str(caught.value)
    assert "do_nothing" in message
    assert f"grid {grid}, block {block}, {shared_bytes} bytes of shared memory" in message


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes"),
    [
        ((65536, 1, 1), (1, 1, 1), 0),
        ((1, 65535, 1), (1, 1, 1), 0),
        ((1, 1, 65535), (1, 1, 1), 0),
        ((1, 1, 1), (1024, 1, 1), 0),
        ((1, 1, 1), (16, 1, 64), 0),
        ((1, 1, 1), (1, 1024, 1), 227 * 1024),
    ],
)
def test_launches_at_the_limits_run(device, grid, block, shared_bytes):
    launch(device, "do_nothing", grid, block, shared_bytes=shared_bytes)


@pytest.mark.parametrize(
    ("order", "arrival", "message"),
    [("backward", "late", "order is 'backward'"), ("forward", "soon", "arrival is 'soon'")],
)
def test_configure_names_what_it_does_not_know(device, order, arrival, message):
    with pytest.raises(ValueError, match=message):
        device.emulation.configure(order, 0, arrival)
