"""Errors of the CUDA kernels that transform, beside those of direct sums, as a Markdown table.

`python bench/fft_error.py` runs on the emulator (CUCONV_EMULATION=ON) in a few minutes: rounding
is the same as on a GPU, where additions and fused multiply-adds round as the CPU's do. Random
normal numbers of float32; errors against float64, as fractions of the root mean square result.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import cuconv

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fft_bounds import fft_bound

SIZES = (3, 5, 7, 11, 15, 21, 31)
CHANNELS = (1, 16, 64)


def errors(size: int, channels: int) -> dict[str, np.ndarray]:
    """|error| of each family, and the bound, over the root mean square result."""
    rng = np.random.default_rng([size, channels])
    side = 40 + size - 1
    x = rng.standard_normal((1, channels, side, side)).astype("f4")
    w = rng.standard_normal((2, channels, size, size)).astype("f4")
    with cuconv.use_backend("reference"):
        exact = cuconv.conv2d(x.astype("f8"), w.astype("f8"))
    scale = np.sqrt(np.mean(exact**2))
    found = {}
    for algo in ("direct", "fft"):
        with cuconv.use_backend("emulated", flavour="plain"):
            found[algo] = np.abs(cuconv.conv2d(x, w, algo=algo) - exact) / scale
    bound = fft_bound("forward", np.dtype("f4"), x, w, terms=channels)
    found["bound"] = np.broadcast_to(bound, exact.shape) / scale
    return found


def row(size: int, channels: int) -> str:
    found = errors(size, channels)
    rms = {algo: np.sqrt(np.mean(found[algo] ** 2)) for algo in ("direct", "fft")}
    numbers = (rms["direct"], rms["fft"], found["fft"].max(), (found["fft"] / found["bound"]).max())
    return f"| {size} x {size} | {channels} | " + " | ".join(f"{n:.1e}" for n in numbers) + " |"


def main() -> None:
    print("| kernel | channels | direct, RMS | fft, RMS | fft, largest | of its bound |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        for channels in CHANNELS:
            print(row(size, channels), flush=True)


if __name__ == "__main__":
    main()
