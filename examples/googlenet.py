"""GoogLeNet, layer by layer: its shapes held against the paper's table, and where the time goes.

22 layers with weights: three plain convolutions, nine Inception modules of two layers each, and a
linear layer. Weights are random (the time does not depend on them) or a file's. Left out: the
local response normalisation, which the table does not list, and what only training needs (dropout
and the two side classifiers).

Source: C. Szegedy et al., Going deeper with convolutions (2014), arXiv:1409.4842, table 1.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import click
import numpy as np
from matplotlib.patches import Patch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

import cuconv
from _support import (
    Array,
    Device,
    check_can_write,
    device_option,
    new_figure,
    open_device,
    write_figure,
)

# module: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj; and its output of table 1 (C, H, W)
INCEPTION = {
    "3a": ((64, 96, 128, 16, 32, 32), (256, 28, 28)),
    "3b": ((128, 128, 192, 32, 96, 64), (480, 28, 28)),
    "4a": ((192, 96, 208, 16, 48, 64), (512, 14, 14)),
    "4b": ((160, 112, 224, 24, 64, 64), (512, 14, 14)),
    "4c": ((128, 128, 256, 24, 64, 64), (512, 14, 14)),
    "4d": ((112, 144, 288, 32, 64, 64), (528, 14, 14)),
    "4e": ((256, 160, 320, 32, 128, 128), (832, 14, 14)),
    "5a": ((256, 160, 320, 32, 128, 128), (832, 7, 7)),
    "5b": ((384, 192, 384, 48, 128, 128), (1024, 7, 7)),
}
POOL_BEFORE = {"4a": ("max pool 3", (480, 14, 14)), "5a": ("max pool 4", (832, 7, 7))}
CLASSES = 1000
COLOURS = {"conv": "#0969da", "pool": "#1a7f37", "inception": "#bf3989", "classifier": "#9a6700"}


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str  # a key of COLOURS
    run: Callable[[Array], Array]
    shape: tuple[int, ...]  # of the result of one image, as in table 1
    multiply_adds: int = 0  # of one image


# ---- weights ----


def filter_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> (K, C, R, S), or (K, C) of the linear layer; with each goes a bias, (K,)."""
    shapes = {
        "conv1": (64, 3, 7, 7),
        "conv2_reduce": (64, 64, 1, 1),
        "conv2": (192, 64, 3, 3),
    }
    c = 192
    for module, ((one, reduce3, three, reduce5, five, project), output) in INCEPTION.items():
        shapes[f"{module}_conv1"] = (one, c, 1, 1)
        shapes[f"{module}_reduce3"] = (reduce3, c, 1, 1)
        shapes[f"{module}_conv3"] = (three, reduce3, 3, 3)
        shapes[f"{module}_reduce5"] = (reduce5, c, 1, 1)
        shapes[f"{module}_conv5"] = (five, reduce5, 5, 5)
        shapes[f"{module}_project"] = (project, c, 1, 1)
        c = output[0]
    shapes["linear"] = (CLASSES, c)
    return shapes


def random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal, scaled to the number of products in a sum, so that values keep their size."""
    found = {}
    for name, shape in filter_shapes().items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        found[f"{name}_w"] = scale * rng.standard_normal(shape, np.float32)
        found[f"{name}_b"] = np.zeros(shape[0], np.float32)
    return found


def read_weights(path: Path) -> dict[str, np.ndarray]:
    found = {}
    try:
        with np.load(path) as file:
            for name, shape in filter_shapes().items():
                for key, wanted in ((f"{name}_w", shape), (f"{name}_b", shape[:1])):
                    if key not in file:
                        raise click.ClickException(f"{path} has no array {key}, {wanted}")
                    found[key] = file[key].astype(np.float32)
                    if found[key].shape != wanted:
                        raise click.ClickException(
                            f"{path}: {key} has shape {found[key].shape}, not {wanted}"
                        )
    except OSError as error:
        reason = error.strerror or "it is not an .npz file"
        raise click.ClickException(f"cannot read {path}: {reason}") from None
    except (ValueError, TypeError, EOFError, BadZipFile):  # whatever else NumPy may find there
        raise click.ClickException(f"cannot read {path}: it is not an .npz file") from None
    return found


# ---- the network ----


def build(weights: dict[str, np.ndarray], device: Device) -> list[Layer]:
    arrays = {name: device.put(array) for name, array in weights.items()}
    shapes = filter_shapes()

    def conv(name: str, shape: tuple[int, ...], **options: int) -> Layer:
        w, b = arrays[f"{name}_w"], arrays[f"{name}_b"]
        work = int(np.prod(shapes[name])) * shape[1] * shape[2]
        return Layer(
            name,
            "conv",
            lambda x: cuconv.conv2d(x, w, b, activation="relu", **options),
            shape,
            work,
        )

    def pool(name: str, shape: tuple[int, ...]) -> Layer:
        return Layer(name, "pool", lambda x: cuconv.max_pool2d(x, 3, 2, "same"), shape)

    def inception(module: str, shape: tuple[int, ...]) -> Layer:
        parts = ("conv1", "reduce3", "conv3", "reduce5", "conv5", "project")
        pairs = {f"{p}_{a}": arrays[f"{module}_{p}_{a}"] for p in parts for a in "wb"}
        work = sum(int(np.prod(shapes[f"{module}_{p}"])) for p in parts) * shape[1] * shape[2]
        run = cuconv.Inception(cuconv.InceptionWeights(**pairs))
        return Layer(f"inception {module}", "inception", run, shape, work)

    layers = [
        conv("conv1", (64, 112, 112), stride=2, padding=3),
        pool("max pool 1", (64, 56, 56)),
        conv("conv2_reduce", (64, 56, 56)),
        conv("conv2", (192, 56, 56), padding=1),
        pool("max pool 2", (192, 28, 28)),
    ]
    for module, (_, shape) in INCEPTION.items():
        if module in POOL_BEFORE:
            layers.append(pool(*POOL_BEFORE[module]))
        layers.append(inception(module, shape))
    w, b = arrays["linear_w"], arrays["linear_b"]
    layers += [
        Layer("avg pool", "pool", cuconv.global_avg_pool, (1024, 1, 1)),
        Layer(
            "linear",
            "classifier",
            lambda x: x.reshape(len(x), -1) @ w.T + b,
            (CLASSES,),
            CLASSES * 1024,
        ),
        Layer("softmax", "classifier", lambda x: cuconv.softmax(x, axis=1), (CLASSES,)),
    ]
    return layers


def run_through(
    layers: list[Layer], x: Array, device: Device, after: Callable[[Layer], object]
) -> list[float]:
    """Seconds of each layer; every shape must be that of table 1."""
    seconds = []
    for layer in layers:
        device.wait()
        began = time.perf_counter()
        y = layer.run(x)
        device.wait()
        seconds.append(time.perf_counter() - began)
        assert y.shape == (x.shape[0], *layer.shape), f"{layer.name}: {y.shape}, not {layer.shape}"
        x = y
        after(layer)
    return seconds


def measure(
    layers: list[Layer], x: Array, device: Device, repeats: int
) -> tuple[list[list[float]], bool]:
    """The whole runs' seconds, and whether Control-C ended them. The first run is not counted."""
    runs: list[list[float]] = []
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Warming up", total=(repeats + 1) * len(layers))
        try:
            for number in range(repeats + 1):
                found = run_through(layers, x, device, lambda _: bar.advance(task))
                if number:
                    runs.append(found)
                bar.update(task, description="Timing")
        except KeyboardInterrupt:
            return runs, True
    return runs, False


# ---- what is shown ----


def print_table(layers: list[Layer], seconds: np.ndarray, batch: int) -> None:
    table = Table("layer", "output (C, H, W)", title=f"GoogLeNet, batch {batch}")
    for heading in ("10⁶ multiply-adds", "ms", "share", "GFLOP/s"):
        table.add_column(heading, justify="right")
    for layer, s in zip(layers, seconds, strict=True):
        work = layer.multiply_adds * batch
        table.add_row(
            layer.name,
            " × ".join(str(n) for n in layer.shape),
            f"{work / 1e6:,.1f}" if work else "",
            f"{s * 1e3:.2f}",
            f"{s / seconds.sum():.1%}",
            f"{2 * work / s / 1e9:,.1f}" if work else "",
        )
    work, total = batch * sum(layer.multiply_adds for layer in layers), seconds.sum()
    table.add_section()
    table.add_row(
        "all", "", f"{work / 1e6:,.1f}", f"{total * 1e3:.2f}", "", f"{2 * work / total / 1e9:,.1f}"
    )
    Console().print(table)


def write_bars(path: Path, layers: list[Layer], seconds: np.ndarray, heading: str) -> None:
    figure = new_figure(10, 7)
    axes = figure.subplots()
    names = [layer.name for layer in layers]
    bars = axes.barh(names, seconds * 1e3, color=[COLOURS[layer.kind] for layer in layers])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08e3 * seconds.max())
    axes.set_xlabel("milliseconds")
    axes.set_title(heading)
    patches = [Patch(color=colour, label=kind) for kind, colour in COLOURS.items()]
    axes.legend(handles=patches, loc="lower right")
    write_figure(path, figure)


@click.command()
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Runs that are timed, after one that is not; the median of each layer counts.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="An .npz file with NAME_w and NAME_b for conv1, conv2_reduce, conv2, 3a_conv1, "
    "3a_reduce3, 3a_conv3, 3a_reduce5, 3a_conv5, 3a_project, ..., linear.  [default: random]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="googlenet.png",
    show_default=True,
    help="The picture of the times.",
)
@device_option
def main(batch: int, repeats: int, weights: Path | None, out: Path, device_name: str) -> None:
    """Run GoogLeNet on random pictures and time each layer.

    Control-C ends the timing; the runs done are kept and shown.
    """
    check_can_write(out)
    device = open_device(device_name)
    rng = np.random.default_rng(0)
    layers = build(read_weights(weights) if weights else random_weights(rng), device)
    x = device.put(rng.standard_normal((batch, 3, 224, 224), np.float32))
    runs, stopped = measure(layers, x, device, repeats)
    if not runs:
        raise click.ClickException("stopped within the first timed run: there is nothing to show")
    seconds = np.median(runs, axis=0)
    print_table(layers, seconds, batch)
    done = f"median of {len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    heading = f"GoogLeNet, batch {batch}, {device.name}: {seconds.sum() * 1e3:.0f} ms ({done})"
    write_bars(out, layers, seconds, heading)
    click.echo(f"{'Stopped early: ' if stopped else ''}{done}; all shapes are those of table 1")
    click.echo(f"Bars: {out}")


if __name__ == "__main__":
    main()
