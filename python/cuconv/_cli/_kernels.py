"""The kernels of `cuconv filter`, as matrices for cross-correlation (row 0 is the top)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from cuconv._cli._errors import CliError

# The change from left to right and from top to bottom, each smoothed across its direction.
SOBEL = np.array(
    [[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]], np.float64
)
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float64)
EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float64)

LARGEST_TEXT = 1 << 24  # bytes; a kernel file is small, so a larger file is a mistake


def gaussian(sigma: float, size: int | None = None) -> np.ndarray:
    """One axis of the Gaussian, of sum 1; by default it reaches four standard deviations."""
    positions = np.arange(size or default_size(sigma)) - (size or default_size(sigma)) // 2
    weights = np.exp(-0.5 * (positions / sigma) ** 2)
    return weights / weights.sum()


def default_size(sigma: float) -> int:
    return 2 * math.floor(4 * sigma + 0.5) + 1


def laplacian_of_gaussian(sigma: float, size: int | None = None) -> np.ndarray:
    """The second derivatives of the Gaussian along both axes, added: dark blobs answer positive."""
    smooth = gaussian(sigma, size)
    positions = np.arange(smooth.size) - smooth.size // 2
    bent = smooth * (positions**2 / sigma**4 - 1 / sigma**2)
    kernel = np.outer(bent, smooth) + np.outer(smooth, bent)
    return kernel - kernel.mean()  # cut off and sampled, the sum is not quite 0: flat must give 0


def separate(kernel: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) whose product is the kernel, but for at most `tolerance` of its norm.

    The best pair comes from the singular value decomposition, and misses what the singular values
    after the first hold (C. Eckart and G. Young, The approximation of one matrix by another of
    lower rank, Psychometrika 1, 1936).
    """
    left, values, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
    parts = values / (values[0] or 1.0)
    missed = float(np.linalg.norm(parts[1:]) / (np.linalg.norm(parts) or 1.0))
    if not missed <= tolerance:
        raise CliError(
            f"--separable: the best column and row miss {missed:.3g} of the kernel's norm, "
            f"the tolerance is {tolerance:g}"
        )
    size = values[0] ** 0.5
    return size * left[:, :1], size * right[:1]


def read_kernel(path: Path) -> np.ndarray:
    """A matrix from text (whitespace or commas between numbers, # comments) or a .npy file."""
    if not path.is_file():
        raise CliError(f"--kernel {path}: no such file, and not the name of a kernel")
    kernel = _read_npy(path) if path.suffix == ".npy" else _read_text(path)
    if kernel.ndim != 2 or kernel.size == 0:
        raise CliError(f"--kernel {path}: must be a matrix, got an array of shape {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise CliError(f"--kernel {path}: holds infinity or NaN")
    return kernel


def _read_npy(path: Path) -> np.ndarray:
    try:
        kernel = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CliError(f"--kernel {path}: not a .npy array of numbers: {error}") from None
    if not isinstance(kernel, np.ndarray) or kernel.dtype.kind not in "biuf":
        raise CliError(f"--kernel {path}: not a .npy array of real numbers")
    return kernel.astype(np.float64)


def _read_text(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise CliError(f"--kernel {path}: too large for a text matrix; is it an image?")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CliError(f"--kernel {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CliError(f"--kernel {path}: neither a text file nor .npy") from None
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].replace(",", " ").split()
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise CliError(f"--kernel {path}, line {number}: {error}") from None
        if row and rows and len(row) != len(rows[0]):
            raise CliError(
                f"--kernel {path}, line {number}: {len(row)} numbers, {len(rows[0])} above"
            )
        if row:
            rows.append(row)
    return np.array(rows, np.float64)
