"""What `cuconv tune run` tunes: one problem from its options, or the layers of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cuconv
from cuconv import _arguments as arguments
from cuconv._bench.layers import DATA, NAMES
from cuconv._cli._device import Device
from cuconv._cli._errors import CliError
from cuconv._problem import conv_call

DIRECTIONS = ("forward", "input_grad", "weight_grad")
WORDS = ("valid", "same", "same_lower", "full")
FREE_BATCH = 32  # of layers whose source has none
MOST_BYTES = 1 << 26  # of a file of layers


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


def read_shape(option: str, text: str) -> tuple[int, ...]:
    """`8,64,56,56`."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise CliError(f"{option} {text}: must be integers with commas between") from None


def read_steps(option: str, text: str) -> Any:
    """`1`, or `1,2`: one for each axis."""
    numbers = read_shape(option, text)
    return numbers[0] if len(numbers) == 1 else numbers


def read_padding(text: str) -> Any:
    """`1`, `1,2`, `0:1,2:2` (before and after) or a word."""
    if text in WORDS:
        return text
    if ":" not in text:
        return read_steps("--padding", text)
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


# ---- from a file of layers ----


def read_layers(path: Path | None, group: str) -> list[dict[str, Any]]:
    """The rows of a group."""
    known = NAMES if path is None else {}  # a file of one's own has its own names alone
    short = {long: name for name, long in known.items()}
    group = known.get(group, group)
    path = path or DATA
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CliError(f"--layers {path}: too large for a list of layers")
        groups = json.loads(path.read_text(encoding="utf-8"))["groups"]
        rows = {found["name"]: list(found["rows"]) for found in groups}
    except OSError as error:
        raise CliError(f"--layers {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CliError(f"--layers {path}: not a list of layers") from None
    if not rows.get(group):
        named = ", ".join(str(short.get(name, name)) for name, found in rows.items() if found)
        raise CliError(f"--group {group}: not one of {named}")
    return rows[group]


def layer_problems(
    group: str,
    directions: tuple[str, ...],
    dtype: str,
    layout: str | None,
    layers: Path | None,
    batch: int | None,
    **of_one: Any,
) -> Iterator[Problem]:
    """The distinct layers of a group, in their order."""
    if layout not in (None, "NCHW", "NHWC"):
        raise CliError(f"--layout {layout}: layers are NCHW or NHWC")
    kind = arguments.dtype("--dtype", dtype)
    seen = set()
    for row in read_layers(layers, group):
        try:
            problem = layer_problem(row, batch, kind, layout == "NHWC")
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise CliError(f"--layers: not a layer: {json.dumps(row)[:80]}") from None
        for direction in directions:
            found = replace(problem, direction=direction)
            if repr(found) not in seen:
                seen.add(repr(found))
                yield found


def layer_problem(
    row: dict[str, Any], batch: int | None, dtype: np.dtype, channels_last: bool
) -> Problem:
    def pair(key: str) -> tuple[int, int]:
        return int(row[f"{key}_h"]), int(row[f"{key}_w"])

    n = batch or row["N"] or FREE_BATCH
    c, h, w, k, r, s, groups = (int(row[name]) for name in (*"CHWKRS", "groups"))
    shapes = ((n, c, h, w), (k, c // groups, r, s))
    if channels_last:
        shapes = ((n, h, w, c), (k, r, s, c // groups))
    options = {
        "stride": pair("stride"),
        "padding": pair("pad"),
        "dilation": pair("dil"),
        "groups": groups,
        "layout": "NHWC" if channels_last else "NCHW",
    }
    return Problem(*shapes, dtype, options, "forward")
