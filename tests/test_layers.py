"""The layers of networks and benchmarks, made small, through every GEMM variant.

Not every variant does every layer in every dtype: `planned` deals them out, and
`test_the_plan_covers` holds what it has to reach. A planned case that is refused fails.
"""

import collections
import dataclasses
import functools
import importlib
import itertools

import numpy as np
import pytest

import cuconv
import layers
import problems
from compare import assert_equal
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._problem import conv_call

DIRECTIONS = ("forward", "input_grad", "weight_grad")
FAMILIES = ("im2col", "implicit_gemm")
ORDERS = ("forward", "reverse", "shuffled", "one_warp_far")
FLOAT32 = np.dtype("float32")
KINDS = (  # (dtype, precision): the other dtypes have one precision
    *((dtype, "ieee") for dtype in problems.ALL),
    (FLOAT32, "tf32"),
    (FLOAT32, "tf32x3"),
)
LAYERS = tuple(layers.distinct())
# Groups of layers of which TMA can read none: they have one channel in a group.
OUT_OF_REACH = {"flashfftconv_short_depthwise_conv1d_H100", "large_depthwise_sweep"}
# Up to where a dtype of 16 bits has every integer.
LARGEST = {np.dtype("float16"): 2048, problems.BFLOAT16: 256}


@dataclasses.dataclass(frozen=True)
class Case:
    layer: layers.Layer
    direction: str
    variant: str
    dtype: np.dtype
    precision: str
    channels_last: bool
    order: str

    def __str__(self):
        layout = "last" if self.channels_last else "first"
        words = (self.direction, self.variant, self.dtype, self.precision, layout, self.order)
        return "-".join(map(str, (self.layer, *words)))


# ---- the plan ----


def emulated_module():
    try:
        return importlib.import_module("cuconv._C_emulated_plain")
    except ImportError:
        return None


MODULE = emulated_module()


@functools.cache
def variants(direction):
    listed = MODULE.conv_variants() if MODULE else []
    return [name for name, family, of in listed if family in FAMILIES and of == direction]


@functools.cache
def accepts(variant, direction, layer, dtype, precision, channels_last=True):
    x, w, _ = layer.shapes
    sizes = sizes_of(conv_call(layer.rank, dtype, x, w, **layer.options).problem)
    request = (direction, variant, dtype.name, precision, NO_LIMIT, sizes, channels_last)
    return not MODULE.conv_suits(*request)[0]


def kinds_of(variant, direction):
    """What a variant takes, by the layers themselves: a kind counts if it does one of them."""
    return [
        kind for kind in KINDS if any(accepts(variant, direction, layer, *kind) for layer in LAYERS)
    ]


def layouts_of(variant):
    """(channels last,): TMA reads those alone."""
    return (True,) if "_sm90_" in variant else (False, True)


class Rotation:
    """Deals out the dtypes, layouts and orders of one variant in one direction."""

    def __init__(self, variant, direction):
        self.variant, self.direction = variant, direction
        self.waiting = list(itertools.product(layouts_of(variant), kinds_of(variant, direction)))
        self.met = collections.Counter()  # by group of layers
        self.count = 0

    def suited(self, layer):
        """The next in turn of what the variant takes of this layer, or None."""
        for turn in self.waiting:
            if accepts(self.variant, self.direction, layer, *turn[1], turn[0]):
                return turn
        return None

    def case(self, layer):
        turn = self.suited(layer)
        self.waiting.remove(turn)
        self.waiting.append(turn)
        self.met.update(layers.distinct()[layer])
        self.count += 1
        rounds = self.count // len(self.waiting)  # or dtypes and orders could stay in step
        if (len(self.waiting) + 1) % len(ORDERS) == 0:
            rounds *= 2  # or each round would begin with the same order
        order = ORDERS[(self.count + rounds) % len(ORDERS)]
        channels_last, kind = turn
        return Case(layer, self.direction, self.variant, *kind, channels_last, order)


def planned_in(direction):
    """Two variants for each layer, those that know least of its groups; then what is missing."""
    names = variants(direction)
    first = len(names) * DIRECTIONS.index(direction) // len(DIRECTIONS)
    # Each direction begins elsewhere, or a layer would meet the same two in all of them.
    rotations = [Rotation(name, direction) for name in names[first:] + names[:first]]
    cases = []
    for layer, groups in layers.distinct().items():
        able = [r for r in rotations if r.suited(layer)]
        able.sort(key=lambda r, groups=groups: (min(r.met[g] for g in groups), r.count))
        cases += [r.case(layer) for r in able[:2]]
    for rotation, group in itertools.product(rotations, layers.load()["groups"]):
        if group["rows"] and not rotation.met[group["name"]]:
            done = collections.Counter(case.layer for case in cases)
            able = [
                layer
                for layer, groups in layers.distinct().items()
                if group["name"] in groups and rotation.suited(layer)
            ]
            if able:
                cases.append(rotation.case(min(able, key=lambda n: (done[n], n.work))))
    return cases


CASES = [case for direction in DIRECTIONS for case in planned_in(direction)]


def test_the_plan_covers(emulated):
    assert len(set(CASES)) == len(CASES)
    by_layer = collections.defaultdict(set)
    for case in CASES:
        by_layer[case.layer, case.direction].add(case.variant)
    for layer, direction in itertools.product(LAYERS, DIRECTIONS):
        done = by_layer[layer, direction]
        assert len(done) >= 2, f"{layer}, {direction}: only by {done}"

    groups = {group["name"] for group in layers.load()["groups"] if group["rows"]}
    for direction in DIRECTIONS:
        assert variants(direction)
        for variant in variants(direction):
            cases = [c for c in CASES if (c.variant, c.direction) == (variant, direction)]
            met = {name for case in cases for name in layers.distinct()[case.layer]}
            within = groups - OUT_OF_REACH if "_sm90_" in variant else groups
            assert met == within, f"{variant}, {direction} never meets {within - met}"
            for what, wanted in (
                (lambda c: (c.dtype, c.precision), kinds_of(variant, direction)),
                (lambda c: (c.dtype, c.channels_last), None),
                (lambda c: c.order, ORDERS),
            ):
                if wanted is None:
                    dtypes = {dtype for dtype, _ in kinds_of(variant, direction)}
                    wanted = itertools.product(dtypes, layouts_of(variant))
                missing = set(wanted) - set(map(what, cases))
                assert not missing, f"{variant}, {direction} never does {missing}"


# ---- the calls ----


@functools.lru_cache(maxsize=64)
def call_of(layer, direction, dtype, channels_last):
    """(function, arguments, options, result expected): small integers, and the exact result."""
    rng = np.random.default_rng([LAYERS.index(layer), *dtype.name.encode()])
    x, w, y = (problems.integers(rng, shape, dtype) for shape in layer.shapes)
    options = dict(layer.options)
    if channels_last:
        options["layout"] = problems.LAST[layer.rank]
        x, w, y = (np.moveaxis(a, 1, -1).copy() for a in (x, w, y))
    name, arguments = {
        "forward": ("conv{}d", (x, w)),
        "input_grad": ("conv{}d_input_grad", (y, w, x.shape)),
        "weight_grad": ("conv{}d_weight_grad", (y, x, w.shape)),
    }[direction]
    function = getattr(cuconv, name.format(layer.rank))
    with cuconv.use_backend("reference"):
        want = function(*arguments, **options)
    if dtype in LARGEST:
        largest = np.abs(want.astype("f8")).max()
        assert largest <= LARGEST[dtype], f"{layer}: a result of {largest} is not exact in {dtype}"
    return function, arguments, options, want


@pytest.mark.parametrize("case", CASES, ids=str)
def test_variant_is_exact_on_a_layer(emulated, case):
    request = (case.layer, case.direction, case.dtype, case.channels_last)
    function, arguments, options, want = call_of(*request)
    choice = {**emulated.options(), "variant": case.variant, "order": case.order}
    with cuconv.use_backend("emulated", **choice):
        got = function(*arguments, **options, precision=case.precision)
    assert_equal(got, want)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_numpy_is_exact_on_a_layer(layer, direction):
    turn = LAYERS.index(layer) + DIRECTIONS.index(direction)
    dtype = problems.ALL[turn % len(problems.ALL)]
    request = (layer, direction, dtype, bool(turn // len(problems.ALL) % 2))
    function, arguments, options, want = call_of(*request)
    with cuconv.use_backend("numpy"):
        assert_equal(function(*arguments, **options), want)


# ---- the layers ----


def test_scaling_keeps_what_is_peculiar():
    for group in layers.load()["groups"]:
        for row in group["rows"]:
            small = layers.scaled(row)
            assert 0 < small.work <= layers.MOST_WORK
            assert min(small.output) > 0
            for n, of in ((small.channels, "C"), (small.filters, "K")):
                assert n <= row[of]
                if row["groups"] == 1:
                    assert n % 8 == row[of] % 8
            depthwise = row["groups"] > 1 and row["groups"] == row["C"]
            assert depthwise == (small.groups > 1 and small.groups == small.channels)
            assert (small.groups > 1) == (row["groups"] > 1)
            axes = "HW"[-small.rank :]
            for i, axis in enumerate(axes):
                a = axis.lower()
                assert small.input[i] <= row[axis]
                assert (small.input[i] - row[axis]) % 2 == 0
                assert (small.input[i] - row[axis]) % small.stride[i] == 0
                assert small.kernel[i] == row["RS"["HW".index(axis)]]
                assert small.stride[i] == row[f"stride_{a}"]
                assert small.padding[i] == row[f"pad_{a}"]
                assert small.dilation[i] == row[f"dil_{a}"]


def test_there_are_many_layers():
    assert 100 <= len(LAYERS) <= 180
    names = {name for found in layers.distinct().values() for name in found}
    assert names == {group["name"] for group in layers.load()["groups"] if group["rows"]}
