"""Bytes that pooling, its gradients and ReLU move in GoogLeNet and ResNet, counted in emulation.

    python bench/pool_bytes.py

Planes are at full size, channels 8 of an image (bytes grow with either alike), float32. The
emulator counts the distinct bytes that each launch reads and writes: what a launch reads again, at
the borders of tiles and strips, is taken to come from a cache. The least is each array once, and 8
bytes an index where there are indices. Needs the race flavour (docs/emulation.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import cuconv

CHANNELS = 8
# K. He et al., arXiv:1512.03385, table 1; C. Szegedy et al., arXiv:1409.4842, table 1 and figure 2:
# side of the plane, then window, stride, padding of the maximum; of the average the window alone
MAXIMA = {
    "ResNet stem": (112, 3, 2, 1),
    "GoogLeNet pool 1": (112, 3, 2, "same"),
    "GoogLeNet pool 2": (56, 3, 2, "same"),
    "GoogLeNet pool 3": (28, 3, 2, "same"),
    "GoogLeNet pool 4": (14, 3, 2, "same"),
    "Inception 3 branch": (28, 3, 1, 1),
    "Inception 4 branch": (14, 3, 1, 1),
    "Inception 5 branch": (7, 3, 1, 1),
}
AVERAGE = 7
LAYOUTS = ("NCHW", "NHWC")


COLUMNS = ("maximum", "with indices", "gradient", "without windows", "ReLU after it")


@dataclass(frozen=True)
class Moved:
    kernels: tuple[str, ...]
    least: int
    counted: int

    def __str__(self) -> str:
        return f"{self.counted / 1e3:.1f} of {self.least / 1e3:.1f}"


def counted(call: Callable[[], Any]) -> tuple[Any, tuple[str, ...], int]:
    """(result, kernels, bytes) of a call."""
    emulation = importlib.import_module("cuconv._C_emulated_race").emulation
    emulation.record_traffic()
    try:
        with cuconv.use_backend("emulated", flavour="race"):
            result = call()
    finally:
        launches = emulation.recorded_traffic()
    return result, tuple(t[0] for t in launches), sum(t[1] + t[2] for t in launches)


def images(side: int, layout: str) -> np.ndarray:
    shape = (1, side, side, CHANNELS) if layout == "NHWC" else (1, CHANNELS, side, side)
    return np.random.default_rng(0).standard_normal(shape).astype("f4")


def maxima(name: str, layout: str) -> dict[str, Moved]:
    side, *window = MAXIMA[name]
    x = images(side, layout)
    y, *first = counted(lambda: cuconv.max_pool2d(x, *window, layout=layout))
    (y, indices), *both = counted(
        lambda: cuconv.max_pool2d(x, *window, return_indices=True, layout=layout)
    )
    gradient = partial(cuconv.max_pool2d_grad, y, indices, x.shape, layout=layout)
    least = x.nbytes + y.nbytes
    found = {"maximum": (least, first), "with indices": (least + indices.nbytes, both)}
    known = dict(zip(("kernel_size", "stride", "padding", "dilation"), window, strict=False))
    found["gradient"] = (least + indices.nbytes, counted(partial(gradient, **known))[1:])
    found["without windows"] = (least + indices.nbytes, counted(gradient)[1:])
    found["ReLU after it"] = (2 * y.nbytes, counted(lambda: cuconv.relu(y))[1:])
    return {of: Moved(kernels, n, moved) for of, (n, (kernels, moved)) in found.items()}


def averages(layout: str) -> dict[str, Moved]:
    x = images(AVERAGE, layout)
    y, *first = counted(lambda: cuconv.global_avg_pool(x, layout=layout))
    _, *back = counted(lambda: cuconv.avg_pool2d_grad(y, x.shape, AVERAGE, layout=layout))
    least = x.nbytes + y.nbytes
    return {"average": Moved(first[0], least, first[1]), "gradient": Moved(back[0], least, back[1])}


def main() -> None:
    print("| KB: layer | layout |", " | ".join(COLUMNS), "|")
    print("|---|---|" + "---|" * len(COLUMNS))
    for layout in LAYOUTS:
        for name in MAXIMA:
            row = maxima(name, layout)
            print(f"| {name} | {layout} |", " | ".join(str(row[of]) for of in COLUMNS), "|")
        average = averages(layout)
        print(f"| last average | {layout} | {average['average']} | | {average['gradient']} | | |")


if __name__ == "__main__":
    main()
