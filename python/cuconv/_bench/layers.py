"""The layers of `data/layers.json` at full size: groups, sizes, work."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent / "data" / "layers.json"
FREE_BATCH = 32  # of networks that have none of their own
NAMES = {  # what a group is called on the command line, and in the file
    "resnet50": "resnet50_v1_5",
    "vgg": "lavin_winograd_vgg_e",
    "googlenet": "googlenet_v1",
    "alexnet": "alexnet_owt",
    "deepbench": "deepbench_conv_training_set",
    "overfeat": "overfeat_fast",
    "vgg-a": "vgg_a",
    "convnet-benchmarks": "convnet_benchmarks_layerwise_L1_L5",
    "fbcunn": "fbcunn_benchmark_fft",
    "resnext50": "resnext50_32x4d",
    "convnext-tiny": "convnext_tiny",
    "convnext-base": "convnext_base",
    "replknet": "replknet_31B_224",
    "depthwise-sweep": "large_depthwise_sweep",
    "flashfftconv": "flashfftconv_short_depthwise_conv1d_H100",
}
WORDS = {"stride": "stride", "padding": "pad", "dilation": "dil"}  # in the file
Pair = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """A two-dimensional convolution's sizes; one along one axis has h = r = 1."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def output(self) -> Pair:
        axes = (self.h, self.r, 0), (self.w, self.s, 1)
        p, q = (
            (n + 2 * self.padding[i] - self.dilation[i] * (k - 1) - 1) // self.stride[i] + 1
            for n, k, i in axes
        )
        return p, q

    def __str__(self) -> str:
        text = f"{self.c}x{self.h}x{self.w} {self.k}x{self.r}x{self.s}"
        for mark, pair in (("/", self.stride), (" d", self.dilation)):
            if pair != (1, 1):
                text += mark + (str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}")
        (dr, ds), (r, s) = self.dilation, (self.r - 1, self.s - 1)
        same = (dr * r // 2, ds * s // 2)
        if self.padding != same:
            text += " p" + "x".join(map(str, dict.fromkeys(self.padding)))
        return text + (f" g{self.groups}" if self.groups > 1 else "")

    def hits(self, axis: int) -> list[Pair]:
        """Along one axis: for each product that is not with padding, where in y and where in x."""
        size, taps = [(self.h, self.r), (self.w, self.s)][axis]
        step, pad, spread = self.stride[axis], self.padding[axis], self.dilation[axis]
        outputs = self.output[axis]
        pairs = [(o, o * step - pad + t * spread) for o in range(outputs) for t in range(taps)]
        return [(o, i) for o, i in pairs if 0 <= i < size]

    @property
    def work(self) -> int:
        """Multiply-adds, those with padding left out."""
        hits = len(self.hits(0)) * len(self.hits(1))
        return self.n * self.k * (self.c // self.groups) * hits


@cache
def load() -> dict[str, Any]:
    return dict(json.loads(DATA.read_text(encoding="utf-8")))


def group_of(name: str) -> dict[str, Any]:
    (found,) = [g for g in load()["groups"] if g["name"] == NAMES[name]]
    return dict(found)


def layers_of(name: str, batch: int | None) -> list[Layer]:
    """The distinct layers of a group, those first that its network spends most work on."""
    times: dict[Layer, int] = defaultdict(int)
    for row in group_of(name)["rows"]:
        c, h, w, k, r, s = (row[letter] for letter in "CHWKRS")
        pairs = {name: (row[f"{word}_h"], row[f"{word}_w"]) for name, word in WORDS.items()}
        n = batch or row["N"] or FREE_BATCH
        layer = Layer(n, c, h, w, k, r, s, groups=row["groups"], **pairs)
        times[layer] += row.get("count", row.get("depth", 1))
    return sorted(times, key=lambda layer: -layer.work * times[layer])


def inception_modules() -> dict[str, tuple[int, ...]]:
    """GoogLeNet's, by name: side of the plane, channels; filters of 1x1, 3x3 reduce, 3x3, 5x5
    reduce, 5x5, pool projection."""
    filters = ("n1x1", "n3x3_reduce", "n3x3", "n5x5_reduce", "n5x5", "pool_proj")
    rows = group_of("googlenet")["inception_modules"]
    return {
        row["id"].removeprefix("inception_"): (row["H"], row["C"], *(row[n] for n in filters))
        for row in rows
    }
