"""Validation and output shapes: the only Python copy of both.

`ConvProblem` and `PoolProblem` are canonical (see `cuconv._backends._protocol`): channels first,
three spatial axes, padding as explicit (low, high) integers. `ConvCall` and `PoolCall` keep what
the caller wrote beside them: shapes in the caller's layout, and how to get from one to the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuconv import _arguments as arguments
from cuconv._arguments import LIMIT, Pairs
from cuconv._layout import Layout, Triple, read_layout, triple


@dataclass(frozen=True, slots=True)
class ConvProblem:
    """y[n,k,p] = sum over c, r of x[n, c, p*stride + r*dilation - pad_low] * w[k,c,r].

    `input`, `kernel`, `output` and the parameters are (D, H, W) triples; `rank` says how many of
    the three axes the caller has (the last ones). Channel counts are totals over all groups.
    """

    rank: int
    dtype: np.dtype
    batch: int
    groups: int
    in_channels: int
    out_channels: int
    input: Triple
    kernel: Triple
    output: Triple
    stride: Triple
    pad_low: Triple  # may exceed the kernel or be negative (cropping) in derived problems
    pad_high: Triple
    dilation: Triple

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.output)


@dataclass(frozen=True, slots=True)
class PoolProblem:
    """A pooling: window `window` every `stride`, over an input padded by pad_low and pad_high.

    `ceil_mode` has already acted on `output`; windows may then reach past pad_high, and those parts
    count for nothing (maximum) and are left out of the divisor (average).
    """

    rank: int
    dtype: np.dtype
    batch: int
    channels: int
    input: Triple
    window: Triple
    output: Triple
    stride: Triple
    pad_low: Triple
    pad_high: Triple
    dilation: Triple
    count_include_pad: bool = True  # average only

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.input)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.output)


# ---- what all windows have in common ----


def window_span(kernel: int, dilation: int) -> int:
    """How far a window reaches along an axis."""
    return dilation * (kernel - 1) + 1


def named_padding(
    name: str,
    axes: tuple[str, ...],
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    allowed: tuple[str, ...],
) -> Pairs:
    """Padding given as a word. The same ones: an output of ceil(input / stride)."""
    arguments.choice("padding", name, allowed)
    pairs = []
    for axis in range(len(axes)):
        span = window_span(kernel[axis], dilation[axis])
        if name == "valid":
            pairs.append((0, 0))
        elif name == "full":
            pairs.append((span - 1, span - 1))
        else:
            outputs = -(-sizes[axis] // stride[axis])
            total = max(0, (outputs - 1) * stride[axis] + span - sizes[axis])
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if name == "same" else (large, small))
    return tuple(pairs)


def output_size(
    axis: str, size: int, pad: tuple[int, int], kernel: int, stride: int, dilation: int
) -> int:
    """Windows that fit along an axis, in exact integers."""
    span = window_span(kernel, dilation)
    padded = size + pad[0] + pad[1]
    for what, number in (("the padded input", padded), ("the kernel's reach", span)):
        if number > LIMIT:
            raise ValueError(f"{what} along {axis} is {number}, beyond 2**63 - 1")
    if padded < span:
        raise ValueError(
            f"no output along {axis}: input {size} padded by {pad[0]} and {pad[1]} is {padded}, "
            f"but a kernel of {kernel} with dilation {dilation} reaches over {span}"
        )
    return (padded - span) // stride + 1


def check_addressable(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    size = math.prod(shape) * dtype.itemsize
    if size > LIMIT:
        raise ValueError(f"{name} of shape {shape} would take {size} bytes, beyond 2**63 - 1")


# ---- convolution ----


@dataclass(frozen=True, slots=True)
class ConvCall:
    """A convolution as the caller wrote it: shapes in the caller's layout, and the problem.

    With a padding mode other than zeros the input is padded by `border` first, and `problem` is
    that of the padded input.
    """

    layout: Layout
    flip: bool
    padding_mode: str
    border: Pairs | None
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    problem: ConvProblem

    def shapes(self, direction: str) -> tuple[tuple[int, ...], ...]:
        """Of the two operands and the result, in the caller's layout."""
        x, w, y = self.x_shape, self.w_shape, self.y_shape
        return {"forward": (x, w, y), "input_grad": (y, w, x), "weight_grad": (y, x, w)}[direction]

    def views(self, direction: str, a: Any, b: Any, result: Any) -> tuple[Any, Any, Any]:
        """The canonical views of the three, where no border has to be made first."""
        view = self.layout.view
        if direction == "weight_grad":
            return view(a), view(b), self.layout.weight_view(result, self.flip)
        return view(a), self.layout.weight_view(b, self.flip), view(result)


def conv_call(
    rank: int,
    dtype: Any,
    x_shape: Any,
    w_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: Any = "zeros",
    layout: Any = None,
    flip_kernel: Any = False,
    x_name: str = "x",
    w_name: str = "w",
) -> ConvCall:
    """Checks everything that shapes and options can say about a convolution."""
    order = read_layout(layout, rank)
    flip = arguments.flag("flip_kernel", flip_kernel)
    mode = arguments.choice("padding_mode", padding_mode, arguments.PADDING_MODES)
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    batch, channels, sizes = order.split(x_name, x_shape)
    filters, group_channels, kernel = order.split_weight(w_name, w_shape)
    axes = order.axes

    groups = arguments.integer("groups", groups, 1)
    check_groups(groups, x_name, channels, w_name, filters)
    if group_channels * groups != channels:
        raise ValueError(
            f"{w_name} takes {group_channels} channels a group, but {x_name} has {channels} "
            f"channels in {groups} group{'s' * (groups > 1)}: {w_name} {w_shape}, "
            f"{x_name} {x_shape}"
        )
    steps = arguments.per_axis("stride", stride, axes, 1)
    spread = arguments.per_axis("dilation", dilation, axes, 1)
    if isinstance(padding, str):
        words = ("valid", "same", "same_lower", "full")
        pairs = named_padding(padding, axes, sizes, kernel, steps, spread, words)
    else:
        pairs = arguments.padding_pairs(padding, axes)

    outputs = tuple(
        output_size(axis, *numbers)
        for axis, *numbers in zip(axes, sizes, pairs, kernel, steps, spread, strict=True)
    )
    border = None
    if mode != "zeros" and any(p != (0, 0) for p in pairs):
        check_border(mode, axes, sizes, pairs)
        border = pairs
        sizes = tuple(s + low + high for s, (low, high) in zip(sizes, pairs, strict=True))
        pairs = ((0, 0),) * rank
    problem = ConvProblem(
        rank=rank,
        dtype=arguments.dtype("dtype", dtype),
        batch=1 if batch is None else batch,
        groups=groups,
        in_channels=channels,
        out_channels=filters,
        input=triple(sizes, 1),
        kernel=triple(kernel, 1),
        output=triple(outputs, 1),
        stride=triple(steps, 1),
        pad_low=triple([low for low, _ in pairs], 0),
        pad_high=triple([high for _, high in pairs], 0),
        dilation=triple(spread, 1),
    )
    y_shape = order.join(batch, filters, outputs)
    check_addressable("the result", y_shape, problem.dtype)
    return ConvCall(order, flip, mode, border, x_shape, w_shape, y_shape, problem)


def check_groups(groups: int, x_name: str, channels: int, w_name: str, filters: int) -> None:
    if channels % groups:
        raise ValueError(f"{x_name} has {channels} channels, not divisible by groups={groups}")
    if filters % groups:
        raise ValueError(f"{w_name} has {filters} filters, not divisible by groups={groups}")


def check_border(mode: str, axes: tuple[str, ...], sizes: tuple[int, ...], pairs: Pairs) -> None:
    """A border made of the input's own elements needs enough of them."""
    for axis, size, pair in zip(axes, sizes, pairs, strict=True):
        most = {"reflect": size - 1, "circular": size, "replicate": LIMIT if size else 0}[mode]
        if max(pair) > max(most, 0):
            raise ValueError(
                f"padding {pair} along {axis} is more than padding_mode={mode!r} can take from an "
                f"input of {size} (at most {max(most, 0)} a side)"
            )


def transposed_call(
    rank: int,
    dtype: Any,
    x_shape: Any,
    w_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    layout: Any = None,
) -> ConvCall:
    """A transposed convolution is the input gradient of a convolution that takes y to x.

    So in the problem, and in the shapes of the call, x and y have changed places.
    """
    order = read_layout(layout, rank)
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    batch, channels, sizes = order.split("x", x_shape)
    first, group_filters, kernel = order.split_weight("w", w_shape, "C, K/groups")
    axes = order.axes
    groups = arguments.integer("groups", groups, 1)
    if first != channels:
        raise ValueError(
            f"w takes {first} channels, but x has {channels}: w {w_shape}, x {x_shape} "
            "(a transposed filter is C, K/groups, kernel)"
        )
    check_groups(groups, "x", channels, "w", first)
    steps = arguments.per_axis("stride", stride, axes, 1)
    spread = arguments.per_axis("dilation", dilation, axes, 1)
    if isinstance(padding, str):
        raise ValueError(
            f"padding of a transposed convolution is given in numbers, got {padding!r}"
        )
    pairs = arguments.padding_pairs(padding, axes)
    extra = arguments.per_axis("output_padding", output_padding, axes, 0)

    results = []
    for i, axis in enumerate(axes):
        if extra[i] >= max(steps[i], spread[i]):
            raise ValueError(
                f"output_padding along {axis} must be less than the stride or the dilation "
                f"({steps[i]}, {spread[i]}), got {extra[i]}"
            )
        span = window_span(kernel[i], spread[i])
        low, high = pairs[i]
        size = (sizes[i] - 1) * steps[i] + span - low - high + extra[i]
        if size <= 0:
            raise ValueError(
                f"no output along {axis}: input {sizes[i]} with stride {steps[i]}, a kernel "
                f"reaching over {span}, padding ({low}, {high}) and output_padding {extra[i]} "
                f"give {size}"
            )
        if size > LIMIT:
            raise ValueError(f"the output along {axis} would be {size}, beyond 2**63 - 1")
        results.append(size)
    problem = ConvProblem(
        rank=rank,
        dtype=arguments.dtype("dtype", dtype),
        batch=1 if batch is None else batch,
        groups=groups,
        in_channels=group_filters * groups,
        out_channels=channels,
        input=triple(results, 1),
        kernel=triple(kernel, 1),
        output=triple(sizes, 1),
        stride=triple(steps, 1),
        pad_low=triple([low for low, _ in pairs], 0),
        pad_high=triple([p[1] - e for p, e in zip(pairs, extra, strict=True)], 0),
        dilation=triple(spread, 1),
    )
    y_shape = order.join(batch, problem.in_channels, results)
    check_addressable("the result", y_shape, problem.dtype)
    return ConvCall(order, False, "zeros", None, y_shape, w_shape, x_shape, problem)


# ---- pooling ----


@dataclass(frozen=True, slots=True)
class PoolCall:
    """A pooling as the caller wrote it: shapes in the caller's layout, and the problem."""

    layout: Layout
    x_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    problem: PoolProblem


def pool_call(
    rank: int,
    dtype: np.dtype,
    x_shape: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    layout: Any = None,
    x_name: str = "x",
) -> PoolCall:
    """Checks everything that shapes and options can say about a pooling."""
    order = read_layout(layout, rank)
    x_shape = tuple(x_shape)
    batch, channels, sizes = order.split(x_name, x_shape)
    axes = order.axes
    ceil = arguments.flag("ceil_mode", ceil_mode)
    include = arguments.flag("count_include_pad", count_include_pad)
    for axis, size in zip(axes, sizes, strict=True):
        if size == 0:
            raise ValueError(f"{x_name} has size 0 along {axis}: there is nothing to pool")
    window = arguments.per_axis("kernel_size", kernel_size, axes, 1)
    steps = window if stride is None else arguments.per_axis("stride", stride, axes, 1)
    spread = arguments.per_axis("dilation", dilation, axes, 1)
    if isinstance(padding, str):
        words = ("valid", "same", "same_lower")
        pairs = named_padding(padding, axes, sizes, window, steps, spread, words)
    else:
        pairs = arguments.padding_pairs(padding, axes)

    outputs = []
    for i, axis in enumerate(axes):
        span = window_span(window[i], spread[i])
        if max(pairs[i]) >= span:
            raise ValueError(
                f"padding {pairs[i]} along {axis} reaches the window's size, {span}: a window "
                "could lie wholly in the padding"
            )
        outputs.append(pooled_size(axis, sizes[i], pairs[i], window[i], steps[i], spread[i], ceil))
    problem = PoolProblem(
        rank=rank,
        dtype=dtype,
        batch=1 if batch is None else batch,
        channels=channels,
        input=triple(sizes, 1),
        window=triple(window, 1),
        output=triple(outputs, 1),
        stride=triple(steps, 1),
        pad_low=triple([low for low, _ in pairs], 0),
        pad_high=triple([high for _, high in pairs], 0),
        dilation=triple(spread, 1),
        count_include_pad=include,
    )
    return PoolCall(order, x_shape, order.join(batch, channels, outputs), problem)


def average_call(*arguments: Any, **options: Any) -> PoolCall:
    """The same of an average, whose divisor has to be a 64-bit integer."""
    call = pool_call(*arguments, **options)
    count = math.prod(call.problem.window)
    if count > LIMIT:
        raise ValueError(f"kernel_size counts {count} positions, beyond 2**63 - 1")
    return call


def pooled_size(
    axis: str,
    size: int,
    pad: tuple[int, int],
    window: int,
    stride: int,
    dilation: int,
    ceil: bool,
) -> int:
    """As `output_size`; in ceil mode the last window may reach past the padding.

    But it has to start in the input or the padding before it.
    """
    missing = window_span(window, dilation) - (size + pad[0] + pad[1])
    if not ceil or missing >= stride:
        return output_size(axis, size, pad, window, stride, dilation)
    outputs = -(missing // stride) + 1
    if (outputs - 1) * stride >= size + pad[0]:
        outputs -= 1
    return outputs
