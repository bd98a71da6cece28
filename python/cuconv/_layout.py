"""Layouts as views: from the caller's axes to canonical (N, C, D, H, W) and back.

Nothing here copies: a layout is an order of axes, a missing batch axis is an axis of size 1, and a
flipped filter is one with negative strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cuconv._arguments import choice

Triple = tuple[int, int, int]


def triple(values: Sequence[int], fill: int) -> Triple:
    """One number per spatial axis, with `fill` for the axes that the caller does not have."""
    full = (fill,) * (3 - len(values)) + tuple(values)
    return full[0], full[1], full[2]


@dataclass(frozen=True, slots=True)
class Layout:
    """An order of axes: `NCHW` and its kin, or `NHWC` and its kin."""

    name: str

    @property
    def rank(self) -> int:
        return len(self.name) - 2

    @property
    def channels_last(self) -> bool:
        return self.name.endswith("C")

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the spatial axes."""
        return tuple(self.name.replace("N", "").replace("C", ""))

    def split(self, name: str, shape: tuple[int, ...]) -> tuple[int | None, int, tuple[int, ...]]:
        """A shape of the caller's as (batch or None, channels, spatial sizes)."""
        if len(shape) not in (self.rank + 1, self.rank + 2):
            raise ValueError(
                f"{name} must have {self.rank + 2} axes ({self.name}) or {self.rank + 1} without "
                f"the batch, got {len(shape)}: shape {shape}"
            )
        batch = shape[0] if len(shape) == self.rank + 2 else None
        rest = shape[-(self.rank + 1) :]
        if self.channels_last:
            return batch, rest[-1], rest[:-1]
        return batch, rest[0], rest[1:]

    def join(self, batch: int | None, channels: int, spatial: Sequence[int]) -> tuple[int, ...]:
        head = () if batch is None else (batch,)
        if self.channels_last:
            return (*head, *spatial, channels)
        return (*head, channels, *spatial)

    def view(self, array: Any) -> Any:
        """The canonical (N, C, D, H, W) view of an array in this layout."""
        if array.ndim == self.rank + 1:
            array = array[None]
        if self.channels_last:
            array = array.transpose(0, self.rank + 1, *range(1, self.rank + 1))
        return array[(slice(None), slice(None)) + (None,) * (3 - self.rank)]

    def back(self, array: Any, batched: bool = True) -> Any:
        """The inverse of `view`: an array of canonical axes as the caller would have it."""
        array = array[(slice(None), slice(None)) + (0,) * (3 - self.rank)]
        if self.channels_last:
            array = array.transpose(0, *range(2, self.rank + 2), 1)
        return array if batched else array[0]

    def weight_view(self, array: Any, flip: bool) -> Any:
        """The canonical (K, C, T, R, S) view of a filter, its spatial axes reversed or not."""
        return self.flipped(self.view(array)) if flip else self.view(array)

    def weight_back(self, array: Any, flip: bool) -> Any:
        """The inverse of `weight_view`."""
        return self.back(self.flipped(array) if flip else array)

    def flipped(self, array: Any) -> Any:
        index = (Ellipsis, *(slice(None, None, -1),) * self.rank)
        return array[index]

    def split_weight(
        self, name: str, shape: tuple[int, ...], channels_are: str = "K, C/groups"
    ) -> tuple[int, int, tuple[int, ...]]:
        """A filter's shape as (first axis, channels axis, kernel sizes)."""
        if len(shape) != self.rank + 2:
            first_axis, second_axis = channels_are.split(", ")
            axes = (second_axis, "kernel") if not self.channels_last else ("kernel", second_axis)
            raise ValueError(
                f"{name} must have {self.rank + 2} axes ({first_axis}, {', '.join(axes)}) for "
                f"layout {self.name}, got {len(shape)}: shape {shape}"
            )
        first, channels, kernel = self.split(name, shape)
        assert first is not None
        for axis, size in zip(self.axes, kernel, strict=True):
            if size == 0:
                raise ValueError(f"{name} has size 0 along {axis}: shape {shape}")
        return first, channels, kernel


CHANNELS_FIRST = {1: Layout("NCL"), 2: Layout("NCHW"), 3: Layout("NCDHW")}
CHANNELS_LAST = {1: Layout("NLC"), 2: Layout("NHWC"), 3: Layout("NDHWC")}
LAYOUTS = {o.name: o for table in (CHANNELS_FIRST, CHANNELS_LAST) for o in table.values()}


def read_layout(layout: Any, rank: int | None = None) -> Layout:
    """The layout a caller named; None is channels first. Without a rank, any of the six."""
    if rank is None:
        return LAYOUTS[choice("layout", layout, tuple(LAYOUTS))]
    first, last = CHANNELS_FIRST[rank], CHANNELS_LAST[rank]
    name = choice("layout", layout, (None, first.name, last.name))
    return last if name == last.name else first
