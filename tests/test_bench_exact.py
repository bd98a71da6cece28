"""A benchmark times right results only: the check is right itself, and finds what is wrong."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import cuconv
from bench_helpers import TINY, tiny, tiny_cases  # noqa: F401
from cuconv._bench import exact
from cuconv._bench.cases import DIRECTIONS, KINDS, Case, conv_case
from cuconv._bench.devices import CpuDevice
from cuconv._bench.exact import WrongResult, allowed_error, element, make_check
from cuconv._bench.layers import Layer
from cuconv._bench.sides import make_buffers, own_sides

pytestmark = pytest.mark.usefixtures("tiny")
CASES = [(name, direction) for name in TINY for direction in DIRECTIONS]


def ready(case):
    buffers = make_buffers(case, CpuDevice(1), cold=True)
    side = own_sides(buffers, ("auto",))[0]
    return make_check(buffers), side.canonical(side.call(0)), buffers


def made(name, direction, layout="NCHW", kind="float32"):
    (case,) = [
        c
        for c in tiny_cases(directions=(direction,), layouts=(layout,), kinds=(kind,))
        if c.name.startswith(f"{name}:")
    ]
    return case


@pytest.mark.parametrize(("name", "direction"), CASES)
def test_elements_are_those_of_the_oracle(name, direction):
    """Every one of them, to the last bit that float64 leaves."""
    case = made(name, direction)
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-3, 4, shape).astype("f4") for shape in case.shapes[:2])
    gradient = {"input_grad": case.x_shape, "weight_grad": case.w_shape}
    function = "conv2d" if direction == "forward" else f"conv2d_{direction}"
    shape = () if direction == "forward" else (gradient[direction],)
    with cuconv.use_backend("reference"):
        want = getattr(cuconv, function)(a, b, *shape, **case.options)
    for index in itertools.product(*map(range, case.shapes[2])):
        assert element(case, a, b, index) == want[index], index


@pytest.mark.parametrize(("name", "direction"), CASES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_right_results_pass(name, direction, layout):
    check, result, _ = ready(made(name, direction, layout))
    errors = check.errors(result, peer=False)
    assert 0 <= errors["rms"] <= errors["largest"] < 1e-5


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_right_results_of_other_dtypes_pass(kind, direction):
    check, result, _ = ready(made("plain", direction, kind=kind))
    check.errors(result, peer=False)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
def test_operands_of_the_same_shape_are_not_the_same(kind):
    """As of a weight gradient with as many filters as channels: its sums of squares came to so
    much more than the others that the rounding of a right result was too large."""
    layer = Layer(1, 128, 28, 28, 128, 3, 3, padding=(1, 1))
    case = replace(conv_case("g", "c", layer), kind=kind, direction="weight_grad")
    check, result, buffers = ready(case)
    assert not np.array_equal(buffers.first[0], buffers.second[0])
    check.errors(result, peer=False)


@pytest.mark.parametrize(("name", "direction"), CASES)
def test_one_wrong_element_anywhere_is_found(monkeypatch, name, direction):
    """By the projection alone: only the first and the last element are computed one by one."""
    monkeypatch.setattr(exact, "FEWEST_ELEMENTS", 2)
    monkeypatch.setattr(exact, "MOST_ELEMENTS", 2)
    check, result, _ = ready(made(name, direction))
    middle = np.unravel_index(result.size // 2, result.shape)
    for wrong in (np.nan, result[middle] + 1.0, -2 * result[middle] + 0.5):
        changed = result.copy()
        changed[middle] = wrong
        with pytest.raises(WrongResult, match="some elements are wrong"):
            check.errors(changed, peer=True)
    check.errors(result, peer=False)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_element_off_by_what_the_projection_promises_to_see_is_found(monkeypatch, direction):
    """Its error allowed, times the root of how many elements a sum has; a peer's is four times."""
    monkeypatch.setattr(exact, "FEWEST_ELEMENTS", 2)
    monkeypatch.setattr(exact, "MOST_ELEMENTS", 2)
    layer = Layer(4, 8, 6, 5, 16, 3, 3, padding=(1, 1))
    case = replace(conv_case("g", "c", layer), direction=direction)
    check, result, _ = ready(case)
    summed = {"forward": 4 * 16, "input_grad": 4 * 8, "weight_grad": 16 * 8}[direction]
    scale = float(np.sqrt(np.mean(result**2)))
    off = 1.5 * allowed_error(case) * scale * np.sqrt(summed)
    middle = np.unravel_index(result.size // 2, result.shape)
    result[middle] += off
    with pytest.raises(WrongResult, match="some elements are wrong"):
        check.errors(result, peer=False)
    check.errors(result, peer=True)
    result[middle] += 3 * off
    with pytest.raises(WrongResult, match="some elements are wrong"):
        check.errors(result, peer=True)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_peer_may_add_up_in_the_type_it_stores(kind):
    """As PyTorch does with the taps of an input gradient: 961 roundings. cuconv may not, nor may a
    peer be wrong by more."""
    layer = Layer(1, 2, 32, 32, 2, 31, 31, padding=(15, 15), groups=2)
    case = replace(conv_case("g", "c", layer), kind=kind, direction="input_grad")
    check, result, buffers = ready(case)
    g, w = buffers.first[0], buffers.second[0]
    around = np.pad(g, ((0, 0), (0, 0), (15, 15), (15, 15)))
    summed = np.zeros_like(result)
    for r, s in np.ndindex(31, 31):
        summed += around[:, :, 30 - r : 62 - r, 30 - s : 62 - s] * w[None, :, 0, r, s, None, None]
    check.errors(summed, peer=True)
    with pytest.raises(WrongResult):
        check.errors(summed, peer=False)
    summed[0, 0, 16, 16] += np.sqrt(np.mean(result.astype("f8") ** 2))
    with pytest.raises(WrongResult):
        check.errors(summed, peer=True)
    check.errors(result, peer=False)


def test_a_result_that_is_a_little_off_everywhere_is_found():
    check, result, _ = ready(made("plain", "forward"))
    with pytest.raises(WrongResult, match="off by"):
        check.errors(result * np.float32(1.01), peer=True)


def test_a_result_of_another_shape_is_found():
    check, result, _ = ready(made("plain", "forward"))
    with pytest.raises(WrongResult, match="its shape is"):
        check.errors(result[:1], peer=True)


def test_a_flipped_filter_is_found():
    case = made("plain", "forward")
    check, _, buffers = ready(case)
    flipped = cuconv.conv2d(buffers.first[0], buffers.second[0], flip_kernel=True, **case.options)
    with pytest.raises(WrongResult):
        check.errors(flipped, peer=True)


@pytest.mark.parametrize(
    "case",
    [
        Case("g", "pool", "max_pool2d", (3, 2, 7, 9), window=(3, 2, 1)),
        Case("g", "pool", "avg_pool2d", (3, 2, 7, 9), window=(3, 1, 1), layout="NHWC"),
        Case("g", "relu", "relu", (3, 2, 7, 9)),
        Case("g", "sigmoid", "sigmoid", (3, 2, 7, 9)),
        Case("g", "i", "Inception", (3, 4, 5, 5), module=(5, 4, 2, 3, 4, 2, 3, 2)),
        Case("g", "i", "Inception", (2, 4, 5, 5), module=(5, 4, 2, 3, 4, 2, 3, 2), layout="NHWC"),
    ],
    ids=lambda case: f"{case.of}-{case.layout}",
)
def test_pools_activations_and_inception(case):
    check, result, _ = ready(case)
    check.errors(result, peer=False)
    changed = result.copy()
    changed[-1, -1, -1, -1] += 0.25
    with pytest.raises(WrongResult, match="the oracle"):
        check.errors(changed, peer=True)


@pytest.mark.parametrize(
    ("name", "direction", "terms"),
    [
        ("plain", "forward", 18),
        ("grouped", "forward", 18),
        ("grouped", "input_grad", 27),
        ("depthwise", "forward", 9),
        ("depthwise", "input_grad", 9),
        ("depthwise", "weight_grad", 42),
    ],
)
def test_a_sum_is_as_long_as_a_group_makes_it(name, direction, terms):
    assert made(name, direction).terms == terms


def test_the_error_allowed_is_that_of_the_type():
    bounds = {}
    for kind in KINDS:
        bounds[kind] = allowed_error(made("plain", "forward", kind=kind))
    assert bounds["float64"] < 1e-12 < bounds["float32"] < 1e-4
    assert bounds["tf32x3"] < 1e-4 < bounds["tf32"] < bounds["bfloat16"] < 0.1
    long = conv_case("g", "long", Layer(64, 2, 300, 300, 2, 1, 1))
    assert allowed_error(long) < 1e-3
