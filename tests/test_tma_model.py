"""The model of TMA's im2col copies against plain convolution."""

import numpy as np
import pytest

import cuconv
from tma_model import Im2col

FUNCTIONS = {1: cuconv.conv1d, 2: cuconv.conv2d, 3: cuconv.conv3d}
LAYOUTS = {1: "NLC", 2: "NHWC", 3: "NDHWC"}


def drawn(seed, rank):
    """(x, w, options): channels last, small integers."""
    rng = np.random.default_rng([seed, rank])
    kernel = rng.integers(1, 4, rank)
    dilation, stride = rng.integers(1, 4, rank), rng.integers(1, 4, rank)
    reach = dilation * (kernel - 1) + 1
    padding = [tuple(int(n) for n in rng.integers(0, r + 1, 2)) for r in reach]
    size = reach + rng.integers(0, 6, rank)
    c, k = int(rng.integers(1, 7)), 5
    x = rng.integers(-3, 4, (int(rng.integers(1, 4)), *size, c)).astype(np.float64)
    w = rng.integers(-3, 4, (k, *kernel, c)).astype(np.float64)
    options = {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation)}
    return x, w, {name: tuple(map(as_int, o)) for name, o in options.items()}


def as_int(value):
    return tuple(int(v) for v in value) if isinstance(value, tuple) else int(value)


def convolved(x, w, options, channels, pixels):
    """A convolution by im2col copies alone: columns times filters, tap by tap, a chunk of channels
    at a time."""
    rank = x.ndim - 2
    low = [p[0] for p in options["padding"]]
    out = [
        (n + sum(p) - d * (r - 1) - 1) // s + 1
        for n, p, d, r, s in zip(
            x.shape[1:-1],
            options["padding"],
            options["dilation"],
            w.shape[1:-1],
            options["stride"],
            strict=True,
        )
    ]
    upper = [
        (o - 1) * s - p + 1 - n
        for o, s, p, n in zip(out, options["stride"], low, x.shape[1:-1], strict=True)
    ]
    copy = Im2col(tuple(-p for p in low), tuple(upper), options["stride"], channels, pixels)
    assert copy.positions(x) == tuple(out)
    rows = x.shape[0] * int(np.prod(out))
    y = np.zeros((rows, w.shape[0]))
    for first in range(0, rows, pixels):
        image, *position = np.unravel_index(first, (x.shape[0], *out))
        start = tuple(
            int(low + p * s)
            for low, p, s in zip(copy.lower, position, options["stride"], strict=True)
        )
        for tap in np.ndindex(*w.shape[1:-1]):
            offset = tuple(t * d for t, d in zip(tap, options["dilation"], strict=True))
            for channel in range(0, x.shape[-1], channels):
                column = copy.column(x, channel, start, int(image), offset)
                filters = np.zeros((w.shape[0], channels))
                part = w[(slice(None), *tap)][:, channel : channel + channels]
                filters[:, : part.shape[1]] = part
                y[first : first + pixels] += (column @ filters.T)[: rows - first]
    assert len(out) == rank
    return y.reshape(x.shape[0], *out, -1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_columns_times_filters_are_the_convolution(reference, rank):
    for seed in range(30):
        x, w, options = drawn(seed, rank)
        want = reference.run(FUNCTIONS[rank], x, w, layout=LAYOUTS[rank], **options)
        if want.size == 0:
            continue
        np.testing.assert_array_equal(convolved(x, w, options, 4, 7), want)


def test_a_column_goes_on_over_lines_and_images_and_ends_in_zeros():
    x = np.arange(1, 2 * 2 * 3 + 1, dtype=np.float32).reshape(2, 2, 3, 1)
    copy = Im2col((0, 0), (0, 0), (1, 1), 1, 9)
    column = copy.column(x, 0, (1, 1), 0, (0, 0))
    assert column[:, 0].tolist() == [5, 6, 7, 8, 9, 10, 11, 12, 0]
