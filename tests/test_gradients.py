"""Every gradient in the API against central differences of its forward function.

The differences are taken of L(a) = Re <g, f(a)>. Operands are small integers and f is linear (or
linear between its kinks, which no step reaches), so that the differences are exact in float64 and
the gradients must be *equal* to them; only the mean of a window is rounded.
"""

from functools import cache

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal, assert_within

DTYPES = ("float64", "complex128")
RANKS = (1, 2, 3)


def named(template, rank):
    return getattr(cuconv, template.format(rank))


def inner(g, y):
    """The loss: real, also of complex arrays."""
    return float(np.vdot(g, y).real)


def differences(loss, a, step=0.5):
    """The gradient of a real loss at `a`; for complex arrays dL/dRe + i dL/dIm."""
    gradient = np.zeros(a.shape, a.dtype)
    for unit in (1, 1j) if a.dtype.kind == "c" else (1,):
        for index in np.ndindex(a.shape):
            move = np.zeros(a.shape, a.dtype)
            move[index] = step * unit
            gradient[index] += unit * (loss(a + move) - loss(a - move)) / (2 * step)
    return gradient


def drawn(seed, shape, dtype="float64"):
    return problems.integers(np.random.default_rng(seed), shape, np.dtype(dtype))


# ---- convolution ----

SIZE = {1: (7,), 2: (5, 4), 3: (4, 3, 2)}  # longer than every border, which may mirror it
KERNEL = {1: (3,), 2: (3, 2), 3: (2, 1, 2)}
PAIRS = ((2, 1), (0, 1), (1, 0))

CONV = {
    "plain": {},
    "stride": {"stride": 2},
    "dilation": {"dilation": 2, "padding": 1},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "pairs": {"padding": PAIRS},
    "same": {"padding": "same", "stride": 2},
    "same_lower": {"padding": "same_lower", "dilation": 2},
    "full": {"padding": "full"},
    "reflect": {"padding": PAIRS, "padding_mode": "reflect"},
    "replicate": {"padding": PAIRS, "padding_mode": "replicate", "stride": 2},
    "circular": {"padding": PAIRS, "padding_mode": "circular"},
    "flipped": {"flip_kernel": True, "stride": 2, "padding": PAIRS},
    "channels_last": {"layout": "last", "padding": PAIRS},
    "no_batch": {"batch": None},
    "together": {
        "stride": 2,
        "dilation": 2,
        "groups": 2,
        "padding": PAIRS,
        "padding_mode": "circular",
        "flip_kernel": True,
        "layout": "last",
    },
}


class ConvCase:
    """Operands of a convolution, a gradient of its result, and what the differences say."""

    def __init__(self, rank, case, dtype):
        options = dict(CONV[case])
        batch = options.pop("batch", 2)
        last = options.pop("layout", None) == "last"
        groups = options.get("groups", 1)
        if options.get("padding") is PAIRS:
            options["padding"] = PAIRS[:rank]
        channels = max(2, groups)
        x = drawn(1, (batch or 1, channels, *SIZE[rank]), dtype)
        w = drawn(2, (max(3, groups) // groups * groups, channels // groups, *KERNEL[rank]), dtype)
        if last:
            options["layout"] = problems.LAST[rank]
            x, w = np.moveaxis(x, 1, -1).copy(), np.moveaxis(w, 1, -1).copy()
        self.x, self.w = (x if batch else x[0]), w
        self.bias = drawn(3, w.shape[:1], dtype)
        self.rank, self.options = rank, options
        with cuconv.use_backend("reference"):
            self.y = self.forward(self.x, self.w, self.bias)
            self.g = drawn(4, self.y.shape, dtype)
            self.gx = differences(lambda a: inner(self.g, self.forward(a, w, self.bias)), self.x)
            self.gw = differences(lambda a: inner(self.g, self.forward(self.x, a, self.bias)), w)
            self.gb = differences(lambda a: inner(self.g, self.forward(self.x, w, a)), self.bias)

    def forward(self, x, w, bias):
        return named("conv{}d", self.rank)(x, w, bias, **self.options)

    def input_grad(self, backend, **wrong):
        function = named("conv{}d_input_grad", self.rank)
        return backend.run(function, self.g, self.w, self.x.shape, **(self.options | wrong))

    def weight_grad(self, backend, **wrong):
        function = named("conv{}d_weight_grad", self.rank)
        return backend.run(function, self.g, self.x, self.w.shape, **(self.options | wrong))

    def bias_grad(self, backend):
        function = named("conv{}d_bias_grad", self.rank)
        return backend.run(function, self.g, layout=self.options.get("layout"))


# The differences are the oracle's, which every backend's forward must equal: taken once for all.
conv_case = cache(ConvCase)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONV)
@pytest.mark.parametrize("rank", RANKS)
def test_convolution(backend, rank, case, dtype):
    c = conv_case(rank, case, dtype)
    assert_equal(backend.run(c.forward, c.x, c.w, c.bias), c.y)
    assert_equal(c.input_grad(backend), c.gx)
    assert_equal(c.weight_grad(backend), c.gw)
    assert_equal(c.bias_grad(backend), c.gb)


@pytest.mark.parametrize("rank", RANKS)
def test_the_activation_is_undone_first(backend, rank):
    """A layer with bias and ReLU."""
    x, w = drawn(1, (2, 2, *SIZE[rank])), drawn(2, (3, 2, *KERNEL[rank]))
    bias = np.full(3, 0.25)  # sums of integers stay a quarter off zero: no step crosses it

    def forward(x, w, bias):
        return named("conv{}d", rank)(x, w, bias, activation="relu")

    y = backend.run(forward, x, w, bias)
    g = drawn(3, y.shape)
    with cuconv.use_backend("reference"):
        gx = differences(lambda a: inner(g, forward(a, w, bias)), x, step=1 / 16)
        gw = differences(lambda a: inner(g, forward(x, a, bias)), w, step=1 / 16)
        gb = differences(lambda a: inner(g, forward(x, w, a)), bias, step=1 / 16)
    masked = backend.run(cuconv.relu_grad, g, y)
    assert_equal(backend.run(named("conv{}d_input_grad", rank), masked, w, x.shape), gx)
    assert_equal(backend.run(named("conv{}d_weight_grad", rank), masked, x, w.shape), gw)
    assert_equal(backend.run(named("conv{}d_bias_grad", rank), masked), gb)


TRANSPOSED = {
    "plain": {},
    "stride": {"stride": 2, "output_padding": 1},
    "dilation": {"dilation": 2, "padding": ((1, 0), (0, 1), (1, 1))},
    "groups": {"groups": 2, "stride": 2, "padding": 1},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", TRANSPOSED)
@pytest.mark.parametrize("rank", RANKS)
def test_transposed_convolution(backend, rank, case, dtype):
    """It is linear in x and w; its gradients are a convolution and a filter gradient of that."""
    options = dict(TRANSPOSED[case])
    if isinstance(options.get("padding"), tuple):
        options["padding"] = options["padding"][:rank]
    forward = named("conv_transpose{}d", rank)
    x = drawn(1, (2, 2, *(3, 2, 2)[:rank]), dtype)
    w = drawn(2, (2, 3, *KERNEL[rank]), dtype)
    y = backend.run(forward, x, w, **options)
    g = drawn(3, y.shape, dtype)
    with cuconv.use_backend("reference"):
        gx = differences(lambda a: inner(g, forward(a, w, **options)), x)
        gw = differences(lambda a: inner(g, forward(x, a, **options)), w)
    options.pop("output_padding", None)
    # Bilinear: nothing in the forward call is conjugated, so all of it is in the gradients.
    assert_equal(backend.run(named("conv{}d", rank), g, w.conj(), **options), gx)
    got = backend.run(named("conv{}d_weight_grad", rank), x, g, w.shape, **options)
    assert_equal(got.conj(), gw)


# ---- pooling and ReLU ----

MAX_POOL = {
    "disjoint": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 1, "padding": 1},
    "dilated": {"kernel_size": 2, "stride": 1, "dilation": 2, "padding": 1},
    "pairs": {"kernel_size": 3, "stride": 2, "padding": PAIRS},
    "ceil": {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    "same": {"kernel_size": 3, "stride": 2, "padding": "same"},
    "channels_last": {"kernel_size": 2, "stride": 1, "layout": "last"},
}
AVG_POOL = {
    "disjoint": {"kernel_size": 2},
    "overlapping": {"kernel_size": 3, "stride": 1, "padding": 1},
    "border_left_out": {
        "kernel_size": 3,
        "stride": 2,
        "padding": PAIRS,
        "count_include_pad": False,
    },
    "ceil": {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    "same": {"kernel_size": 3, "stride": 2, "padding": "same"},
    "channels_last": {"kernel_size": 2, "stride": 1, "layout": "last"},
}


def pool_options(rank, case):
    options = dict(case)
    if options.get("padding") is PAIRS:
        options["padding"] = PAIRS[:rank]
    if options.get("layout") == "last":
        options["layout"] = problems.LAST[rank]
    return options


@pytest.mark.parametrize("case", MAX_POOL)
@pytest.mark.parametrize("rank", RANKS)
def test_max_pool(backend, rank, case):
    options = pool_options(rank, MAX_POOL[case])
    forward = named("max_pool{}d", rank)
    # All elements differ by 1 and more: no step of a half changes which of them is the largest.
    shape = (2, 2, *SIZE[rank])
    x = np.random.default_rng(1).permutation(np.prod(shape)).reshape(shape).astype("float64")
    y, indices = backend.run(forward, x, return_indices=True, **options)
    g = drawn(2, y.shape)
    with cuconv.use_backend("reference"):
        gx = differences(lambda a: inner(g, forward(a, **options)), x, step=0.25)
    function = named("max_pool{}d_grad", rank)
    got = backend.run(function, g, indices, x.shape, layout=options.get("layout"))
    assert_equal(got, gx)
    assert_equal(backend.run(function, g, indices, x.shape, **options), gx)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", AVG_POOL)
@pytest.mark.parametrize("rank", RANKS)
def test_avg_pool(backend, rank, case, dtype):
    options = pool_options(rank, AVG_POOL[case])
    forward = named("avg_pool{}d", rank)
    x = drawn(1, (2, 2, *SIZE[rank]), dtype)
    y = backend.run(forward, x, **options)
    g = drawn(2, y.shape, dtype)
    with cuconv.use_backend("reference"):
        gx = differences(lambda a: inner(g, forward(a, **options)), x)
    # A difference of two sums of at most 600 products, each below 20.
    bound = 600 * 20 * np.finfo("float64").eps
    got = backend.run(named("avg_pool{}d_grad", rank), g, x.shape, **options)
    assert_within(got, gx, bound)


def test_relu(backend):
    x = drawn(1, (2, 3, 5)) + 0.5  # no step of a quarter crosses zero
    g = drawn(2, x.shape)
    with cuconv.use_backend("reference"):
        gx = differences(lambda a: inner(g, cuconv.relu(a)), x, step=0.25)
    assert_equal(backend.run(cuconv.relu_grad, g, backend.run(cuconv.relu, x)), gx)
    assert_equal(backend.run(cuconv.relu_grad, g, x), gx)


# ---- the check itself ----


def test_every_gradient_of_the_api_is_checked():
    convolution = {f"conv{r}d_{of}_grad" for r in RANKS for of in ("input", "weight", "bias")}
    pooling = {f"{kind}_pool{r}d_grad" for r in RANKS for kind in ("max", "avg")}
    exported = {name for name in cuconv.__all__ if name.endswith("_grad")}
    assert exported == convolution | pooling | {"relu_grad"}


WRONG = {
    "not_flipped_back": {"flip_kernel": False},
    "border_of_zeros": {"padding_mode": "zeros"},
    "border_on_the_other_side": {"padding": tuple((high, low) for low, high in PAIRS[:2])},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_option_is_caught(reference, wrong):
    c = conv_case(2, "together", "complex128")
    for gradient, want in ((c.input_grad, c.gx), (c.weight_grad, c.gw)):
        assert_equal(gradient(reference), want)
        with pytest.raises(AssertionError, match="differ, first at"):
            assert_equal(gradient(reference, **WRONG[wrong]), want)


def test_a_missing_conjugate_is_caught(reference):
    c = conv_case(2, "plain", "complex128")
    wrong = reference.run(cuconv.conv2d_input_grad, c.g, c.w.conj(), c.x.shape)
    with pytest.raises(AssertionError, match="differ, first at"):
        assert_equal(wrong, c.gx)


def test_one_wrong_element_is_caught(reference):
    c = conv_case(1, "plain", "float64")
    wrong = c.weight_grad(reference)
    wrong[-1, -1, -1] *= 1 + 1e-12
    wrong[-1, -1, -1] += 1e-12
    with pytest.raises(AssertionError, match="1 of 18 differ"):
        assert_equal(wrong, c.gw)
