"""What the network examples share: where they compute, and files that appear whole or not at all.

A mistake of the user's is a `click.ClickException`: one line on stderr instead of a traceback.
"""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import cuconv

Array = Any  # NumPy's or CuPy's


@dataclass(frozen=True)
class Device:
    """How arrays go to where the work is done and come back, and how to wait for its end."""

    name: str
    put: Callable[[np.ndarray], Array] = np.asarray
    get: Callable[[Array], np.ndarray] = np.asarray
    wait: Callable[[], None] = lambda: None


device_option = click.option(
    "--device",
    "device_name",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Compute on NumPy arrays, or on CuPy arrays.",
)


def open_device(name: str) -> Device:
    if name == "cpu":
        return Device("cpu")
    if not cuconv.is_cuda_available():
        raise click.ClickException(
            "--device cuda: cuconv cannot use a GPU here; `python -m cuconv info` says why"
        )
    import cupy

    stream = cupy.cuda.get_current_stream()
    return Device("cuda", cupy.asarray, cupy.asnumpy, stream.synchronize)


def check_can_write(path: Path) -> None:
    """Said before the work, not after it."""
    if path.suffix.lower() != ".png":
        raise click.ClickException(f"cannot write {path}: the name must end in .png")
    if not path.parent.is_dir():
        raise click.ClickException(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise click.ClickException(f"cannot write {path}: it is a folder")


def write_whole(path: Path, data: bytes) -> None:
    """Beside the target first, then renamed: whatever happens, no half file lies there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def new_figure(width: float, height: float) -> Figure:
    """In inches; drawn in memory, without a display."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(path: Path, figure: Figure) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    write_whole(path, file.getvalue())
