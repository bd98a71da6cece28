"""Calls that the tests of the matrix-product families share: drawn, forced, and their bounds."""

import numpy as np

import cuconv
import problems
from compare import assert_within, sum_bound, wide
from cuconv._backends._kernels_conv import NO_LIMIT, sizes_of
from cuconv._problem import conv_call
from test_registry import FUNCTIONS, MODULE

F = np.dtype("float32")
HALF = np.dtype("float16")
LEAST_CUT = 1024  # terms: shorter sums are in one piece


def run(emulated, variant, function, arguments, options):
    with cuconv.use_backend("emulated", variant=variant, **emulated.options()):
        return function(*arguments, **options)


def suits(variant, direction, kind, x, w, limit=None, **options):
    """(refusal, bytes of workspace) for arrays like these."""
    dtype, precision = kind
    sizes = sizes_of(conv_call(x.ndim - 2, dtype, x.shape, w.shape, **options).problem)
    limit = NO_LIMIT if limit is None else limit
    return MODULE.conv_suits(direction, variant, dtype.name, precision, limit, sizes)[:2]


def call_in(direction, x, w, g):
    """(function, arguments) of a 2-D problem."""
    return {
        "forward": (cuconv.conv2d, (x, w)),
        "input_grad": (cuconv.conv2d_input_grad, (g, w, x.shape)),
        "weight_grad": (cuconv.conv2d_weight_grad, (g, x, w.shape)),
    }[direction]


def terms_of(direction, arguments, options):
    """How long its sums are."""
    if direction == "forward":
        return arguments[1][0].size + 1  # and the bias
    first, second, shape = arguments
    first_channel = options.get("layout", "NCHW")[-1] != "C"
    if direction == "input_grad":
        channels = shape[-(second.ndim - 1)] if first_channel else shape[-1]
        return second.size // channels
    filters = first.shape[-(len(shape) - 1)] if first_channel else first.shape[-1]
    return first.size // filters


def drawn(reference, seed, rank, dtype, direction, by_tma="", **changes):
    """A problem of random numbers as (function, arguments, options) in one direction."""
    p = problems.draw_conv(seed, rank, dtype, make=problems.normal, by_tma=by_tma)
    p.options.update(changes)
    function = getattr(cuconv, FUNCTIONS[direction].format(rank))
    if direction == "forward":
        return function, (p.x, p.w, p.bias), p.options
    y = reference.run(getattr(cuconv, f"conv{rank}d"), p.x, p.w, **p.options)
    rng = np.random.default_rng(seed)
    g = problems.arranged(rng, problems.normal(rng, y.shape, dtype))
    if direction == "input_grad":
        return function, (g, p.w, p.x.shape), p.options
    return function, (g, p.x, p.w.shape), p.options


def in_layout(a, layout):
    return a if layout == "NCHW" else np.moveaxis(a, 1, -1).copy()


def within(got, call, dtype, precision, reference, terms):
    """The documented bounds, docs/bounds.md."""
    function, arguments, options = call
    numbers = [wide(a) if isinstance(a, np.ndarray) else a for a in arguments]
    exact = reference.run(function, *numbers, **options)
    sizes = [np.abs(a) if isinstance(a, np.ndarray) else a for a in numbers]
    absolute = reference.run(function, *sizes, **options)
    bound = sum_bound(dtype, terms, absolute, exact)
    if precision == "tf32":
        bound = bound + (2.0**-10 + 2.0**-22) * absolute
    elif precision == "tf32x3":
        bound = sum_bound(dtype, 3 * terms, absolute, exact) + 3 * 2.0**-22 * absolute
    assert_within(got, exact, bound)
