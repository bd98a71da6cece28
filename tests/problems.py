"""Drawn problems: legal calls of every kind, small, from a seed.

Values are small integers: every partial sum is exact in every dtype, so that all orders of
summation give the same bits.
"""

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REAL = tuple(np.dtype(t) for t in ("float32", "float64", "float16", BFLOAT16))
ALL = (*REAL, np.dtype("complex64"), np.dtype("complex128"))

FIRST = {1: "NCL", 2: "NCHW", 3: "NCDHW"}
LAST = {1: "NLC", 2: "NHWC", 3: "NDHWC"}
MODES = ("zeros", "zeros", "zeros", "reflect", "replicate", "circular")


def integers(rng, shape, dtype):
    most = 1 if dtype.itemsize == 2 else 3
    values = rng.integers(-most, most + 1, shape).astype(np.float64)
    if dtype.kind == "c":
        return (values + 1j * rng.integers(-most, most + 1, shape)).astype(dtype)
    return values.astype(dtype)


def normal(rng, shape, dtype):
    values = rng.standard_normal(shape)
    if dtype.kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


# ---- the same values in other places of memory ----


def reversed_view(a):
    return np.flip(np.flip(a).copy())


def sliced_view(a):
    big = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    view = big[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def shifted_view(a):
    """Aligned to its element alone."""
    flat = np.empty(a.size + 1, a.dtype)
    view = flat[1:].reshape(a.shape)
    view[...] = a
    return view


def absurd_view(a):
    """Strides of 2**40 and more along axes of one element, where nobody steps."""
    steps = [
        s if n > 1 else (1 << 40) * a.itemsize for s, n in zip(a.strides, a.shape, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(a, a.shape, steps)


ARRANGEMENTS = (
    np.ascontiguousarray,
    np.asfortranarray,
    reversed_view,
    sliced_view,
    shifted_view,
    absurd_view,
)


def arranged(rng, a):
    return ARRANGEMENTS[int(rng.integers(len(ARRANGEMENTS)))](a)


# ---- convolution ----


@dataclass
class Conv:
    """The arguments of a forward call. `options` are those its gradients take, too."""

    rank: int
    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray | None
    options: dict = field(default_factory=dict)
    activation: str | None = None

    def __str__(self):
        words = [f"{k}={v!r}" for k, v in self.options.items()]
        bias = "bias" if self.bias is not None else "no bias"
        return (
            f"conv{self.rank}d(x {self.x.dtype}{list(self.x.shape)} {self.x.strides}, "
            f"w {list(self.w.shape)} {self.w.strides}, {bias}, {self.activation}, "
            f"{', '.join(words)})"
        )


def draw_padding(rng, rank, kernel, dilation):
    form = int(rng.integers(7))
    if form == 0:
        return 0
    if form == 1:
        return int(rng.integers(3))
    if form == 2:
        return tuple(int(n) for n in rng.integers(0, 3, rank))
    if form == 3:
        return str(rng.choice(["valid", "same", "same_lower", "full"]))
    reach = [
        d * (k - 1) + 3 for k, d in zip(kernel, dilation, strict=True)
    ]  # past the kernel's reach, too
    return tuple((int(rng.integers(n)), int(rng.integers(n))) for n in reach)


def draw_conv(seed, rank, dtype, make=integers, layouts=True, kernel=None, by_tma=""):
    """With `kernel` of that one, undilated at stride 1, as Winograd's algorithm takes it; `by_tma`
    of sizes and layout that the kernels of sm_90 take in that direction."""
    rng = np.random.default_rng([seed, rank, *dtype.name.encode()])
    groups = int(rng.choice([1, 1, 2, 3]))
    whole_lines = groups > 1 and by_tma != "weight_grad"
    unit = (64 if whole_lines else 8) if by_tma else 1
    c, k = groups * unit * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    k *= unit if by_tma in ("input_grad", "weight_grad") else 1
    free = kernel is None
    drawn = tuple(int(n) for n in rng.integers(1, 5 if rank < 3 else 4, rank))
    kernel = drawn if free else kernel
    dilation = tuple(int(n) for n in rng.choice([1, 1, 2, 3], rank)) if free else (1,) * rank
    mode = str(rng.choice(MODES))
    padding = draw_padding(rng, rank, kernel, dilation)
    if mode != "zeros" and not isinstance(padding, str):
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (rank, 2)))
    # Long enough for the kernel, and H never equals W.
    reach = [d * (n - 1) + 1 for n, d in zip(kernel, dilation, strict=True)]
    least = 1 if mode == "zeros" else 3  # what a border of two can be made of
    size = [max(least, n) + int(rng.integers(1, 6)) for n in reach]
    for axis in range(1, rank):
        while size[axis] in size[:axis]:
            size[axis] += 1
    options = {
        "stride": tuple(int(n) for n in rng.integers(1, 4, rank)) if free else 1,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": mode,
        "flip_kernel": bool(rng.integers(2)),
    }
    batch = int(rng.choice([1, 2, 3]))
    x, w = make(rng, (batch, c, *size), dtype), make(rng, (k, c // groups, *kernel), dtype)
    if (layouts and rng.integers(2)) or by_tma:
        options["layout"] = LAST[rank]
        x, w = np.moveaxis(x, 1, -1).copy(), np.moveaxis(w, 1, -1).copy()
    if batch == 1 and rng.integers(2):
        x = x[0]
    if rng.integers(8) == 0 and x.ndim == rank + 2:
        x = np.broadcast_to(x[:1], x.shape)  # zero strides
    else:
        x = arranged(rng, x)
    bias = arranged(rng, make(rng, (k,), dtype)) if rng.integers(3) else None
    activation = None
    if dtype.kind != "c" and rng.integers(3) == 0:
        activation = "relu"
    return Conv(rank, x, arranged(rng, w), bias, options, activation)


def draw_transposed(seed, rank, dtype, make=integers):
    """(x, w, bias, options) of a transposed convolution."""
    rng = np.random.default_rng([seed, rank, *dtype.name.encode(), 7])
    groups = int(rng.choice([1, 1, 2]))
    c, k = groups * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    kernel = tuple(int(n) for n in rng.integers(1, 5 if rank < 3 else 4, rank))
    stride = tuple(int(n) for n in rng.integers(1, 4, rank))
    dilation = tuple(int(n) for n in rng.integers(1, 4, rank))
    size = tuple(int(n) for n in rng.integers(2, 6, rank))
    full = [
        (n - 1) * s + d * (r - 1) + 1
        for n, s, d, r in zip(size, stride, dilation, kernel, strict=True)
    ]
    padding = tuple(
        (int(rng.integers(min(3, (n + 1) // 2))), int(rng.integers(min(3, (n + 1) // 2))))
        for n in full
    )
    options = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "output_padding": tuple(
            int(rng.integers(max(s, d))) for s, d in zip(stride, dilation, strict=True)
        ),
    }
    x, w = make(rng, (2, c, *size), dtype), make(rng, (c, k, *kernel), dtype)
    if rng.integers(2):
        options["layout"] = LAST[rank]
        x, w = np.moveaxis(x, 1, -1).copy(), np.moveaxis(w, 1, -1).copy()
    bias = make(rng, (k * groups,), dtype) if rng.integers(2) else None
    return arranged(rng, x), arranged(rng, w), bias, options


# ---- pooling ----


def draw_pool(seed, rank, dtype, dilated, make=integers):
    """(x, kernel_size, options) of a pooling."""
    rng = np.random.default_rng([seed, rank, *dtype.name.encode(), 11])
    window = tuple(int(n) for n in rng.integers(1, 5 if rank < 3 else 4, rank))
    dilation = tuple(int(n) for n in rng.integers(1, 3, rank)) if dilated else (1,) * rank
    reach = [d * (n - 1) + 1 for n, d in zip(window, dilation, strict=True)]
    size = [n + int(rng.integers(0, 6)) for n in reach]
    for axis in range(1, rank):
        while size[axis] in size[:axis]:
            size[axis] += 1
    options = {
        "stride": tuple(int(n) for n in rng.integers(1, 5, rank)),
        "ceil_mode": bool(rng.integers(2)),
    }
    form = int(rng.integers(3))
    if form == 0:
        options["padding"] = str(rng.choice(["valid", "same", "same_lower"]))
    elif form == 1:
        options["padding"] = tuple((int(rng.integers(n)), int(rng.integers(n))) for n in reach)
    if dilated:
        options["dilation"] = dilation
    x = make(rng, (int(rng.integers(1, 3)), int(rng.integers(1, 4)), *size), dtype)
    if rng.integers(2):
        options["layout"] = LAST[rank]
        x = np.moveaxis(x, 1, -1).copy()
    if x.shape[0] == 1 and rng.integers(2):
        x = x[0]
    return arranged(rng, x), window, options
