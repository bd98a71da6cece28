"""The error of Winograd's algorithm in float32, measured over channels, as a Markdown table.

    python bench/winograd_errors.py [--device cuda]

3x3 convolutions of drawn numbers by the kernels, against the oracle in float64. The kernels run
emulated, or with `--device cuda` on the GPU: each operation is IEEE's in both, so figures should
be equal. The matrix product of implicit GEMM stands beside them. Columns: the root mean square of
the error, and the largest error, both beside the root mean square of the outputs; the largest error
beside what docs/bounds.md allows a plain sum at that output, (M + 2) eps A; and the largest beside
eps (8 + 2 sqrt(M)) A + 48 eps max(A), which grows as rounding errors do. M is 9 times the channels.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import cuconv

VARIANTS = {
    "implicit GEMM": "implicit_gemm_simt_32x32",
    "F(2x2,3x3)": "winograd_staged_2x2",
    "F(4x4,3x3)": "winograd_staged_4x4",
}
EPS = float(np.finfo(np.float32).eps)


def operands(channels: int, data: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((1, channels, 24, 24)).astype(np.float32)
    w = rng.standard_normal((16, channels, 3, 3)).astype(np.float32)
    return (np.abs(x), np.abs(w)) if data == "non-negative" else (x, w)


def oracle(x: np.ndarray, w: np.ndarray) -> Any:
    with cuconv.use_backend("reference"):
        return cuconv.conv2d(x.astype(np.float64), w.astype(np.float64), padding=1)


def computed(variant: str, x: np.ndarray, w: np.ndarray, device: str) -> Any:
    if device == "cuda":
        import cupy

        with cuconv.use_backend("cuda", variant=variant):
            return cupy.asnumpy(cuconv.conv2d(cupy.asarray(x), cupy.asarray(w), padding=1))
    with cuconv.use_backend("emulated", flavour="plain", variant=variant):
        return cuconv.conv2d(x, w, padding=1)


def row(channels: int, data: str, device: str) -> str:
    x, w = operands(channels, data)
    exact, absolute = oracle(x, w), oracle(np.abs(x), np.abs(w))
    size = float(np.sqrt(np.mean(exact**2)))
    terms = 9 * channels
    plain = (terms + 2) * EPS * absolute
    likely = EPS * ((8 + 2 * np.sqrt(terms)) * absolute + 48 * absolute.max())
    cells = [data, str(channels)]
    for variant in VARIANTS.values():
        error = np.abs(computed(variant, x, w, device) - exact)
        rms = float(np.sqrt(np.mean(error**2)))
        beside = f"{np.max(error / plain):.3f}, {np.max(error / likely):.3f}"
        cells.append(f"{rms / size:.1e}, {error.max() / size:.1e}, {beside}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["emulated", "cuda"], default="emulated")
    device = parser.parse_args().device
    print(f"| data | channels | {' | '.join(VARIANTS)} |")
    print("|---|---|---|---|---|")
    for data in ("normal", "non-negative"):
        for channels in (1, 8, 64, 512):
            print(row(channels, data, device), flush=True)


if __name__ == "__main__":
    main()
