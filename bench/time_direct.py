"""Times the direct kernels on a GPU beside PyTorch (cuDNN), pair by pair in one run.

    python bench/time_direct.py RESULTS.jsonl

Each result is compared with the float64 oracle before it is timed. One line of JSON a layer is
appended as soon as it is measured, so Ctrl-C keeps what there is. Milliseconds are of this run and
this machine alone; the ratio is what can be kept.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _timing import record_rows

import cuconv

# name, N, C, H, W, K, R, S, stride, padding, groups: one layer of each kind that networks have
LAYERS = [
    ("first layer 7x7", 8, 3, 224, 224, 64, 7, 7, 2, 3, 1),
    ("3x3, few channels", 8, 64, 56, 56, 64, 3, 3, 1, 1, 1),
    ("3x3, many channels", 8, 256, 14, 14, 256, 3, 3, 1, 1, 1),
    ("1x1", 8, 192, 28, 28, 96, 1, 1, 1, 0, 1),
    ("depthwise 7x7", 8, 96, 56, 56, 96, 7, 7, 1, 3, 96),
    ("one channel 15x15", 1, 1, 2048, 2048, 1, 15, 15, 1, 7, 1),
]
PAIRS = 15


def milliseconds(cupy, call) -> float:
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return cupy.cuda.get_elapsed_time(start, stop)


def oracle_error(y, x, w, stride, padding, groups) -> float:
    """Largest error of the first image, relative to the largest value."""
    with cuconv.use_backend("reference"):
        exact = cuconv.conv2d(
            x[:1].astype("float64"), w.astype("float64"), None, stride, padding, 1, groups
        )
    return float(np.max(np.abs(y[:1] - exact)) / np.max(np.abs(exact)))


def measure(cupy, torch, layer) -> dict:
    name, n, c, height, width, k, r, s, stride, padding, groups = layer
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, height, width), dtype=np.float32)
    w = rng.standard_normal((k, c // groups, r, s), dtype=np.float32)
    x_device, w_device = cupy.asarray(x), cupy.asarray(w)
    x_torch, w_torch = torch.from_dlpack(x_device), torch.from_dlpack(w_device)
    out = cuconv.conv2d(x_device, w_device, None, stride, padding, 1, groups)
    error = oracle_error(cupy.asnumpy(out), x, w, stride, padding, groups)
    if not (error <= 1e-5):
        raise SystemExit(f"{name}: error {error:.3g} against the oracle; not timed")

    def ours():
        cuconv.conv2d(x_device, w_device, None, stride, padding, 1, groups, out=out)

    def theirs():
        torch.nn.functional.conv2d(x_torch, w_torch, None, stride, padding, 1, groups)

    for _ in range(3):
        ours()
        theirs()
    pairs = [(milliseconds(cupy, ours), milliseconds(cupy, theirs)) for _ in range(PAIRS)]
    macs = out.size * (c // groups) * r * s
    median = statistics.median(a for a, _ in pairs)
    return {
        "layer": name,
        "shape": [n, c, height, width, k, r, s, stride, padding, groups],
        "error": error,
        "cuconv_ms": median,
        "cudnn_ms": statistics.median(b for _, b in pairs),
        "speed_of_cudnn": statistics.median(b / a for a, b in pairs),
        "tflops": 2 * macs / median / 1e9,
    }


def rows(cupy: Any, torch: Any) -> list[Callable[[], dict]]:
    return [partial(measure, cupy, torch, layer) for layer in LAYERS]


if __name__ == "__main__":
    record_rows(__doc__, rows)
