"""`cuconv demo`: what convolutions do, on a photograph."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.progress import Progress, TaskID

from cuconv._cli import _demo_steps as steps
from cuconv._cli._device import Device, device_option, open_device
from cuconv._cli._errors import CliError
from cuconv._cli._figures import Results, section_png, sections, sheet_png
from cuconv._cli._files import write_atomically
from cuconv._cli._images import read_picture
from cuconv._cli._page import Timing, page_html
from cuconv._cli._progress import progress_bar
from cuconv._version import __version__

LONGEST_SIDE = 800  # pixels; larger pictures are made smaller
SHORTEST_SIDE = 32
STEPS = 6 + 6  # of computing; of drawing and writing
STAR = steps.Box(59, 44, 59, 47)  # in the photograph that comes with matplotlib


@click.command(short_help="Make a page of pictures of what convolutions do.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="cuconv-demo",
    show_default=True,
    help="Folder for the results; made if missing.",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    help="A picture of your own.  [default: a photograph that comes with matplotlib]",
)
@device_option
def demo(out: Path, image: Path | None, device_name: str) -> None:
    """Make a page of pictures: edges, template matching, a pyramid, a small network.

    Writes OUT/index.html, one file with everything in it, and OUT/sheet.png. Nothing is downloaded.

    \b
    Examples:
      cuconv demo
      cuconv demo --image holiday.jpg --out holiday-demo
    """
    check_folder(out)
    colour, name = load(image)
    device = open_device(device_name)
    with progress_bar() as bar:
        task = bar.add_task("Computing", total=STEPS)
        run = StepRunner(device, bar, task)
        results = compute(colour, STAR if image is None else None, run)
        bar.update(task, description="Drawing")
        height, width = results.grey.shape
        heading = f"cuconv {__version__}: convolutions on a photograph"
        facts = [
            f"{name}, {height} × {width} pixels",
            f"{'GPU' if device.name == 'cuda' else 'CPU'}: {device.label}",
        ]
        aspect = height / width
        parts = []
        for section in sections(results):
            parts.append((section, section_png(section, aspect)))
            bar.advance(task)
        total = sum(t.seconds for t in run.timings)
        footing = "   ·   ".join([*facts, f"computed in {total:.2f} s"])
        sheet = sheet_png([section for section, _ in parts], aspect, heading, footing)
        bar.advance(task)
        page = page_html(heading, facts, parts, run.timings)
        write_folder(out, {"sheet.png": sheet, "index.html": page})
        bar.advance(task)
    row, column = results.match.peak
    click.echo(
        f"Computed on {device.label} in {total:.2f} s; the template was found at "
        f"row {row}, column {column}, where it was cut out."
    )
    click.echo(f"Page:  {click.format_filename(out / 'index.html')}")
    click.echo(f"Sheet: {click.format_filename(out / 'sheet.png')}")


class StepRunner:
    """Runs steps on a device, one after the other: timed, and told on the progress bar."""

    def __init__(self, device: Device, bar: Progress, task: TaskID) -> None:
        self.put = device.to_device
        self.get = device.to_host
        self.timings: list[Timing] = []
        self._wait = device.wait
        self._bar = bar
        self._task = task

    def __call__(self, step: str, work: str, function: Callable[[], Any]) -> Any:
        self._bar.update(self._task, description=step)
        self._wait()
        began = time.perf_counter()
        result = function()
        self._wait()
        self.timings.append(Timing(step, work, time.perf_counter() - began))
        self._bar.advance(self._task)
        return result


def load(path: Path | None) -> tuple[np.ndarray, str]:
    """The picture as (3, H, W), red first, values in [0, 1], and its name."""
    source = path or photograph()
    picture = read_picture(source)
    height, width = picture.pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    pixels: np.ndarray = (
        np.broadcast_to(picture.pixels, (height, width, 3)).astype(np.float32) / picture.white
    )
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if min(pixels.shape[:2]) < SHORTEST_SIDE:
        raise CliError(
            f"--image {source}: the demo needs at least {SHORTEST_SIDE} pixels a side, "
            f"got {pixels.shape[0]} × {pixels.shape[1]}"
        )
    name = "Grace Hopper, photograph by the US Navy (public domain)" if path is None else path.name
    return np.ascontiguousarray(np.moveaxis(pixels[..., ::-1], -1, 0)), name


def photograph() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


def compute(colour: np.ndarray, box: steps.Box | None, run: StepRunner) -> Results:
    """All steps, and the proof that the template was found where it was cut out."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    grey = np.tensordot(luma, colour, 1)
    height, width = grey.shape
    if box is None:
        box = steps.most_varied_box(grey, min(48, min(height, width) // 3))
    patch = box.cut(grey)
    if not patch.std() > steps.FLAT:
        raise CliError("the picture is of one brightness: there is nothing to find in it")
    template = patch - patch.mean()
    x, rgb, put = run.put(grey), run.put(colour), run.put
    size, window = f"{height} × {width}", f"{box.height} × {box.width}"

    slope, gradient = run("Sobel", f"3 × 3, two kernels, {size}", lambda: steps.sobel(x, put))
    laplacian = run(
        "Laplacian of Gaussian", f"17 × 17, {size}", lambda: steps.laplacian_of_gaussian(x, put)
    )
    scores = run(
        "Template matching",
        f"{window}, and window sums, {size}",
        lambda: steps.score(x, template, put),
    )
    match = steps.best_match(run.get(scores))
    check_found(match, box)
    correlation, convolution = run(
        "Kernel as it is, and flipped",
        f"{window} twice, {size}",
        lambda: steps.responses(x, template, put),
    )
    levels = run("Max-pooling pyramid", f"2 × 2, 3 colours, {size}", lambda: steps.pyramid(rgb))
    maps = run(
        "Network",
        f"1 → 4 maps 11 × 11, pool, 4 → 4 maps 9 × 9, pool, {size}",
        lambda: steps.network(x, put),
    )
    get = run.get
    return Results(
        colour=colour,
        grey=grey,
        slope=get(slope),
        gradient=get(gradient),
        laplacian=get(laplacian),
        box=box,
        correlation=get(correlation),
        convolution=get(convolution),
        match=match,
        levels=[get(level) for level in levels],
        maps=steps.FeatureMaps(get(maps.lines), get(maps.pooled), get(maps.contours)),
    )


def check_found(match: steps.Match, box: steps.Box) -> None:
    """The patch must score best where it was cut out; a repeating picture has more such places."""
    there = match.scores[box.top, box.left]
    if not there >= match.scores[match.peak] - steps.EQUAL:
        row, column = match.peak
        raise AssertionError(
            f"the template from row {box.top}, column {box.left} (score {there:.4f}) was found at "
            f"row {row}, column {column} (score {match.scores[row, column]:.4f})"
        )


def check_folder(folder: Path) -> None:
    """Said before the work: a folder cannot lie inside a file."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise CliError(f"--out {folder}: {nearest} is not a folder")


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Each file whole or not at all; a folder made for nothing is taken away."""
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomically(folder / name, data)
    except BaseException as error:
        for path in made:  # the innermost first; rmdir takes only empty ones
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise CliError(f"cannot write {folder}: {error.strerror}") from None
        raise
