"""The demo's pictures, drawn with matplotlib: one figure a section, or all on one sheet."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Rectangle

from cuconv._cli._demo_steps import ANGLES, BLUR, Box, FeatureMaps, Match, first_layer, second_layer

WIDTH = 16.0  # inches
DPI = 110
INK = "#1b1f24"
SOFT_INK = "#57606a"
FOUND = "#ff2d95"  # on grey, blue and dark pictures alike

Draw = Callable[[FigureBase], None]


@dataclass(frozen=True)
class Results:
    """Everything shown, as NumPy arrays. Pictures have values in [0, 1]."""

    colour: np.ndarray  # (3, H, W), red first
    grey: np.ndarray
    slope: np.ndarray  # left to right
    gradient: np.ndarray
    laplacian: np.ndarray
    box: Box
    correlation: np.ndarray
    convolution: np.ndarray
    match: Match
    levels: Sequence[np.ndarray]
    maps: FeatureMaps


@dataclass(frozen=True)
class Section:
    """A title, what is to be seen, and the panels: `rows` × `columns`, as wide as they can be."""

    title: str
    caption: str
    rows: int
    columns: int
    draw: Draw


def sections(r: Results) -> list[Section]:
    row, column = r.match.peak
    height, width = r.box.height, r.box.width
    there = (r.box.top, r.box.left)
    flipped = r.convolution[there] / r.correlation[there]
    alone = "" if r.match.equal_places == 1 else f" ({r.match.equal_places} places score the same)"
    return [
        Section(
            "Edges",
            "The slope from left to right: white where the picture turns brighter, black where it "
            "turns darker. With the slope downwards it gives the gradient's length: bright lines "
            "along every edge. The Laplacian of Gaussian is red inside dark spots and blue inside "
            "bright ones; edges run where it passes through white.",
            1,
            4,
            lambda figure: draw_edges(figure, r),
        ),
        Section(
            "Template matching",
            f"The framed patch ({height} × {width} pixels) is the template. Its correlation "
            f"coefficient with every position of the picture is largest, "
            f"{r.match.scores[row, column]:.3f}, at row {row}, column {column} (the ring): where "
            f"it was cut out{alone}. Each value stands at the upper left corner of its patch. "
            "On the right the bare sums of products: with the kernel as it is (cross-correlation, "
            "which deep learning calls convolution), and turned by 180° (convolution as "
            f"mathematics defines it, flip_kernel=True), which in the ring "
            f"answers {flipped:.0%} as strongly.",
            1,
            4,
            lambda figure: draw_match(figure, r),
        ),
        Section(
            "Max-pooling pyramid",
            "Each level keeps the largest value of every 2 × 2 square, colour by colour. Bright "
            "things grow and survive; dark details vanish first.",
            1,
            len(r.levels),
            lambda figure: draw_pyramid(figure, r),
        ),
        Section(
            "A small network",
            "Convolution, ReLU, pooling, convolution, ReLU, pooling, with fixed filters (framed). "
            "The first layer has one Gabor filter a direction and lights up at bright lines. The "
            "second gathers each direction along a stroke and subtracts the others: long "
            "contours stay, specks and crossings go.",
            2,
            len(ANGLES),
            lambda figure: draw_network(figure, r),
        ),
    ]


# ---- whole figures, as PNG files ----


def section_png(section: Section, aspect: float) -> bytes:
    """The panels alone, for a page that sets title and caption itself."""
    figure = Figure(figsize=(WIDTH, _panels_height(section, aspect)), dpi=DPI, layout="constrained")
    section.draw(figure)
    return _png(figure)


def sheet_png(parts: Sequence[Section], aspect: float, heading: str, footing: str) -> bytes:
    """All sections on one sheet; `aspect` is the picture's height over its width."""
    captions = [textwrap.fill(part.caption, 165) for part in parts]
    heights = [1.2]
    for part, caption in zip(parts, captions, strict=True):
        heights += [0.85 + 0.28 * (caption.count("\n") + 1), _panels_height(part, aspect)]
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    strips: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    strips[0].text(0.01, 0.66, heading, size=26, weight="bold", color=INK, va="center")
    strips[0].text(0.01, 0.27, footing, size=14, color=SOFT_INK, va="center")
    for i, (part, caption) in enumerate(zip(parts, captions, strict=True)):
        head, body = strips[1 + 2 * i], strips[2 + 2 * i]
        head.text(
            0.01,
            1 - 0.12 / heights[1 + 2 * i],
            part.title,
            size=20,
            weight="bold",
            color=INK,
            va="top",
        )
        top = 1 - 0.6 / heights[1 + 2 * i]
        head.text(0.01, top, caption, size=14, color=SOFT_INK, va="top", linespacing=1.3)
        part.draw(body)
    return _png(figure)


def _panels_height(section: Section, aspect: float) -> float:
    return section.rows * (WIDTH / section.columns * min(max(aspect, 0.4), 2.0) + 0.45)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor="white")
    return file.getvalue()


# ---- panels ----


def draw_edges(figure: FigureBase, r: Results) -> None:
    photo, slope, gradient, laplacian = figure.subplots(1, 4)
    show(photo, np.moveaxis(r.colour, 0, -1), "The picture")
    show(slope, r.slope, "Slope, left to right", cmap="gray", symmetric=True)
    show(gradient, r.gradient, "Gradient (Sobel)", cmap="gray", low=0)
    show(laplacian, r.laplacian, f"Laplacian of Gaussian, σ = {BLUR:g}", "RdBu_r", symmetric=True)


def draw_match(figure: FigureBase, r: Results) -> None:
    photo, scores, correlation, convolution = figure.subplots(1, 4)
    show(photo, r.grey, "Picture and template", cmap="gray", low=0, high=1)
    frame(photo, r.box)
    show(scores, r.match.scores, "Correlation coefficient", cmap="magma", low=0, high=1)
    row, column = r.match.peak
    scores.plot(column, row, "o", ms=22, mfc="none", mec=FOUND, mew=2.5)
    # One scale for both responses, so that they compare.
    high = max(np.abs(r.correlation).max(), np.abs(r.convolution).max())
    patch = r.box.cut(r.grey)
    for axes, response, title, shown in (
        (correlation, r.correlation, "Cross-correlation", patch),
        (convolution, r.convolution, "Convolution (kernel flipped)", patch[::-1, ::-1]),
    ):
        show(axes, response, title, cmap="PuOr_r", low=-high, high=high)
        axes.plot(column, row, "o", ms=22, mfc="none", mec=FOUND, mew=2.5)
        inset(axes, shown, 0.26, cmap="gray", low=0, high=1)
    inset(photo, patch, 0.26, cmap="gray", low=0, high=1)


def draw_pyramid(figure: FigureBase, r: Results) -> None:
    panels = np.atleast_1d(figure.subplots(1, len(r.levels)))
    for axes, level in zip(panels, r.levels, strict=True):
        height, width = level.shape[1:]
        show(axes, np.moveaxis(level, 0, -1), f"{height} × {width}")


def draw_network(figure: FigureBase, r: Results) -> None:
    panels = figure.subplots(2, len(ANGLES))
    layers = (
        ("Lines", r.maps.lines, [w[0] for w in first_layer()]),
        ("Contours", r.maps.contours, [w[k] for k, w in enumerate(second_layer())]),
    )
    for line, (name, maps, filters) in zip(panels, layers, strict=True):
        high = max(float(np.percentile(maps, 99.7)), 1e-12)  # one scale for a layer's maps
        for axes, angle, image, weights in zip(line, ANGLES, maps, filters, strict=True):
            height, width = image.shape
            show(
                axes, image, f"{name} at {angle}°, {height} × {width}", "inferno", low=0, high=high
            )
            inset(axes, weights, 0.2, cmap="gray")


def show(
    axes: Axes,
    image: np.ndarray,
    title: str,
    cmap: str | None = None,
    low: float | None = None,
    high: float | None = None,
    symmetric: bool = False,
) -> None:
    """An image with its title. Without limits the brightest 0.3 % are cut, lest a few rule all."""
    if high is None and image.ndim == 2:
        high = max(float(np.percentile(np.abs(image), 99.7)), 1e-12)
    if symmetric and high is not None:
        low = -high
    if image.ndim == 3:
        image = np.clip(image, 0, 1)
    smooth = "antialiased" if min(image.shape[:2]) > 100 else "nearest"
    axes.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation=smooth)
    axes.set_title(title, fontsize=16, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#d0d7de")


def frame(axes: Axes, box: Box) -> None:
    corner = (box.left - 0.5, box.top - 0.5)
    axes.add_patch(Rectangle(corner, box.width, box.height, fill=False, ec=FOUND, lw=2.5))


def inset(
    axes: Axes,
    image: np.ndarray,
    size: float,
    cmap: str,
    low: float | None = None,
    high: float | None = None,
) -> None:
    """A small image in the lower right corner."""
    small: Any = axes.inset_axes((1 - size - 0.02, 0.02, size, size))
    small.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    small.set_anchor("SE")
    small.set_xticks([])
    small.set_yticks([])
    for spine in small.spines.values():
        spine.set_color(FOUND)
        spine.set_linewidth(2)
