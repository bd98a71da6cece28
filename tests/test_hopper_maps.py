"""Tensor maps of the kernel for Hopper: made once for the same arrays, and what a refused one says.

Where no thread runs (order "none") nothing is read, and any address will do.
"""

import importlib
import threading

import pytest

import cuconv
from compare import assert_equal
from emulated_traffic import maps_encoded
from test_hopper import VARIANT, forced, operands, sizes
from test_registry import NO_LIMIT

X, W, Y = 1 << 30, 1 << 31, 1 << 32  # addresses
OWN = 1 << 20  # so far apart are those of different tests
X_STRIDE, W_STRIDE = (576, 8, 1, 576, 72, 8), (576, 72, 1, 72, 24, 8)
Y_STRIDE = (336, 8, 1, 336, 56, 8)


@pytest.fixture
def module(emulated):
    """The emulated module, of which no thread runs."""
    loaded = importlib.import_module(f"cuconv._C_emulated_{emulated.options()['flavour']}")
    loaded.emulation.configure("none", 0, "late")
    return loaded


def bound(module, problem=None, x_stride=X_STRIDE):
    """conv2d of 8 x 9 pixels by 3 x 3 taps, 8 channels to 8, unless another is given."""
    request = ("forward", VARIANT, "float16", "ieee", NO_LIMIT)
    strides = (x_stride, W_STRIDE, Y_STRIDE)
    return module.BoundConv(*request, problem or sizes(), *strides, False, "", 0)


def test_maps_are_made_once_for_the_same_arrays(module):
    run = bound(module).run
    assert maps_encoded(run, X, W, 0, Y, 0, 0) >= 2
    assert maps_encoded(run, X, W, 0, Y, 0, 0) == 0
    assert maps_encoded(run, X + 16, W, 0, Y, 0, 0) == 1
    assert maps_encoded(run, X + 16, W + 16, 0, Y, 0, 0) == 1
    assert maps_encoded(run, X, W, 0, Y, 0, 0) == 0
    assert maps_encoded(bound(module).run, X, W, 0, Y, 0, 0) == 0  # another plan of the same
    wider = (1152, 8, 1, 1152, 144, 16)
    assert maps_encoded(bound(module, x_stride=wider).run, X, W, 0, Y, 0, 0) == 1
    padded = sizes(pad=(0, 1, 0))
    assert maps_encoded(bound(module, padded).run, X, W, 0, Y, 0, 0) == 1


def test_phases_share_the_map_of_w(module):
    """At stride 2 the gradient has four, each with a box of its own in the gradient of y."""
    problem = sizes(stride=(1, 2, 2), size=(1, 9, 11))
    request = ("input_grad", VARIANT, "float16", "ieee", NO_LIMIT)
    strides = ((792, 8, 1, 792, 88, 8), W_STRIDE, (160, 8, 1, 160, 40, 8))
    run = module.BoundConv(*request, problem, *strides, False, "", 0).run
    x, w = X + OWN, W + OWN
    assert maps_encoded(run, x, w, 0, Y, 0, 0) >= 5
    assert maps_encoded(run, x, w, 0, Y, 0, 0) == 0
    assert maps_encoded(run, x, w + 64, 0, Y, 0, 0) == 1
    assert maps_encoded(run, x + 64, w, 0, Y, 0, 0) == 4


def test_the_last_thousand_maps_are_kept(module):
    run = bound(module).run
    x, w = X + 2 * OWN, W + 2 * OWN
    for i in range(1100):
        run(x + 16 * i, w, 0, Y, 0, 0)
    assert maps_encoded(run, x + 16 * 1099, w, 0, Y, 0, 0) == 0
    assert maps_encoded(run, x, w, 0, Y, 0, 0) == 1


def test_a_plan_called_again_makes_no_maps(emulated, reference):
    x, w = operands(30, (1, 6, 10, 24), (16, 3, 3, 24))
    options = {"padding": 1, "layout": "NHWC"}
    want = reference.run(cuconv.conv2d, x, w, **options)
    with forced(emulated):
        plan = cuconv.Conv2dPlan(x.shape, w.shape, "float16", device="cpu", **options)
    assert plan.variant == VARIANT
    got = []
    plan(x, w)
    assert maps_encoded(lambda: got.append(plan(x, w))) == 0
    x[...] = -x  # a map says where, not what
    assert maps_encoded(lambda: got.append(plan(x, w))) == 0
    for result, expected in zip(got, (want, -want), strict=True):
        assert_equal(result, expected)


def test_threads_share_maps(emulated, reference):
    """Each has an emulated device of its own, where arrays may have another's addresses."""
    cases = [operands(31 + i, (1, 5 + i % 3, 9, 16), (8, 3, 3, 16)) for i in range(3)]
    wants = [reference.run(cuconv.conv2d, x, w, layout="NHWC") for x, w in cases]
    errors = []

    def work(x, w, want):
        try:
            with forced(emulated):
                for _ in range(2):
                    assert_equal(cuconv.conv2d(x, w, layout="NHWC"), want)
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(*case, want))
        for case, want in zip(cases, wants, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_refused_map_is_an_error_that_says_of_what(module):
    """No call gets here, because `suits` knows the limits; a driver may have others."""
    problem = sizes(pad=(0, 129, 0))
    addresses = (X + 3 * OWN, W + 3 * OWN, 0, Y, 0, 0)
    with pytest.raises(cuconv.CudaError) as error:
        bound(module, problem).run(*addresses)
    assert str(error.value) == (
        "CUDA_ERROR_INVALID_VALUE by cuTensorMapEncodeIm2col (data type 6, address modulo 16 0, "
        "sizes from the innermost on (8, 9, 8, 1), strides in bytes (16, 144, 1152), "
        "steps (1, 1, 1, 1), box (64, 128), corners (0, -129) to (-2, 127))"
    )
    with pytest.raises(cuconv.CudaError, match="CUDA_ERROR_INVALID_VALUE"):  # nothing was kept
        bound(module, problem).run(*addresses)
