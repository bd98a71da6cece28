"""`cuconv filter`: one kernel over an image file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import cuconv
from cuconv._cli import _kernels
from cuconv._cli._device import Device, device_option, open_device
from cuconv._cli._errors import CliError
from cuconv._cli._images import Picture, check_writable, read_picture, write_picture
from cuconv._cli._progress import progress_bar

LARGEST_SIGMA = 250.0  # a kernel of 2001 values
TOLERANCE = 1e-6  # of --separable: what float32 makes of a product

Passes = Callable[[Any, Callable[..., Any]], Any]  # (plane, correlate) -> filtered plane


@dataclass(frozen=True)
class Options:
    """What conv2d is told besides the kernel."""

    padding_mode: str
    algo: str


@click.command(name="filter", short_help="Filter an image file.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "-k",
    "--kernel",
    required=True,
    metavar="KERNEL",
    help="One of sobel, laplacian, gaussian, sharpen, emboss; or a file with a matrix: text "
    "(spaces or commas between numbers) or .npy.",
)
@click.option("--size", type=int, help="Kernel size, odd: gaussian, and laplacian with --sigma.")
@click.option(
    "--sigma",
    type=float,
    help="Standard deviation in pixels: gaussian [default: 1], and laplacian, which then "
    "smooths first (Laplacian of Gaussian).",
)
@click.option(
    "--padding-mode",
    type=click.Choice(["reflect", "replicate", "circular", "zeros"]),
    default="reflect",
    show_default=True,
    help="What lies beyond the edges.",
)
@click.option(
    "--algo",
    type=click.Choice(["auto", "direct", "im2col", "implicit_gemm", "winograd", "fft"]),
    default="auto",
    show_default=True,
    help="The algorithm family.",
)
@click.option(
    "--separable",
    is_flag=True,
    help="Filter in two passes, by a column and by a row whose product is the kernel; an error if "
    "there are none.",
)
@click.option(
    "--tolerance",
    type=float,
    help=f"How much of the kernel the two may miss, as a part of its norm: --separable  "
    f"[default: {TOLERANCE:g}]",
)
@device_option
def filter_image(
    source: Path,
    target: Path,
    kernel: str,
    size: int | None,
    sigma: float | None,
    padding_mode: str,
    algo: str,
    separable: bool,
    tolerance: float | None,
    device_name: str,
) -> None:
    """Filter the image file IN with a kernel and write OUT.

    Grey or colour, 8 or 16 bits: OUT has the depth of IN, rounded and cut to its range.
    Transparency stays as it is. sobel gives the strength of the gradient. A matrix is applied as
    it reads (cross-correlation, as in image editors). Negative results become 0, so laplacian
    shows the dark side of each edge. OUT may be IN, and appears whole or not at all.

    \b
    Examples:
      cuconv filter photo.jpg edges.png --kernel sobel
      cuconv filter scan.tiff soft.tiff --kernel gaussian --sigma 2.5
      cuconv filter photo.jpg blobs.png --kernel laplacian --sigma 3
      cuconv filter scan.tiff soft.tiff --kernel disc.npy --separable --tolerance 0.01
      printf '1 1 1\\n1 -8 1\\n1 1 1\\n' > own.txt; cuconv filter in.png out.png --kernel own.txt
    """
    passes = choose_passes(kernel, size, sigma)
    if tolerance is not None and not separable:
        raise CliError("--tolerance goes with --separable")
    if separable:
        passes = in_two_passes(passes, TOLERANCE if tolerance is None else tolerance)
    picture = read_picture(source)
    check_writable(target, picture)
    device = open_device(device_name)
    try:
        result = apply(picture, passes, Options(padding_mode, algo), device)
    except ValueError as error:  # such as a reflection wider than the picture
        raise CliError(f"cannot filter {source}: {error}") from None
    write_picture(target, result)


def choose_passes(kernel: str, size: int | None, sigma: float | None) -> Passes:
    """The kernel by its name, with the options that belong to it."""
    if size is not None and (size < 1 or size % 2 == 0):
        raise CliError(f"--size must be odd and at least 1, got {size}")
    if sigma is not None and not 0 < sigma <= LARGEST_SIGMA:
        raise CliError(f"--sigma must be above 0 and at most {LARGEST_SIGMA:g}, got {sigma:g}")
    if size is not None and size > _kernels.default_size(LARGEST_SIGMA):
        raise CliError(f"--size must be at most {_kernels.default_size(LARGEST_SIGMA)}, got {size}")
    takes = kernel == "gaussian" or (kernel == "laplacian" and sigma is not None)
    if size is not None and not takes:
        raise CliError("--size goes with --kernel gaussian, and with laplacian --sigma")
    if sigma is not None and not takes:
        raise CliError("--sigma goes with --kernel gaussian or laplacian")
    if kernel == "sobel":
        return gradient_magnitude
    if kernel == "gaussian":
        line = _kernels.gaussian(1.0 if sigma is None else sigma, size)
        return lambda plane, correlate: correlate(correlate(plane, line[:, None]), line[None, :])
    if kernel == "laplacian":
        matrix = (
            _kernels.LAPLACIAN if sigma is None else _kernels.laplacian_of_gaussian(sigma, size)
        )
    elif kernel == "sharpen":
        matrix = _kernels.SHARPEN
    elif kernel == "emboss":
        matrix = _kernels.EMBOSS
    else:
        matrix = _kernels.read_kernel(Path(kernel))
    return lambda plane, correlate: correlate(plane, matrix)


def in_two_passes(passes: Passes, tolerance: float) -> Passes:
    """The same with every matrix taken apart: first down the columns, then along the rows."""
    if not 0 <= tolerance < 1:
        raise CliError(f"--tolerance must be at least 0 and below 1, got {tolerance:g}")

    def separated(plane: Any, correlate: Callable[..., Any]) -> Any:
        def both(part: Any, matrix: np.ndarray) -> Any:
            column, row = _kernels.separate(matrix, tolerance)
            return correlate(correlate(part, column), row)

        return passes(plane, both)

    return separated


def gradient_magnitude(plane: Any, correlate: Callable[..., Any]) -> Any:
    across, down = (correlate(plane, matrix) for matrix in _kernels.SOBEL)
    return (across * across + down * down) ** 0.5


def apply(picture: Picture, passes: Passes, options: Options, device: Device) -> Picture:
    """Each channel by itself, in floating point; then rounded and cut to the depth's range."""
    # Sums of 8-bit pixels times small integers are exact in float32; of 16-bit pixels not.
    dtype = np.float32 if picture.bits == 8 else np.float64

    def correlate(plane: Any, matrix: np.ndarray) -> Any:
        if not np.abs(matrix).sum() * picture.white < np.finfo(dtype).max:
            raise ValueError(f"the kernel's numbers are too large for {np.dtype(dtype)}")
        return cuconv.conv2d(
            plane,
            device.to_device(matrix.astype(dtype)[None, None]),
            # The cell with the pixel is the middle one, or right of the middle: size // 2.
            padding="same_lower",
            padding_mode=options.padding_mode,
            algo=options.algo,
        )

    result = np.empty_like(picture.pixels)
    channels = picture.pixels.shape[2]
    with progress_bar(delay=1.0) as bar:
        for channel in bar.track(range(channels), description="Filtering channels"):
            plane = device.to_device(picture.pixels[None, None, :, :, channel].astype(dtype))
            filtered = device.to_host(passes(plane, correlate))[0, 0]
            result[..., channel] = np.clip(np.rint(filtered), 0, picture.white)
    return Picture(result, picture.alpha)
