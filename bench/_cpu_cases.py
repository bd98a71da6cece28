"""What `time_cpu.py` times: layers of networks, images, depthwise layers, pools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _timing import HERE

GROUPS = ("networks", "images", "depthwise", "pooling")
NETWORKS = {  # group in layers.json: how its rows are called here, and which of them
    "lavin_winograd_vgg_e": ("VGG-16", ""),
    "resnet50_v1_5": ("ResNet-50", ""),
    "googlenet_v1": ("GoogLeNet", "3a/"),
    "alexnet_owt": ("AlexNet", ""),
}
DEPTHWISE = [(64, 56, 3), (96, 56, 7), (384, 14, 7), (64, 32, 31), (384, 14, 31)]
IMAGE, IMAGE_TAPS = 2048, (3, 15, 63)
POOLED = [(64, 112), (192, 28)]  # channels, side
WINDOWS = [  # function, window, stride, padding
    ("max_pool2d", (3, 2, 1)),
    ("max_pool2d", (3, 1, 1)),
    ("max_pool2d", (2, 2, 0)),
    ("avg_pool2d", (3, 1, 1)),
    ("relu", ()),
]


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    of: str  # "conv", or the function of cuconv
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict, hash=False)  # of a convolution
    window: tuple[int, ...] = ()  # of a pool

    def __str__(self) -> str:
        return f"{self.name} n{self.x_shape[0]}"

    @property
    def plain_3x3(self) -> bool:
        """What Winograd's algorithm is for."""
        stride = self.options.get("stride", 1)
        return self.of == "conv" and self.w_shape[2:] == (3, 3) and stride in (1, (1, 1))


def network_cases(batch: int) -> Iterator[Case]:
    data = json.loads((HERE / "data" / "layers.json").read_text(encoding="utf-8"))
    rows_of = {group["name"]: group["rows"] for group in data["groups"]}
    for group, (network, prefix) in NETWORKS.items():
        seen = set()
        for row in rows_of[group]:
            case = network_case(network, batch, row)
            if row.get("id", "").startswith(prefix) and case.name not in seen:
                seen.add(case.name)
                yield case


def network_case(network: str, batch: int, row: dict[str, Any]) -> Case:
    x, w = (batch, *(row[n] for n in "CHW")), (row["K"], row["C"], row["R"], row["S"])
    pairs = {"stride": "stride", "padding": "pad", "dilation": "dil"}
    options = {name: (row[f"{key}_h"], row[f"{key}_w"]) for name, key in pairs.items()}
    name = f"{network} {w[1]}x{x[2]}x{x[3]} {w[0]}x{w[2]}x{w[3]}"
    name += f"/{row['stride_h']}" if row["stride_h"] > 1 else ""
    return Case("networks", name, "conv", x, w, options)


def image_cases(batch: int) -> Iterator[Case]:
    """One image, whatever the batch."""
    for taps in IMAGE_TAPS:
        shapes = (1, 1, IMAGE, IMAGE), (1, 1, taps, taps)
        name = f"image {IMAGE}x{IMAGE} {taps}x{taps}"
        yield Case("images", name, "conv", *shapes, {"padding": taps // 2})


def depthwise_cases(batch: int) -> Iterator[Case]:
    for c, side, taps in DEPTHWISE:
        shapes = (batch, c, side, side), (c, 1, taps, taps)
        name = f"depthwise {c}x{side}x{side} {taps}x{taps}"
        yield Case("depthwise", name, "conv", *shapes, {"padding": taps // 2, "groups": c})


def pooling_cases(batch: int) -> Iterator[Case]:
    for c, side in POOLED:
        for function, window in WINDOWS:
            words = f" {window[0]}x{window[0]}/{window[1]}" if window else ""
            name = f"{function}{words} {c}x{side}x{side}"
            yield Case("pooling", name, function, (batch, c, side, side), window=window)


CASES = {
    "networks": network_cases,
    "images": image_cases,
    "depthwise": depthwise_cases,
    "pooling": pooling_cases,
}


def cases_of(group: str, batches: list[int], limit: int | None) -> list[Case]:
    """The batches of a layer lie together, so that a limit or Ctrl-C leaves whole layers."""
    batches = [1] if group == "images" else batches
    by_batch = [list(CASES[group](batch)) for batch in batches]
    return [case for row in zip(*by_batch, strict=True) for case in row][:limit]


def drawn(case: Case) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(case.x_shape, np.float32)
    return x, rng.standard_normal(case.w_shape, np.float32)
