"""The parts of GoogLeNet's Inception module, and the module.

Source of the module: C. Szegedy et al., Going deeper with convolutions (2014), arXiv:1409.4842.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from cuconv import _arguments as arguments
from cuconv._arrays import operands
from cuconv._backends._protocol import Array, ConvPart
from cuconv._conv import conv_options
from cuconv._inception import POOL, conv_part, filter_count, gradients, split_channels
from cuconv._layout import read_layout
from cuconv._problem import conv_call, pool_call


def inception_reduce(
    x: Any,
    weights: Sequence[Any],
    biases: Sequence[Any] | None = None,
    *,
    activation: str | None = "relu",
    layout: str | None = None,
    out: Array | None = None,
) -> list[Array]:
    """Several 1x1 convolutions of one input; on a GPU a kernel for each four, which share it.

    y_i[n,k,p,q] = act(biases[i][k] + sum over c of x[n,c,p,q] * weights[i][k,c])

    Parameters
    ----------
    x : array, (N, C, H, W), or without N
    weights : sequence of arrays, each (K_i, C, 1, 1)
        With layout "NHWC" each (K_i, 1, 1, C).
    biases : sequence of arrays, each (K_i,), optional
    activation : {"relu", "sigmoid", "tanh", None}
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : array, (N, sum of K_i, H, W), optional
        Where all results go, one after the other along the channels.

    Returns
    -------
    list of arrays, each (N, K_i, H, W)
        Views of one block of memory, split by channel.

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv2d`; ValueError where the kernels are not 1 x 1 or the lists differ in length.

    Notes
    -----
    The error bound is that of `conv2d`. Source: arXiv:1409.4842, section 4.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x = np.ones((1, 192, 28, 28), "float32")
    >>> ws = [np.ones((k, 192, 1, 1), "float32") for k in (64, 96, 16)]
    >>> [y.shape[1] for y in cuconv.inception_reduce(x, ws)]
    [64, 96, 16]
    """
    order = read_layout(layout, 2)
    weights = as_list("weights", weights)
    named = [("x", x)] + [(f"weights[{i}]", w) for i, w in enumerate(weights)]
    if biases is not None:
        biases = as_list("biases", biases)
        if len(biases) != len(weights):
            raise ValueError(f"there are {len(weights)} weights, but {len(biases)} biases")
        named += [(f"biases[{i}]", b) for i, b in enumerate(biases)]
    inputs = operands(*named, out=out)
    x, *parts = inputs.arrays
    filters, offsets = parts[: len(weights)], parts[len(weights) :]
    counts = []
    for i, w in enumerate(filters):
        counts.append(filter_count(f"weights[{i}]", order, w, 1))
        if w.shape[1:] != filters[0].shape[1:]:
            raise ValueError(
                f"weights[{i}] has shape {w.shape}, but weights[0] has {filters[0].shape}: "
                "they must agree in all but their filters"
            )
        if offsets and offsets[i].shape != (counts[i],):
            raise ValueError(f"biases[{i}] must have shape ({counts[i]},), got {offsets[i].shape}")
    batch, _, size = order.split("x", x.shape)

    def compute(block: Array) -> None:
        inputs.backend.conv_together(
            [
                conv_part(order, inputs.dtype, (x, w, bias), y, activation)
                for w, bias, y in zip(
                    filters,
                    offsets or [None] * len(filters),
                    split_channels(order, block, counts),
                    strict=True,
                )
            ]
        )

    conv_call(2, inputs.dtype, x.shape, filters[0].shape, layout=layout, w_name="weights[0]")
    conv_options(inputs.dtype, activation=activation)
    block = inputs.result(order.join(batch, sum(counts), size), out).finish(compute)
    return split_channels(order, block, counts)


def as_list(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list of arrays, got {arguments.show(values)}")
    if not values:
        raise ValueError(f"{name} is empty")
    return list(values)


def max_pool_project(
    x: Any,
    w: Any,
    bias: Any = None,
    kernel_size: Any = 3,
    stride: Any = 1,
    padding: Any = 1,
    *,
    activation: str | None = "relu",
    layout: str | None = None,
    out: Array | None = None,
) -> Array:
    """The pooling branch of an Inception module: max-pooling, then a 1x1 convolution.

    y[n,k,p,q] = act(bias[k] + sum over c of w[k,c] * maxpool(x)[n,c,p,q])

    Parameters
    ----------
    x : array, (N, C, H, W), or without N
    w : array, (K, C, 1, 1)
        With layout "NHWC" (K, 1, 1, C).
    bias : array, (K,), optional
    kernel_size, stride, padding
        Of the pooling, as in `max_pool2d`.
    activation : {"relu", "sigmoid", "tanh", None}
    layout : {"NCHW", "NHWC"}, default "NCHW"
    out : array, optional
        Where the result goes.

    Returns
    -------
    array, (N, K, P, Q)

    Raises
    ------
    ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
        As `conv2d` and `max_pool2d`; ValueError where the kernel is not 1 x 1.

    Notes
    -----
    Real dtypes only. The error bound is that of `conv2d`. On a GPU the maxima are taken while the
    convolution loads its operand, and the pooled array is never stored, but for windows of more
    than 1024 taps. Source: arXiv:1409.4842,
    section 4.

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> x, w = np.ones((1, 192, 28, 28), "float32"), np.ones((32, 192, 1, 1), "float32")
    >>> cuconv.max_pool_project(x, w).shape
    (1, 32, 28, 28)
    """
    order = read_layout(layout, 2)
    named = [("x", x), ("w", w)] + ([] if bias is None else [("bias", bias)])
    inputs = operands(*named, out=out, dtypes=arguments.REAL_DTYPES)
    filter_count("w", order, inputs.arrays[1], 1)
    x_channels = order.split("x", inputs.arrays[0].shape)[1]
    w_channels = order.split("w", inputs.arrays[1].shape)[1]
    if x_channels != w_channels:
        raise ValueError(f"w takes {w_channels} channels, but x has {x_channels}")
    x, w, *rest = inputs.arrays
    pool = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
    pooled = pool_call(2, inputs.dtype, x.shape, layout=layout, **pool)
    shape = conv_call(2, inputs.dtype, pooled.y_shape, w.shape, layout=layout).y_shape
    if rest and rest[0].shape != (w.shape[0],):
        raise ValueError(f"bias must have shape ({w.shape[0]},), got {rest[0].shape}")
    conv_options(inputs.dtype, activation=activation)
    arrays = (x, w, rest[0] if rest else None)
    return inputs.result(shape, out).finish(
        lambda y: inputs.backend.conv_together(
            [conv_part(order, inputs.dtype, arrays, y, activation, pool=pool)]
        )
    )


@dataclass(frozen=True)
class InceptionWeights:
    """The twelve arrays of an Inception module: filters and biases of its six convolutions.

    ============ ================ ===============================================
    name         filters (NCHW)   what it does
    ============ ================ ===============================================
    conv1        (K1, C, 1, 1)    the first branch
    reduce3      (R3, C, 1, 1)    reduces the channels before `conv3`
    conv3        (K3, R3, 3, 3)   the second branch
    reduce5      (R5, C, 1, 1)    reduces the channels before `conv5`
    conv5        (K5, R5, 5, 5)   the third branch
    project      (K4, C, 1, 1)    after the 3x3 max-pooling, the fourth branch
    ============ ================ ===============================================

    With layout "NHWC" filters are (K, R, S, C). Biases, `conv1_b` and so on, have shape (K,).
    """

    conv1_w: Array
    conv1_b: Array
    reduce3_w: Array
    reduce3_b: Array
    conv3_w: Array
    conv3_b: Array
    reduce5_w: Array
    reduce5_b: Array
    conv5_w: Array
    conv5_b: Array
    project_w: Array
    project_b: Array


BRANCHES = ("conv1", "conv3", "conv5", "project")  # in the order of their channels
KERNELS = {"conv1": 1, "reduce3": 1, "conv3": 3, "reduce5": 1, "conv5": 5, "project": 1}


class Inception:
    """The whole Inception module of GoogLeNet.

    y = concatenation along the channels of four branches, each convolution with bias and ReLU:

    1x1;   1x1 then 3x3;   1x1 then 5x5;   3x3 max-pooling then 1x1.

    Each branch is written straight into its channels of the one result; nothing is concatenated. On
    a GPU the module is two launches: all that reads x (the first branch, both reductions, and the
    fourth branch, which takes maxima while it loads x), then the 3x3 and the 5x5 convolution.

    Parameters
    ----------
    weights : InceptionWeights
    layout : {"NCHW", "NHWC"}, default "NCHW"

    Raises
    ------
    TypeError
        For arrays that differ in dtype or device, or are not of a real dtype.
    ValueError
        For shapes that do not fit together.

    Notes
    -----
    `module(x, out=None)` takes x, (N, C, H, W) or without N, and gives
    (N, K1 + K3 + K5 + K4, H, W).
    The error bound is that of `conv2d`, twice in the branches of two convolutions. Source: C.
    Szegedy et al., Going deeper with convolutions (2014), arXiv:1409.4842, figure 2(b).

    Examples
    --------
    >>> import numpy as np, cuconv
    >>> def layer(k, c, r):
    ...     return np.ones((k, c, r, r), "float32"), np.zeros(k, "float32")
    >>> module = cuconv.Inception(cuconv.InceptionWeights(
    ...     *layer(8, 4, 1), *layer(2, 4, 1), *layer(8, 2, 3),
    ...     *layer(2, 4, 1), *layer(4, 2, 5), *layer(4, 4, 1)))
    >>> module(np.ones((1, 4, 6, 6), "float32")).shape
    (1, 24, 6, 6)
    """

    def __init__(self, weights: InceptionWeights, *, layout: str | None = None) -> None:
        if not isinstance(weights, InceptionWeights):
            raise TypeError(f"weights must be InceptionWeights, got {arguments.show(weights)}")
        self._order = read_layout(layout, 2)
        names = [field.name for field in fields(weights)]
        arrays = operands(
            *((name, getattr(weights, name)) for name in names), dtypes=arguments.REAL_DTYPES
        ).arrays
        self._arrays = dict(zip(names, arrays, strict=True))
        self._counts = {name: self._count(name, size) for name, size in KERNELS.items()}
        self._check_channels()

    def _count(self, name: str, size: int) -> int:
        count = filter_count(f"{name}_w", self._order, self._arrays[f"{name}_w"], size)
        bias = self._arrays[f"{name}_b"].shape
        if bias != (count,):
            raise ValueError(f"{name}_b must have shape ({count},), got {bias}")
        return count

    def _check_channels(self) -> None:
        taken = {
            name: self._order.split(name, self._arrays[f"{name}_w"].shape)[1] for name in KERNELS
        }
        for name in ("reduce3", "reduce5", "project"):
            if taken[name] != taken["conv1"]:
                raise ValueError(
                    f"{name}_w takes {taken[name]} channels, but conv1_w takes {taken['conv1']}"
                )
        for name, before in (("conv3", "reduce3"), ("conv5", "reduce5")):
            if taken[name] != self._counts[before]:
                raise ValueError(
                    f"{name}_w takes {taken[name]} channels, but {before}_w makes "
                    f"{self._counts[before]}"
                )

    def _part(self, x: Array, name: str, y: Array, pool: dict[str, Any] | None = None) -> ConvPart:
        w, bias = self._arrays[f"{name}_w"], self._arrays[f"{name}_b"]
        padding = KERNELS[name] // 2
        return conv_part(self._order, w.dtype, (x, w, bias), y, padding=padding, pool=pool)

    def _reduced_shape(self, x: Array) -> tuple[int, ...]:
        """Of the array that holds both reductions."""
        batch, _, size = self._order.split("x", x.shape)
        return self._order.join(batch, self._counts["reduce3"] + self._counts["reduce5"], size)

    def _rounds(self, x: Array, y: Array, reduced: Array) -> list[list[ConvPart]]:
        """All that reads x, then what reads the reductions: the module's two launches on a GPU."""
        counts = self._counts
        one, three, five, four = split_channels(self._order, y, [counts[b] for b in BRANCHES])
        reduced3, reduced5 = split_channels(
            self._order, reduced, (counts["reduce3"], counts["reduce5"])
        )
        return [
            [
                self._part(x, "conv1", one),
                self._part(x, "reduce3", reduced3),
                self._part(x, "reduce5", reduced5),
                self._part(x, "project", four, POOL),
            ],
            [self._part(reduced3, "conv3", three), self._part(reduced5, "conv5", five)],
        ]

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """The module's output for `x`; into `out` where given."""
        inputs = operands(
            ("x", x), ("conv1_w", self._arrays["conv1_w"]), out=out, dtypes=arguments.REAL_DTYPES
        )
        x = inputs.arrays[0]
        order = self._order
        batch, found, size = order.split("x", x.shape)
        taken = order.split("conv1_w", self._arrays["conv1_w"].shape)[1]
        if found != taken:
            raise ValueError(f"the module takes {taken} channels, but x has {found}")
        total = sum(self._counts[name] for name in BRANCHES)

        def compute(y: Array) -> None:
            reduced = inputs.backend.empty(self._reduced_shape(x), inputs.dtype)
            for parts in self._rounds(x, y, reduced):
                inputs.backend.conv_together(parts)

        return inputs.result(order.join(batch, total, size), out).finish(compute)

    def gradients(self, x: Any, grad_out: Any) -> tuple[Array, InceptionWeights]:
        """Gradients of a loss with respect to `x` and to the weights.

        Parameters
        ----------
        x : array
            The module's input; its intermediate results are computed anew.
        grad_out : array of the shape of the output
            The gradient with respect to the output.

        Returns
        -------
        array of the shape of `x`
        InceptionWeights
            The gradients of the twelve arrays, under their names.

        Raises
        ------
        ValueError, TypeError, cuconv.CudaUnavailableError, cuconv.CudaError
            As the module itself.

        Notes
        -----
        A composition of the gradients of `conv2d`, `relu` and `max_pool2d`, with their bounds; the
        four gradients of `x` are rounded to its dtype before they are added. Where a sum before a
        ReLU is 0, or maxima tie, the gradient is that of `relu_grad` and `max_pool2d_grad`.
        """
        inputs = operands(
            ("x", x),
            ("grad_out", grad_out),
            ("conv1_w", self._arrays["conv1_w"]),
            dtypes=arguments.REAL_DTYPES,
        )
        x, grad_out, _ = inputs.arrays
        y = self(x)
        if grad_out.shape != y.shape:
            raise ValueError(f"grad_out has shape {grad_out.shape}, but the output has {y.shape}")
        counts = [self._counts[name] for name in BRANCHES]
        grad_x, found = gradients(self._order, self._arrays, counts, x, y, grad_out)
        return grad_x, InceptionWeights(**found)
