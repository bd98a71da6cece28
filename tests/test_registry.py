"""Every kernel variant of the registry, forced, under race checks and every schedule."""

import importlib

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal

FUNCTIONS = {
    "forward": "conv{}d",
    "input_grad": "conv{}d_input_grad",
    "weight_grad": "conv{}d_weight_grad",
}


def listed():
    try:
        module = importlib.import_module("cuconv._C_emulated_plain")
    except ImportError:
        return []
    return [(name, direction) for name, _, direction in module.conv_variants()]


VARIANTS = listed()


def test_there_are_variants(emulated):
    assert {direction for _, direction in VARIANTS} == set(FUNCTIONS)
    assert len(set(VARIANTS)) == len(VARIANTS)


def call_of(reference, seed, rank, dtype, direction):
    """A drawn problem as (function, arguments, options) in one direction."""
    p = problems.draw_conv(seed, rank, dtype)
    function = getattr(cuconv, FUNCTIONS[direction].format(rank))
    if seed % 2:  # every other one as the adjoint kernels like it
        p.options["stride"] = 1
    if direction == "forward":
        return function, (p.x, p.w, p.bias), {**p.options, "activation": p.activation}
    y = reference.run(getattr(cuconv, f"conv{rank}d"), p.x, p.w, **p.options)
    g = problems.integers(np.random.default_rng(seed), y.shape, dtype)
    if direction == "input_grad":
        return function, (g, p.w, p.x.shape), p.options
    return function, (g, p.x, p.w.shape), p.options


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize("dtype", problems.ALL, ids=str)
@pytest.mark.parametrize(("variant", "direction"), VARIANTS, ids=str)
def test_variant_is_exact_on_integers(emulated, reference, variant, direction, dtype, order):
    flavour = emulated.options()["flavour"]
    ran = 0
    for rank in (1, 2, 3):
        for seed in range(500, 504):
            function, arguments, options = call_of(reference, seed, rank, dtype, direction)
            want = reference.run(function, *arguments, **options)
            if dtype.itemsize == 2 and np.abs(want.astype("f8")).max(initial=0) > 200:
                continue  # a sum that bfloat16 cannot hold
            choice = {"flavour": flavour, "order": order, "seed": seed, "variant": variant}
            with cuconv.use_backend("emulated", **choice):
                try:
                    got = function(*arguments, **options)
                except cuconv.UnsupportedError:
                    continue  # why is the business of test_variants_refuse_for_a_reason
            ran += 1
            assert_equal(got, want)
    assert ran >= 3, f"{variant}, {direction} did {ran} problems: it was hardly tested"


def test_an_unknown_variant_is_refused(emulated):
    x = np.ones((1, 1, 4, 4), "f4")
    with (
        cuconv.use_backend("emulated", variant="direct_magic"),
        pytest.raises(cuconv.UnsupportedError, match="direct_magic"),
    ):
        cuconv.conv2d(x, x)


def test_variants_refuse_for_a_reason(emulated):
    x, w = np.ones((1, 1, 200, 200), "f8"), np.ones((1, 1, 90, 90), "f8")
    with (
        cuconv.use_backend("emulated", variant="direct_tiled_16x16"),
        pytest.raises(cuconv.UnsupportedError, match=r"shared memory.* 48 KiB"),
    ):
        cuconv.conv2d(x, w)
    g = np.ones((1, 1, 2, 2), "f8")
    with (
        cuconv.use_backend("emulated", variant="direct_tiled_16x16"),
        pytest.raises(cuconv.UnsupportedError, match="stride 1, not 2"),
    ):
        cuconv.conv2d_input_grad(g, np.ones((1, 1, 3, 3)), (1, 1, 5, 5), stride=2)
