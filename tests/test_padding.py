"""Borders made of the input's own elements, and their adjoint, against numpy.pad."""

import itertools

import numpy as np
import pytest

from compare import assert_equal
from cuconv._padding import fold, pad

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_border(mode, size):
    rng = np.random.default_rng(size)
    most = {"reflect": size - 1, "replicate": 6, "circular": size}[mode]
    for low, high in itertools.product(range(most + 1), repeat=2):
        x = rng.integers(-9, 10, (2, 1, size, size, 3)).astype("f4")
        border = ((low, high), (high, low), (0, 0))
        want = np.pad(x, ((0, 0), (0, 0), *border), mode=MODES[mode])
        assert_equal(pad(x, mode, border), want)
        g = rng.integers(-9, 10, want.shape).astype("f4")
        folded = fold(g.copy(), mode, border)
        assert folded.shape == x.shape
        assert (folded * x).sum() == (g * want).sum()  # adjoint, in exact integers
