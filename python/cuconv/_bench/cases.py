"""What can be timed: layers of networks, images, pools, activations, Inception modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from cuconv._bench import layers
from cuconv._bench.layers import FREE_BATCH, Layer

DIRECTIONS = ("forward", "input_grad", "weight_grad")
LAYOUTS = ("NCHW", "NHWC")
KINDS = {  # element type and precision, by what the benchmarks call both together
    "float32": ("float32", "ieee"),
    "float16": ("float16", "ieee"),
    "bfloat16": ("bfloat16", "ieee"),
    "float64": ("float64", "ieee"),
    "tf32": ("float32", "tf32"),
    "tf32x3": ("float32", "tf32x3"),
}
# A layer of each kind that networks have.
MIXED = {
    "first layer": Layer(8, 3, 224, 224, 64, 7, 7, (2, 2), (3, 3)),
    "few channels": Layer(8, 64, 56, 56, 64, 3, 3, padding=(1, 1)),
    "many channels": Layer(8, 256, 14, 14, 256, 3, 3, padding=(1, 1)),
    "1x1": Layer(8, 192, 28, 28, 96, 1, 1),
    "strided": Layer(8, 128, 56, 56, 128, 3, 3, (2, 2), (1, 1)),
}
DEPTHWISE = [(64, 56, 3), (96, 56, 7), (384, 14, 7), (64, 32, 31), (384, 14, 31)]
IMAGE, IMAGE_TAPS = 2048, (3, 15, 63)
POOLED = [(64, 112, 112), (192, 28, 28), (3, 224, 224)]  # C, H, W
WINDOWS = [  # function, window, stride, padding
    ("max_pool2d", (3, 2, 1)),
    ("max_pool2d", (3, 1, 1)),
    ("max_pool2d", (2, 2, 0)),
    ("avg_pool2d", (3, 1, 1)),
]
ACTIVATIONS = ("relu", "sigmoid")
ACTIVATED = [(64, 112, 112), (192, 28, 28)]


@dataclass(frozen=True)
class Case:
    """One row of a record. Shapes are N, C, H, W and K, C, R, S whatever the layout."""

    group: str
    name: str
    of: str  # "conv", or the function of cuconv
    x_shape: tuple[int, ...]
    layer: Layer | None = None  # of a convolution
    window: tuple[int, ...] = ()  # of a pool
    module: tuple[int, ...] = ()  # of Inception: its row of layers.inception_modules
    kind: str = "float32"
    direction: str = "forward"
    layout: str = "NCHW"

    def __str__(self) -> str:
        words = [self.group, self.name, f"n{self.x_shape[0]}", self.kind]
        words += [self.direction] if self.direction != "forward" else []
        return " ".join([*words, self.layout])

    @property
    def dtype(self) -> np.dtype:
        name = KINDS[self.kind][0]
        return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)

    @property
    def precision(self) -> str:
        return KINDS[self.kind][1]

    @property
    def convolution(self) -> Layer:
        assert self.layer is not None, f"{self} is no convolution"
        return self.layer

    @property
    def options(self) -> dict[str, Any]:
        """Of the convolution."""
        of = self.convolution
        shape = {"stride": of.stride, "padding": of.padding, "dilation": of.dilation}
        return shape | {"groups": of.groups}

    @property
    def w_shape(self) -> tuple[int, ...]:
        if self.layer is None:
            return ()
        return self.layer.k, self.layer.c // self.layer.groups, self.layer.r, self.layer.s

    @property
    def y_shape(self) -> tuple[int, ...]:
        of, (n, c, h, w) = self.layer, self.x_shape
        if of:
            return n, of.k, *of.output
        if self.window:
            size, step, pad = self.window
            return n, c, (h + 2 * pad - size) // step + 1, (w + 2 * pad - size) // step + 1
        if self.module:
            _, _, one, _, three, _, five, project = self.module
            return n, one + three + five + project, h, w
        return self.x_shape

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the operands that change from call to call, of the filter if there is one, and of
        the result. A weight gradient's second operand is the input."""
        table = {
            "forward": (self.x_shape, self.w_shape, self.y_shape),
            "input_grad": (self.y_shape, self.w_shape, self.x_shape),
            "weight_grad": (self.y_shape, self.x_shape, self.w_shape),
        }
        return table[self.direction]

    @property
    def terms(self) -> int:
        """Length of a sum."""
        if self.of != "conv":
            return self.window[0] ** 2 if self.window else 1
        of = self.convolution
        taps = of.r * of.s
        p, q = of.output
        lengths = (of.c // of.groups * taps, of.k // of.groups * taps, of.n * p * q)
        return max(1, lengths[DIRECTIONS.index(self.direction)])

    @property
    def work(self) -> int:
        """Multiply-adds; none are counted for pools and activations."""
        if self.layer:
            return self.layer.work
        if not self.module:
            return 0
        return sum(part.work for part in module_layers(self.module, self.x_shape[0]))

    @property
    def plain_3x3(self) -> bool:
        """What Winograd's algorithm is for."""
        of = self.layer
        return of is not None and (of.r, of.s, of.stride, of.groups) == (3, 3, (1, 1), 1)

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        found: dict[str, Any] = {
            "key": str(self),
            "group": self.group,
            "name": self.name,
            "of": self.of,
            "kind": self.kind,
            "direction": self.direction,
            "layout": self.layout,
            "x_shape": list(self.x_shape),
            "w_shape": list(self.w_shape),
            "window": list(self.window),
            "plain_3x3": self.plain_3x3,
            "multiply_adds": self.work,
        }
        if self.layer:
            found["options"] = {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.options.items()
            }
        return found


def module_layers(module: Sequence[int], batch: int) -> list[Layer]:
    """The six convolutions of an Inception module, in the order of its arrays."""
    side, c, one, reduce3, three, reduce5, five, project = module
    sizes = [(one, c, 1), (reduce3, c, 1), (three, reduce3, 3)]
    sizes += [(reduce5, c, 1), (five, reduce5, 5), (project, c, 1)]
    return [
        Layer(batch, taken, side, side, k, size, size, padding=(size // 2, size // 2))
        for k, taken, size in sizes
    ]


def conv_case(group: str, name: str, layer: Layer) -> Case:
    return Case(group, name, "conv", (layer.n, layer.c, layer.h, layer.w), layer)


def network_cases(group: str, batch: int | None) -> Iterator[Case]:
    for layer in layers.layers_of(group, batch):
        yield conv_case(group, str(layer), layer)


def mixed_cases(batch: int | None) -> Iterator[Case]:
    for name, layer in MIXED.items():
        layer = replace(layer, n=batch or layer.n)
        yield conv_case("mixed", f"{name}: {layer}", layer)


def image_cases(batch: int | None) -> Iterator[Case]:
    """One image of one channel, whatever the batch."""
    for taps in IMAGE_TAPS:
        layer = Layer(1, 1, IMAGE, IMAGE, 1, taps, taps, padding=(taps // 2, taps // 2))
        yield conv_case("images", f"image {IMAGE}x{IMAGE} {taps}x{taps}", layer)


def depthwise_cases(batch: int | None) -> Iterator[Case]:
    for c, side, taps in DEPTHWISE:
        padding = (taps // 2, taps // 2)
        layer = Layer(batch or 8, c, side, side, c, taps, taps, padding=padding, groups=c)
        yield conv_case("depthwise", f"depthwise {c}x{side}x{side} {taps}x{taps}", layer)


def pooling_cases(batch: int | None) -> Iterator[Case]:
    for sizes in POOLED:
        for function, window in WINDOWS:
            text = "x".join(map(str, sizes))
            name = f"{function} {window[0]}x{window[0]}/{window[1]} {text}"
            yield Case("pooling", name, function, (batch or 64, *sizes), window=window)


def activation_cases(batch: int | None) -> Iterator[Case]:
    for function in ACTIVATIONS:
        for sizes in ACTIVATED:
            text = "x".join(map(str, sizes))
            yield Case("activations", f"{function} {text}", function, (batch or 64, *sizes))


def inception_cases(batch: int | None) -> Iterator[Case]:
    for name, module in layers.inception_modules().items():
        side, c, *_ = module
        shape = (batch or FREE_BATCH, c, side, side)
        yield Case("inception", f"Inception {name}", "Inception", shape, module=module)


OWN: dict[str, tuple[Callable[[int | None], Iterator[Case]], str]] = {
    "mixed": (mixed_cases, "a layer of each kind that networks have"),
    "depthwise": (depthwise_cases, "depthwise layers with filters of 3x3 to 31x31"),
    "images": (image_cases, "filters of one large image of one channel"),
    "pooling": (pooling_cases, "maxima and means over windows"),
    "activations": (activation_cases, "element-wise functions"),
    "inception": (inception_cases, "GoogLeNet's modules, each as a whole"),
}
GROUPS = (*layers.NAMES, *OWN)
USUAL = ("resnet50", "vgg", "googlenet", "alexnet", *OWN)


@dataclass(frozen=True)
class Choice:
    """Which rows to time. Without `batches` each layer has its own, or 32."""

    groups: tuple[str, ...]
    kinds: tuple[str, ...] = ("float32",)
    directions: tuple[str, ...] = ("forward",)
    layouts: tuple[str, ...] = ("NCHW",)
    batches: tuple[int, ...] = ()
    limit: int | None = None  # layers of each group


def plain_cases(group: str, batch: int | None) -> list[Case]:
    found = OWN[group][0](batch) if group in OWN else network_cases(group, batch)
    return list(found)


def source_of(group: str) -> str:
    return OWN[group][1] if group in OWN else str(layers.group_of(group)["source"])


def cases_of(choice: Choice) -> list[Case]:
    """The heaviest layers in the first kind, direction and layout, and outwards from there: a run
    that is cut short has what matters most. Batches of a layer lie together."""
    ranked: list[tuple[int, Case]] = []
    for group in choice.groups:
        by_batch = [plain_cases(group, batch)[: choice.limit] for batch in choice.batches or [None]]
        for place, same in enumerate(zip(*by_batch, strict=True)):
            for i, kind in enumerate(choice.kinds):
                for j, direction in enumerate(choice.directions):
                    for k, layout in enumerate(choice.layouts):
                        how = {"kind": kind, "direction": direction, "layout": layout}
                        for case in dict.fromkeys(replace(c, **how) for c in same):
                            if is_sensible(case):
                                ranked.append((place + i + j + k, case))
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]


def is_sensible(case: Case) -> bool:
    """Only convolutions have directions and precisions other than the element type's."""
    if case.of == "conv":
        return True
    return case.direction == "forward" and case.precision == "ieee"


def left_out(choice: Choice) -> str:
    """In words, which rows there are none of for `is_sensible`; empty where none are missed."""
    words = [name for name in choice.directions if name != "forward"]
    words += [name for name in choice.kinds if KINDS[name][1] != "ieee"]
    others = [name for name in choice.groups if plain_cases(name, None)[0].of != "conv"]
    if not words or not others:
        return ""
    return f"{', '.join(others)} without {', '.join(words)}: only convolutions have them"


def in_layout(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    if layout == "NCHW" or len(shape) != 4:
        return shape
    n, c, h, w = shape
    return n, h, w, c


def channels_first(array: Any, layout: str) -> Any:
    """The view with its channels second."""
    return array if layout == "NCHW" or array.ndim != 4 else array.transpose(0, 3, 1, 2)


def nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
