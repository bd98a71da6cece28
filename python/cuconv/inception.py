"""The parts of GoogLeNet's Inception module, and the module.

Source of the module: C. Szegedy et al., Going deeper with convolutions (2014), arXiv:1409.4842.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from cuconv import _arguments as arguments
from cuconv._arrays import concatenate, operands
from cuconv._backends._protocol import Array
from cuconv._layout import Layout, read_layout
from cuconv.conv import conv2d
from cuconv.pool import max_pool2d


def channels(order: Layout, array: Array, first: int, last: int) -> Array:
    """The view of some channels."""
    if order.channels_last:
        return array[..., first:last]
    return array[..., first:last, :, :]


def filter_count(name: str, order: Layout, w: Array, size: int) -> int:
    """How many filters an array holds, once its kernel is seen to be of the size wanted."""
    count, _, kernel = order.split_weight(name, w.shape)
    if kernel != (size, size):
        raise ValueError(f"{name} must have a kernel of {size} x {size}, got {w.shape}")
    return count


def inception_reduce(
    x: Any,
    weights: Sequence[Any],
    biases: Sequence[Any] | None = None,
    *,
    activation: str | None = "relu",
    layout: str | None = None,
    out: Array | None = None,
) -> list[Array]:
    """Several 1x1 convolutions of one input as one convolution: the input is read once.

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
    x, *parts = operands(*named, out=out).arrays
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
    block = conv2d(
        x,
        concatenate(filters),
        concatenate(offsets) if offsets else None,
        layout=layout,
        activation=activation,
        out=out,
    )
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [
        channels(order, block, end - count, end) for end, count in zip(ends, counts, strict=True)
    ]


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
    Real dtypes only. The error bound is that of `conv2d`. In this version the pooled array is a
    temporary of the size of its input. Source: arXiv:1409.4842, section 4.

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
    pooled = max_pool2d(inputs.arrays[0], kernel_size, stride, padding, layout=layout)
    return conv2d(pooled, *inputs.arrays[1:], layout=layout, activation=activation, out=out)


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


KERNELS = {"conv1": 1, "reduce3": 1, "conv3": 3, "reduce5": 1, "conv5": 5, "project": 1}


class Inception:
    """The whole Inception module of GoogLeNet.

    y = concatenation along the channels of four branches, each convolution with bias and ReLU:

    1x1;   1x1 then 3x3;   1x1 then 5x5;   3x3 max-pooling then 1x1.

    Each branch is written straight into its channels of the one result; nothing is concatenated.

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
        self._layout = layout
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

    def _layer(self, name: str) -> tuple[Array, Array]:
        return self._arrays[f"{name}_w"], self._arrays[f"{name}_b"]

    def __call__(self, x: Any, out: Array | None = None) -> Array:
        """The module's output for `x`; into `out` where given."""
        inputs = operands(
            ("x", x), ("conv1_w", self._arrays["conv1_w"]), out=out, dtypes=arguments.REAL_DTYPES
        )
        x = inputs.arrays[0]
        order, layout = self._order, self._layout
        batch, found, size = order.split("x", x.shape)
        taken = order.split("conv1_w", self._arrays["conv1_w"].shape)[1]
        if found != taken:
            raise ValueError(f"the module takes {taken} channels, but x has {found}")
        branches = ("conv1", "conv3", "conv5", "project")
        total = sum(self._counts[name] for name in branches)

        def compute(y: Array) -> None:
            part, first = {}, 0
            for name in branches:
                last = first + self._counts[name]
                part[name] = channels(order, y, first, last)
                first = last
            (w3, b3), (w5, b5) = self._layer("reduce3"), self._layer("reduce5")
            reduced3, reduced5 = inception_reduce(x, [w3, w5], [b3, b5], layout=layout)
            options: dict[str, Any] = {"activation": "relu", "layout": layout}
            conv2d(x, *self._layer("conv1"), out=part["conv1"], **options)
            conv2d(reduced3, *self._layer("conv3"), padding=1, out=part["conv3"], **options)
            conv2d(reduced5, *self._layer("conv5"), padding=2, out=part["conv5"], **options)
            max_pool_project(x, *self._layer("project"), layout=layout, out=part["project"])

        return inputs.result(order.join(batch, total, size), out).finish(compute)
