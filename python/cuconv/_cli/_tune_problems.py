"""What `cuconv tune run` tunes: one problem from its options, or the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import cuconv
from cuconv import _arguments as arguments
from cuconv._bench.layers import layers_of
from cuconv._cli._device import Device
from cuconv._cli._errors import CliError
from cuconv._problem import conv_call

DIRECTIONS = ("forward", "input_grad", "weight_grad")
WORDS = ("valid", "same", "same_lower", "full")


@dataclass(frozen=True)
class Problem:
    """The arguments of a forward convolution; its gradients take the same."""

    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    dtype: np.dtype
    options: dict[str, Any]  # of the convolution: what is computed
    direction: str

    def __str__(self) -> str:
        x, w = ("x".join(map(str, shape)) for shape in (self.x_shape, self.w_shape))
        return f"{x} * {w} {self.direction}"

    @property
    def rank(self) -> int:
        return len(self.w_shape) - 2

    def call(self, device: Device, how: dict[str, Any]) -> None:
        """Computes it once, on random numbers. Raises ValueError for one that is not legal."""
        if self.rank not in (1, 2, 3):
            raise ValueError(f"--w must have 3, 4 or 5 numbers, got {len(self.w_shape)}")
        x, w = arguments.shape("x", self.x_shape), arguments.shape("w", self.w_shape)
        y = conv_call(self.rank, self.dtype, x, w, **self.options).y_shape
        rng = np.random.default_rng(0)

        def array(shape: tuple[int, ...]) -> Any:
            values = rng.random(shape, np.float32)
            values -= np.float32(0.5)
            return device.to_device(values.astype(self.dtype))

        suffix, operands, result = {
            "forward": ("", (x, w), ()),
            "input_grad": ("_input_grad", (y, w), (x,)),
            "weight_grad": ("_weight_grad", (y, x), (w,)),
        }[self.direction]
        function = getattr(cuconv, f"conv{self.rank}d{suffix}")
        everything = {**self.options, **how, "algo": "autotune"}
        function(*map(array, operands), *result, **everything)


# ---- from options ----


def read_shape(option: str, text: str, also: str = "") -> tuple[int, ...]:
    """`8,64,56,56`. `also` is what else the user may write."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise CliError(f"{option} {text}: must be integers with commas between{also}") from None


def read_steps(option: str, text: str, also: str = "") -> Any:
    """`1`, or `1,2`: one for each axis."""
    numbers = read_shape(option, text, also)
    return numbers[0] if len(numbers) == 1 else numbers


def read_padding(text: str) -> Any:
    """`1`, `1,2`, `0:1,2:2` (before and after) or a word."""
    if text in WORDS:
        return text
    if ":" not in text:
        return read_steps("--padding", text, f", or one of {', '.join(WORDS)}")
    pairs = tuple(read_shape("--padding", pair.replace(":", ",")) for pair in text.split(","))
    if any(len(pair) != 2 for pair in pairs):
        raise CliError(f"--padding {text}: a pair is written BEFORE:AFTER")
    return pairs


def one_problem(
    directions: tuple[str, ...],
    dtype: str,
    layout: str | None,
    x: str | None,
    w: str | None,
    stride: str,
    padding: str,
    dilation: str,
    groups: int,
    **of_group: Any,
) -> Iterator[Problem]:
    """As the command line has it."""
    if x is None or w is None:
        raise CliError("give the shapes --x and --w, or a --group of layers")
    shapes = read_shape("--x", x), read_shape("--w", w)
    options = {
        "stride": read_steps("--stride", stride),
        "padding": read_padding(padding),
        "dilation": read_steps("--dilation", dilation),
        "groups": groups,
        "layout": layout,
    }
    for direction in directions:
        yield Problem(*shapes, arguments.dtype("--dtype", dtype), options, direction)


# ---- the layers of a network ----


def layer_problems(
    group: str,
    directions: tuple[str, ...],
    dtype: str,
    layout: str | None,
    batch: int | None,
    **of_one: Any,
) -> Iterator[Problem]:
    """The distinct layers of a group, those first that its network spends most work on."""
    if layout not in (None, "NCHW", "NHWC"):
        raise CliError(f"--layout {layout}: layers are NCHW or NHWC")
    kind = arguments.dtype("--dtype", dtype)
    for layer in layers_of(group, batch):
        n, c, h, w, k, r, s = (getattr(layer, letter) for letter in "nchwkrs")
        shapes = ((n, c, h, w), (k, c // layer.groups, r, s))
        if layout == "NHWC":
            shapes = ((n, h, w, c), (k, r, s, c // layer.groups))
        options = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
            "layout": layout or "NCHW",
        }
        for direction in directions:
            yield Problem(*shapes, kind, options, direction)
