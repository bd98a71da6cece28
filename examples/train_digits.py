"""Trains a small network on handwritten digits, with cuconv's gradients and nothing else.

Convolution, ReLU, max-pooling, twice, and logistic regression on the features they leave. The loss
is the cross-entropy; each step goes down its gradient on a small batch, with momentum. Needs
scikit-learn for the 1797 digits, 8 x 8 pixels each, that come with it.

Source of the network's plan: Y. LeCun et al., Gradient-based learning applied to document
recognition (1998), Proceedings of the IEEE 86.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from sklearn.datasets import load_digits

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

HELD_OUT = 360  # of 1797 digits: a fifth, never trained on
BATCH = 32
RATE = 0.03
MOMENTUM = 0.9
FILTERS = (32, 64)
POOL = {"kernel_size": 3, "stride": 2, "padding": 1}  # windows overlap

Parameters = dict[str, Array]


# ---- the network ----


def initial_parameters(rng: np.random.Generator, device: Device) -> Parameters:
    """Normal, scaled to the number of products in a sum, so that values keep their size."""
    first, second = FILTERS
    shapes = {"w1": (first, 1, 5, 5), "w2": (second, first, 5, 5), "w3": (second * 4, 10)}
    fan_in = {"w1": 25, "w2": 25 * first, "w3": second * 4}
    found = {}
    for name, shape in shapes.items():
        w = rng.normal(0, np.sqrt(2 / fan_in[name]), shape)
        found[name] = device.put(w.astype(np.float32))
    for name, count in (("b1", first), ("b2", second), ("b3", 10)):
        found[name] = device.put(np.zeros(count, np.float32))
    return found


@dataclass
class Activations:
    """What the way back needs of the way there."""

    maps1: Array  # (N, 32, 8, 8), after ReLU
    pooled1: Array  # (N, 32, 4, 4)
    places1: Array
    maps2: Array  # (N, 64, 4, 4)
    pooled2: Array  # (N, 64, 2, 2)
    places2: Array
    probabilities: Array  # (N, 10)


def forward(p: Parameters, x: Array) -> Activations:
    maps1 = cuconv.conv2d(x, p["w1"], p["b1"], padding=2, activation="relu")
    pooled1, places1 = cuconv.max_pool2d(maps1, return_indices=True, **POOL)
    maps2 = cuconv.conv2d(pooled1, p["w2"], p["b2"], padding=2, activation="relu")
    pooled2, places2 = cuconv.max_pool2d(maps2, return_indices=True, **POOL)
    scores = pooled2.reshape(len(x), -1) @ p["w3"] + p["b3"]
    probabilities = cuconv.softmax(scores, axis=1)
    return Activations(maps1, pooled1, places1, maps2, pooled2, places2, probabilities)


def cross_entropy(probabilities: Array, target: Array) -> float:
    """`target` has a one at each digit's class. The mean over the batch."""
    chosen = (probabilities * target).sum(axis=1)
    return float(-np.log(np.maximum(chosen, 1e-30)).mean())


def gradients(p: Parameters, x: Array, a: Activations, target: Array) -> Parameters:
    """Of the cross-entropy, layer by layer from the last to the first."""
    g = (a.probabilities - target) / len(x)  # of softmax and cross-entropy together
    found = {"w3": a.pooled2.reshape(len(x), -1).T @ g, "b3": g.sum(axis=0)}

    g = (g @ p["w3"].T).reshape(a.pooled2.shape)
    g = cuconv.max_pool2d_grad(g, a.places2, a.maps2.shape, **POOL)
    g = cuconv.relu_grad(g, a.maps2)
    found["w2"] = cuconv.conv2d_weight_grad(g, a.pooled1, p["w2"].shape, padding=2)
    found["b2"] = cuconv.conv2d_bias_grad(g)

    g = cuconv.conv2d_input_grad(g, p["w2"], a.pooled1.shape, padding=2)
    g = cuconv.max_pool2d_grad(g, a.places1, a.maps1.shape, **POOL)
    g = cuconv.relu_grad(g, a.maps1)
    found["w1"] = cuconv.conv2d_weight_grad(g, x, p["w1"].shape, padding=2)
    found["b1"] = cuconv.conv2d_bias_grad(g)
    return found


# ---- training ----


@dataclass
class Digits:
    """Pictures (N, 1, 8, 8) in [0, 1] and one-hot classes (N, 10)."""

    x: Array
    target: Array

    def take(self, chosen: Array) -> "Digits":
        return Digits(self.x[chosen], self.target[chosen])


def read_digits(rng: np.random.Generator, device: Device) -> tuple[Digits, Digits]:
    """Those to train on, and those held out."""
    data = load_digits()
    x = (data.images[:, None] / 16).astype(np.float32)
    target = np.eye(10, dtype=np.float32)[data.target]
    order = rng.permutation(len(x))
    parts = order[HELD_OUT:], order[:HELD_OUT]
    train, test = (Digits(device.put(x[i]), device.put(target[i])) for i in parts)
    return train, test


@dataclass
class Curves:
    """A point after each epoch."""

    loss: list[float] = field(default_factory=list)  # on the digits trained on
    held_out_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)  # on the digits held out


def train_epoch(
    p: Parameters,
    velocity: Parameters,
    digits: Digits,
    rate: float,
    rng: np.random.Generator,
    device: Device,
) -> float:
    """Each digit once, in a new order. Changes `p` and `velocity`; returns the mean loss."""
    order, total = rng.permutation(len(digits.x)), 0.0
    for start in range(0, len(order), BATCH):
        batch = digits.take(device.put(order[start : start + BATCH]))
        a = forward(p, batch.x)
        total += cross_entropy(a.probabilities, batch.target) * len(batch.x)
        for name, g in gradients(p, batch.x, a, batch.target).items():
            velocity[name] = MOMENTUM * velocity[name] - rate * g
            p[name] = p[name] + velocity[name]
    return total / len(order)


def evaluate(p: Parameters, digits: Digits) -> tuple[float, float]:
    """Cross-entropy, and the share of digits told rightly."""
    probabilities = forward(p, digits.x).probabilities
    right = probabilities.argmax(axis=1) == digits.target.argmax(axis=1)
    return cross_entropy(probabilities, digits.target), float(right.mean())


def train(
    p: Parameters,
    parts: tuple[Digits, Digits],
    epochs: int,
    rng: np.random.Generator,
    device: Device,
) -> tuple[Curves, bool]:
    """The curves, and whether it was stopped early; `p` is that of the last whole epoch."""
    curves = Curves()
    velocity = {name: 0 * value for name, value in p.items()}
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Training", total=epochs)
        try:
            for epoch in range(epochs):
                # Small steps at the end, so that the last batches do not rule.
                rate = RATE * (1 + math.cos(math.pi * epoch / epochs)) / 2
                moved, moving = dict(p), dict(velocity)
                loss = train_epoch(moved, moving, parts[0], rate, rng, device)
                held_out_loss, accuracy = evaluate(moved, parts[1])
                p.update(moved)
                velocity.update(moving)
                curves.loss.append(loss)
                curves.held_out_loss.append(held_out_loss)
                curves.accuracy.append(accuracy)
                bar.update(task, advance=1, description=f"Training ({accuracy:.1%} right)")
        except KeyboardInterrupt:
            return curves, True
    return curves, False


# ---- pictures ----


def write_curves(path: Path, curves: Curves) -> None:
    figure = new_figure(11, 4)
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(curves.loss) + 1)
    left.semilogy(epochs, curves.loss, label="trained on")
    left.semilogy(epochs, curves.held_out_loss, label="held out")
    left.set_title("Cross-entropy")
    left.legend()
    right.plot(epochs, [100 * a for a in curves.accuracy])
    right.axhline(98, color="gray", linestyle=":")
    right.set_title(f"Held-out digits told rightly: {curves.accuracy[-1]:.1%} in the end")
    right.set_ylabel("%")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    write_figure(path, figure)


def mosaic(images: np.ndarray) -> np.ndarray:
    """(rows, columns, H, W) -> one picture, with gaps between them."""
    gap = ((0, 0), (0, 0), (1, 1), (1, 1))
    rows, columns, height, width = images.shape
    padded = np.pad(images, gap, constant_values=np.nan).swapaxes(1, 2)
    return padded.reshape(rows * (height + 2), columns * (width + 2))


def write_features(path: Path, filters: np.ndarray, digits: np.ndarray, maps: np.ndarray) -> None:
    """A row of filters, and for each digit a row of what they make of it."""
    rows, columns = maps.shape[:2]
    figure = new_figure(0.5 * (columns + 1), 0.5 * (rows + 1) + 0.7)
    panels = figure.subplots(2, 2, width_ratios=(1, columns), height_ratios=(1, rows))
    strongest = np.abs(filters).max()
    draw = (
        (panels[0, 1], filters[None], "RdBu_r", -strongest, strongest),
        (panels[1, 0], digits[:, None], "gray_r", 0, 1),
        (panels[1, 1], maps, "inferno", 0, maps.max()),
    )
    for axes, images, colours, low, high in draw:
        axes.imshow(mosaic(images), cmap=colours, vmin=low, vmax=high)
    for axes in panels.flat:
        axes.set_axis_off()
    figure.suptitle("The first layer: filters (red +, blue -), and feature maps after ReLU")
    write_figure(path, figure)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=".",
    show_default=True,
    help="An existing folder for digits-curves.png and digits-features.png.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@device_option
def main(out: Path, epochs: int, seed: int, device_name: str) -> None:
    """Train a network on handwritten digits and draw what it learned.

    Control-C ends the training; the epochs done are kept and drawn.
    """
    paths = out / "digits-curves.png", out / "digits-features.png"
    for path in paths:
        check_can_write(path)
    device = open_device(device_name)
    rng = np.random.default_rng(seed)
    parts = read_digits(rng, device)
    p = initial_parameters(rng, device)
    began = time.perf_counter()
    curves, stopped = train(p, parts, epochs, rng, device)
    seconds = time.perf_counter() - began
    if not curves.loss:
        raise click.ClickException("stopped within the first epoch: there is nothing to draw")
    write_curves(paths[0], curves)
    # The first held-out digit of each class.
    x = parts[1].x[parts[1].target.argmax(axis=0)]
    maps = device.get(forward(p, x).maps1)
    write_features(paths[1], device.get(p["w1"])[:, 0], device.get(x)[:, 0], maps)
    done = len(curves.loss)
    click.echo(
        f"{'Stopped after' if stopped else 'Trained for'} {done} epochs in {seconds:.1f} s: "
        f"{curves.accuracy[-1]:.2%} of {HELD_OUT} held-out digits told rightly"
    )
    click.echo(f"Curves:   {paths[0]}")
    click.echo(f"Features: {paths[1]}")


if __name__ == "__main__":
    main()
