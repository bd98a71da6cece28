"""Times pooling, ReLU and the Inception module on a GPU beside PyTorch, pair by pair in one run.

    python bench/time_pool.py RESULTS.jsonl

Each result is compared with the oracle before it is timed. One line of JSON a case is appended as
soon as it is measured, so Ctrl-C keeps what there is. `least_bytes` is each array once;
`bytes_per_s` counts no others. Milliseconds are of this run and this machine alone; the ratio is
what can be kept. Arrays are larger than an L2 cache where a case is about bandwidth.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from _timing import record_rows
from inception_bytes import MODULES, plan

import cuconv

PAIRS = 15
# name, function, N, C, H, W, window, stride, padding
POOLS = [
    ("ResNet stem", "max_pool2d", 64, 64, 112, 112, 3, 2, 1),
    ("Inception branch", "max_pool2d", 64, 192, 28, 28, 3, 1, 1),
    ("disjoint windows", "max_pool2d", 64, 64, 112, 112, 2, 2, 0),
    ("three channels", "max_pool2d", 128, 3, 224, 224, 3, 2, 1),
    ("average", "avg_pool2d", 64, 64, 112, 112, 3, 2, 1),
]
DTYPES = ("float32", "float16")


def milliseconds(cupy: Any, call: Callable[[], Any]) -> float:
    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, stop))


def compared(cupy: Any, ours: Callable[[], Any], theirs: Callable[[], Any], least: int) -> dict:
    for _ in range(3):
        ours()
        theirs()
    pairs = [(milliseconds(cupy, ours), milliseconds(cupy, theirs)) for _ in range(PAIRS)]
    median = statistics.median(a for a, _ in pairs)
    return {
        "cuconv_ms": median,
        "torch_ms": statistics.median(b for _, b in pairs),
        "speed_of_torch": statistics.median(b / a for a, b in pairs),
        "least_bytes": least,
        "bytes_per_s": least / median * 1e3,
    }


def check(what: str, got: np.ndarray, exact: np.ndarray, most: float) -> None:
    error = float(np.max(np.abs(got.astype("f8") - exact)) / max(np.max(np.abs(exact)), 1e-30))
    if not (error <= most):
        raise SystemExit(f"{what}: error {error:.3g} against the oracle; not timed")


def images(torch: Any, array: Any, layout: str) -> Any:
    """The same memory for PyTorch, whose axes are always N, C, H, W."""
    tensor = torch.from_dlpack(array)
    return tensor.permute(0, 3, 1, 2) if layout == "NHWC" else tensor


def drawn(cupy: Any, shape: tuple[int, ...], dtype: str) -> Any:
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype("f4")
    return cupy.asarray(values.astype(dtype))


def oracle(function: str, x: np.ndarray, *arguments: Any, **options: Any) -> np.ndarray:
    with cuconv.use_backend("reference"):
        return getattr(cuconv, function)(x.astype("f8"), *arguments, **options)


def pooling(cupy: Any, torch: Any, case: tuple[Any, ...], dtype: str, layout: str) -> dict:
    name, function, n, c, height, width, *window = case
    shape = (n, c, height, width) if layout == "NCHW" else (n, height, width, c)
    x = drawn(cupy, shape, dtype)
    ours_of = getattr(cuconv, function)
    out = ours_of(x, *window, layout=layout)
    exact = oracle(function, cupy.asnumpy(x[:1]), *window, layout=layout)
    check(name, cupy.asnumpy(out[:1]), exact, 1e-6 if dtype == "float32" else 1e-3)
    tensor = images(torch, x, layout)
    theirs_of = getattr(torch.nn.functional, function)
    row = compared(
        cupy,
        lambda: ours_of(x, *window, layout=layout, out=out),
        lambda: theirs_of(tensor, *window),
        x.nbytes + out.nbytes,
    )
    return {"case": name, "of": function, "dtype": dtype, "layout": layout, **row}


def relu(cupy: Any, torch: Any, dtype: str) -> dict:
    x = drawn(cupy, (1 << 26,), dtype)
    out = cuconv.relu(x)
    check("relu", cupy.asnumpy(out), np.maximum(cupy.asnumpy(x).astype("f8"), 0), 0)
    tensor = torch.from_dlpack(x)
    row = compared(
        cupy, lambda: cuconv.relu(x, out=x), lambda: torch.relu_(tensor), x.nbytes + out.nbytes
    )
    return {"case": "in place", "of": "relu", "dtype": dtype, **row}


def inception(cupy: Any, torch: Any, name: str, dtype: str) -> dict:
    """Beside the same module in PyTorch: six convolutions, one pooling, one concatenation."""
    batch = 32
    side, c, one, reduce3, three, reduce5, five, project = MODULES[name]
    layers = [(one, c, 1), (reduce3, c, 1), (three, reduce3, 3)]
    layers += [(reduce5, c, 1), (five, reduce5, 5), (project, c, 1)]
    arrays = []
    for k, taken, size in layers:
        scale = cupy.asarray(np.sqrt(3 / (taken * size * size)), dtype)
        arrays += [drawn(cupy, (k, taken, size, size), dtype) * scale, drawn(cupy, (k,), dtype)]
    x = drawn(cupy, (batch, c, side, side), dtype)
    module = cuconv.Inception(cuconv.InceptionWeights(*arrays))
    out = module(x)
    with cuconv.use_backend("reference"):
        wide = [cupy.asnumpy(a).astype("f8") for a in arrays]
        exact = cuconv.Inception(cuconv.InceptionWeights(*wide))(cupy.asnumpy(x[:1]).astype("f8"))
    check(name, cupy.asnumpy(out[:1]), exact, 1e-5 if dtype == "float32" else 1e-2)
    f = torch.nn.functional
    w1, b1, r3, c3, w3, b3, r5, c5, w5, b5, w4, b4 = (torch.from_dlpack(a) for a in arrays)
    tensor = torch.from_dlpack(x)

    def theirs() -> None:
        branches = [
            f.conv2d(tensor, w1, b1),
            f.conv2d(torch.relu_(f.conv2d(tensor, r3, c3)), w3, b3, padding=1),
            f.conv2d(torch.relu_(f.conv2d(tensor, r5, c5)), w5, b5, padding=2),
            f.conv2d(f.max_pool2d(tensor, 3, 1, 1), w4, b4),
        ]
        torch.relu_(torch.cat(branches, 1))

    row = compared(cupy, lambda: module(x, out=out), theirs, plan(name, batch, dtype).least)
    return {"case": name, "of": "Inception", "dtype": dtype, **row}


def rows(cupy: Any, torch: Any) -> Iterator[Callable[[], Any]]:
    for case in POOLS:
        for dtype in DTYPES:
            for layout in ("NCHW", "NHWC"):
                yield partial(pooling, cupy, torch, case, dtype, layout)
    for dtype in DTYPES:
        yield partial(relu, cupy, torch, dtype)
    for name in MODULES:
        for dtype in DTYPES:
            yield partial(inception, cupy, torch, name, dtype)


if __name__ == "__main__":
    record_rows(__doc__, rows)
