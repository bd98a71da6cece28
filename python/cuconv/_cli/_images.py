"""Image files: grey or colour, 8 or 16 bits a channel, with or without alpha.

A picture is read as stored, turned as its EXIF orientation says (the files written carry no EXIF),
and written back in the same depth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cuconv._cli._errors import CliError
from cuconv._cli._files import write_atomically

# suffix -> (bits a channel, colour, alpha) that the format holds
FORMATS = {
    ".png": (16, True, True),
    ".tif": (16, True, True),
    ".tiff": (16, True, True),
    ".webp": (8, True, True),
    ".bmp": (8, True, True),
    ".jpg": (8, True, False),
    ".jpeg": (8, True, False),
    ".ppm": (16, True, False),
    ".pgm": (16, False, False),
}


@dataclass(frozen=True)
class Picture:
    """`pixels` is (H, W, 1) or (H, W, 3), uint8 or uint16; colours in OpenCV's order B, G, R."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None  # (H, W), same dtype

    @property
    def bits(self) -> int:
        return self.pixels.dtype.itemsize * 8

    @property
    def is_colour(self) -> bool:
        return self.pixels.shape[2] == 3

    @property
    def white(self) -> int:
        """The largest value a channel can hold."""
        return int(np.iinfo(self.pixels.dtype).max)


def read_picture(path: Path) -> Picture:
    if not path.exists():
        raise CliError(f"cannot read {path}: no such file")
    if not path.is_file():
        raise CliError(f"cannot read {path}: it is not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None
    stored = _decode(data, cv2.IMREAD_UNCHANGED)
    upright = _decode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if stored is None or upright is None:
        raise CliError(f"cannot read {path}: not an image, damaged, or of an unknown format")
    if stored.dtype not in (np.uint8, np.uint16):
        raise CliError(f"cannot read {path}: pixels are {stored.dtype}; 8 or 16 bits are taken")
    if stored.ndim == 2 or stored.shape[2] == 3:
        return Picture(np.atleast_3d(upright))
    # OpenCV turns no image that has alpha: find how it turned the colours, and turn both alike.
    turn = _turn_between(stored[..., :3], np.atleast_3d(upright))
    return Picture(
        *(np.ascontiguousarray(turn(part)) for part in (stored[..., :3], stored[..., 3]))
    )


def check_writable(path: Path, picture: Picture) -> None:
    """Whether the format that the name asks for can hold this picture; said before the work."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise CliError(
            f"cannot write {path}: the name must end in one of {', '.join(sorted(FORMATS))}"
        )
    bits, colour, alpha = FORMATS[suffix]
    lacks = []
    if picture.bits > bits:
        lacks.append(f"{picture.bits} bits a channel")
    if picture.is_colour and not colour:
        lacks.append("colour")
    if picture.alpha is not None and not alpha:
        lacks.append("transparency")
    if lacks:
        raise CliError(f"cannot write {path}: {suffix} cannot hold {' or '.join(lacks)}; use .png")
    if path.exists() and not path.is_file():
        raise CliError(f"cannot write {path}: it is not a regular file")
    if not path.parent.is_dir():
        raise CliError(f"cannot write {path}: there is no folder {path.parent}")


def write_picture(path: Path, picture: Picture) -> None:
    write_atomically(path, encode(path.suffix.lower(), picture))


def encode(suffix: str, picture: Picture) -> bytes:
    """The bytes of an image file."""
    pixels = picture.pixels
    if picture.alpha is not None or suffix == ".ppm":
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if picture.alpha is not None:
        pixels = np.concatenate([pixels, picture.alpha[..., None]], axis=2)
    try:
        with _silence():
            done, data = cv2.imencode(suffix, np.ascontiguousarray(pixels))
    except cv2.error:
        done = False
    if not done:
        height, width = pixels.shape[:2]
        raise CliError(f"{suffix} cannot hold a picture of {width} x {height} pixels")
    return data.tobytes()


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        with _silence():
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # empty, or larger than OpenCV takes
        return None


def _turn_between(stored: np.ndarray, upright: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    for quarters in range(4):
        for mirrored in (False, True):

            def turn(
                a: np.ndarray, quarters: int = quarters, mirror: bool = mirrored
            ) -> np.ndarray:
                return np.rot90(a[:, ::-1] if mirror else a, quarters)

            if np.array_equal(turn(stored)[..., : upright.shape[2]], upright):
                return turn
    return lambda a: a  # decoded differently with alpha: taken as upright


@contextmanager
def _silence() -> Iterator[None]:
    """The image libraries print warnings of their own to stderr; ours is one line."""
    try:
        saved = os.dup(2)
    except OSError:  # stderr is closed: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
