"""Windows far larger than their planes: taps in more bits than they were once counted in."""

import numpy as np
import pytest

import cuconv
from compare import assert_equal


def test_a_divisor_past_32_bits(emulated):
    """2**16 taps along each of two axes, nearly all of them in the padding."""
    side, pairs = 2**16, ((2**16 - 1, 0), (2**16 - 1, 0), (0, 0))
    x = np.full((1, 1, 1, 1, 1), 2**32, "f4")
    y = emulated.run(cuconv.avg_pool3d, x, (side, side, 1), padding=pairs)
    assert y.item() == 1
    gx = emulated.run(cuconv.avg_pool3d_grad, x, x.shape, (side, side, 1), padding=pairs)
    assert gx.item() == 1


def test_windows_past_32_bits_meet_few_elements(reference):
    """On the CPU, where each of 2**32 taps along an axis was once looked at."""
    size, x = 2**32, np.array([[[[3, 1, 4, 2]]]], "f4")
    padding = ((size - 1, 0), (size - 1, size - 1))  # the last windows begin in x
    y = cuconv.max_pool_project(x, np.full((1, 1, 1, 1), 2, "f4"), None, size, size, padding)
    assert y.tolist() == [[[[6, 8]]]]
    y, indices = cuconv.max_pool2d(x, size, 1, ((size - 1, 0), (size - 1, 0)), return_indices=True)
    assert y.tolist() == [[[[3, 3, 4, 4]]]]
    assert indices.tolist() == [[[[0, 0, 2, 2]]]]
    windows = {"kernel_size": (1, size), "stride": (1, size), "padding": ((0, 0), padding[1])}
    y = cuconv.avg_pool2d(x, count_include_pad=False, **windows)
    np.testing.assert_allclose(y, [[[[3, 7 / 3]]]], rtol=1e-6)
    gx = cuconv.avg_pool2d_grad(y, x.shape, count_include_pad=False, **windows)
    np.testing.assert_allclose(gx, [[[[3, 7 / 9, 7 / 9, 7 / 9]]]], rtol=1e-6)
    # gaps, and windows that meet nothing between those that do
    x = np.arange(1, 8, dtype="f4").reshape(1, 1, 7)
    for options in (
        {"kernel_size": 40, "dilation": 3, "stride": 5, "padding": 60},
        {"kernel_size": 30, "dilation": 9, "stride": 11, "padding": 150},
    ):
        want = reference.run(cuconv.max_pool1d, x, return_indices=True, **options)
        for got, wanted in zip(
            cuconv.max_pool1d(x, return_indices=True, **options), want, strict=True
        ):
            assert_equal(got, wanted)


def test_a_divisor_past_64_bits_is_refused(backend):
    x = np.ones((1, 1, 1, 1), "f4")
    windows = {"kernel_size": 2**32, "padding": ((0, 2**32 - 1),) * 2}
    with pytest.raises(ValueError, match=r"counts 18446744073709551616 positions"):
        backend.run(cuconv.avg_pool2d, x, **windows)
    with pytest.raises(ValueError, match=r"counts 18446744073709551616 positions"):
        backend.run(cuconv.avg_pool2d_grad, x, x.shape, **windows)


@pytest.mark.parametrize("size", [2**16 + 1, 2**32])
def test_projected_maxima_of_windows_past_32_bits(emulated, size):
    """Whose area is 0, and whose sides are, when they are cut off to 32 or 64 bits."""
    x, w = np.array([[[[3, 1, 4, 2]]]], "f4"), np.full((1, 1, 1, 1), 2, "f4")
    padding = ((size - 1, 0), (size - 1, 0))
    y = emulated.run(cuconv.max_pool_project, x, w, None, size, size, padding)
    assert y.item() == 6


def test_gradients_with_windows_past_31_bits(emulated):
    """Tiles and vectors refuse; the kernels that count in 64 bits take them."""
    windows = {"kernel_size": 2**40, "padding": ((2**40 - 1, 0),)}
    x = np.arange(8, dtype="f4").reshape(1, 1, 8)
    y, indices = emulated.run(cuconv.max_pool1d, x, return_indices=True, **windows)
    gx = emulated.run(cuconv.max_pool1d_grad, y + 1, indices, x.shape, **windows)
    assert gx.sum() == gx[0, 0, 0] == 1
    g = np.full_like(y, 2**40)
    assert (
        emulated.run(cuconv.avg_pool1d_grad, g, x.shape, **windows).ravel().tolist()
        == [1] + [0] * 7
    )
