"""Pictures of records, drawn with matplotlib, as PNG files.

Colours are Okabe and Ito's, which people who see few colours tell apart (jfly.uni-koeln.de/color);
shapes say the same once more.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from cuconv._bench.statistics import Ratio
from cuconv._bench.summary import Row, compared, groups_of, label, means
from cuconv._bench.sweep import fits, points

BLUE, VERMILION, GREY, GREEN, INK = "#0072B2", "#D55E00", "#767676", "#009E73", "#1b1f24"
SERIES = (BLUE, VERMILION, GREEN, "#CC79A7", "#56B4E9", "#E69F00", INK)
MARKERS = "osD^vPX*"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
DPI = 120
FEWER_OPERATIONS = ("winograd", "fft")  # than the direct form, by which all are counted
MOST_BARS = 60  # of one picture: more would be too tall to look at


def figure_of(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png", metadata={"Software": None})
    return buffer.getvalue()


# ---- ratios ----

Bars = Sequence[tuple[str, Ratio]]
FASTER = "time of the fastest peer / time of cuconv: right of 1 cuconv is faster"


def ratio_pictures(rows: Sequence[Row], title: str) -> list[bytes]:
    bars = sorted(((label(row), ratio) for row, ratio in compared(rows)), key=by_value)
    count = math.ceil(len(bars) / MOST_BARS)
    size = math.ceil(len(bars) / count) if count else 1
    parts = [bars[i : i + size] for i in range(0, len(bars), size)]
    reach = reach_of(bars)
    return [
        ratio_picture(part, f"{title}, {number} of {count}" if count > 1 else title, FASTER, reach)
        for number, part in enumerate(parts, 1)
    ]


def by_value(bar: tuple[str, Ratio]) -> float:
    return bar[1].value


def reach_of(bars: Bars) -> float:
    """As far to the left of 1 as to the right, so that no side looks better than it is."""
    return 1.2 * max([max(r.high, 1 / max(r.low, 1e-6)) for _, r in bars], default=1.2)


def ratio_picture(bars: Bars, title: str, what: str, reach: float) -> bytes:
    """Bars from 1, sorted. One that is too noisy is its interval alone."""
    figure = figure_of(10, 1.6 + 0.25 * max(len(bars), 2))
    axes = figure.subplots()
    for at, (_, ratio) in enumerate(bars):
        colour = GREY if ratio.low <= 1 <= ratio.high else BLUE if ratio.value > 1 else VERMILION
        if not ratio.noisy:
            hatch = "" if colour == BLUE else "////" if colour == VERMILION else ".."
            axes.barh(at, ratio.value - 1, left=1, color=colour, hatch=hatch, edgecolor="white")
            axes.plot((ratio.low, ratio.high), (at, at), color=INK, linewidth=1.3)
        else:
            axes.plot((ratio.low, ratio.high), (at, at), ":", color=colour, linewidth=2.2)
    names = [
        f"{name}   {'too noisy' if ratio.noisy else f'{ratio.value:.2f}'}" for name, ratio in bars
    ]
    axes.set_yticks(range(len(bars)), names, fontsize=8.5)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    ratio_axis(axes, reach, what)
    axes.set_title(title, fontsize=11, loc="left")
    legend(axes)
    return png(figure)


def ratio_axis(axes: Any, reach: float, what: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1 / reach, reach)
    inside = [t for t in TICKS if 1 / reach < t < reach]
    apart = [t for i, t in enumerate(inside) if len(inside) < 11 or i % 2 == inside.index(1) % 2]
    axes.set_xticks(apart, [f"{t:g}" for t in apart])
    axes.minorticks_off()
    axes.axvline(1, color=INK, linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_xlabel(what, fontsize=9)


def legend(axes: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=BLUE, edgecolor="white", label="faster"),
        Patch(facecolor=VERMILION, edgecolor="white", hatch="////", label="slower"),
        Patch(facecolor=GREY, edgecolor="white", hatch="..", label="interval holds 1"),
        Line2D([], [], color=INK, linestyle=":", linewidth=2.2, label="too noisy to be told"),
    ]
    axes.figure.legend(handles=handles, ncols=4, fontsize=8.5, loc="outside lower center")


def mean_picture(rows: Sequence[Row], title: str) -> bytes:
    """Geometric means with intervals: a line for each group and what its rows have in common."""
    bars = [
        (f"{group}: {words} ({count})", mean)
        for group, some in groups_of(rows).items()
        for words, (mean, count) in means(some).items()
    ][::-1]
    figure = figure_of(10, 1.4 + 0.3 * max(len(bars), 2))
    axes = figure.subplots()
    for at, (_, mean) in enumerate(bars):
        if not mean.noisy:
            axes.plot(mean.value, at, marker="D", color=BLUE if mean.value > 1 else VERMILION)
        style = "dotted" if mean.noisy else "solid"
        axes.plot((mean.low, mean.high), (at, at), color=INK, linewidth=1.3, linestyle=style)
    names = [f"{name}   {'too noisy' if m.noisy else f'{m.value:.2f}'}" for name, m in bars]
    axes.set_yticks(range(len(bars)), names, fontsize=9)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    ratio_axis(axes, reach_of(bars), FASTER)
    axes.set_title(title, fontsize=11, loc="left")
    return png(figure)


# ---- the roofline ----


def roofline_picture(record: Row) -> bytes | None:
    """Gflop/s over flop a byte, below what this machine was seen to do in the same run."""
    limits = record.get("roofline")
    rows = [r for r in record["rows"] if "sides" in r and r.get("multiply_adds")]
    if not limits or not rows:
        return None
    figure = figure_of(10, 5.6)
    axes = figure.subplots()
    spots = [(row, *spot(row)) for row in rows]
    kinds = sorted({row["kind"] for row in rows})
    ends = [0.5 * min(x for _, x, _ in spots), 2 * max(x for _, x, _ in spots)]
    for number, kind in enumerate(kinds):
        rate = 2 * limits["multiply_adds_per_s"].get(kind, 0) / 1e9
        if rate:
            draw_roof(axes, ends, limits["bytes_per_s"] / 1e9, rate, SERIES[number], kind)
    for number, group in enumerate(groups_of(rows)):
        for filled in (True, False):
            some = [s for s in spots if s[0]["group"] == group]
            some = [s for s in some if (s[0].get("algo") not in FEWER_OPERATIONS) == filled]
            colour = SERIES[number % len(SERIES)]
            if some:
                axes.scatter(
                    [x for _, x, _ in some],
                    [y for _, _, y in some],
                    marker=MARKERS[number % len(MARKERS)],
                    facecolors=colour if filled else "none",
                    edgecolors=colour,
                    linewidths=1.4,
                    s=34,
                    label=group if filled else f"{group}, by Winograd or FFT",
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, which="major")
    axes.set_axisbelow(True)
    plain_numbers(axes.xaxis, axes.yaxis)
    axes.set_xlabel("floating-point operations of the direct form, by bytes of its arrays")
    axes.set_ylabel("Gflop/s, counted by the direct form")
    figure.legend(fontsize=8.5, loc="outside right upper")
    return png(figure)


def plain_numbers(*sides: Any) -> None:
    """20 and 50, not 2 x 10^1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for side in sides:
        side.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=15))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_formatter(NullFormatter())


def spot(row: Row) -> tuple[float, float]:
    flop = 2 * row["multiply_adds"]
    size = 8 if row["kind"] == "float64" else 2 if row["kind"] in ("float16", "bfloat16") else 4
    filters = size * math.prod(row["w_shape"]) if row["w_shape"] else 0
    moved = row["operand_bytes"] + row["result_bytes"] + filters
    return flop / moved, flop / row["sides"][row["ours"]]["ms"] / 1e6


def draw_roof(
    axes: Any, ends: list[float], bandwidth: float, rate: float, colour: str, kind: str
) -> None:
    ridge = rate / bandwidth
    xs = [ends[0], min(max(ridge, ends[0]), ends[1]), ends[1]]
    ys = [min(rate, bandwidth * x) for x in xs]
    axes.plot(xs, ys, color=colour, linewidth=1.6, label=f"measured limits, {kind}")


# ---- errors ----


def error_picture(rows: Sequence[Row]) -> bytes | None:
    """Largest errors against float64: cuconv's, and the peers' from least to most."""
    found = [row for row in rows if row.get("ours") in row.get("errors", {})]
    if not found:
        return None
    least = 1e-9

    def largest(row: Row, name: str) -> float:
        return max(row["errors"][name]["largest"], least)

    found.sort(key=lambda row: largest(row, row["ours"]))
    figure = figure_of(10, 4.4)
    axes = figure.subplots()
    for at, row in enumerate(found):
        sides = row.get("sides", {})
        peers = [largest(row, n) for n in row["errors"] if sides.get(n, {}).get("peer", "PyT" in n)]
        if peers:
            axes.plot((at, at), (min(peers), max(peers)), color=VERMILION, linewidth=4, alpha=0.45)
            axes.plot(at, max(peers), marker="_", color=VERMILION)
    ours = [largest(row, row["ours"]) for row in found]
    axes.plot(range(len(found)), ours, "o", color=BLUE, markersize=4, label="cuconv")
    axes.plot([], [], color=VERMILION, linewidth=4, alpha=0.45, label="peers, least to most")
    axes.set_yscale("log")
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("rows, sorted by cuconv's error")
    axes.set_ylabel("largest error, relative")
    axes.legend(fontsize=9, loc="upper left")
    return png(figure)


# ---- sweeps ----


def sweep_picture(record: Row, sweep: Row) -> bytes | None:
    series = points(record, sweep)
    if not series:
        return None
    some = fits(record, sweep)
    figure = figure_of(10, 5)
    axes = figure.subplots()
    for number, (name, pairs) in enumerate(series.items()):
        colour, fit = SERIES[number % len(SERIES)], some.get(name)
        sizes, times = zip(*sorted(pairs), strict=True)
        words = f"{name}: exponent {fit}" if fit else name
        axes.plot(sizes, times, MARKERS[number % len(MARKERS)], color=colour, label=words)
        if fit and not fit.noisy:
            axes.plot(sizes, [fit.factor * n**fit.exponent for n in sizes], color=colour, alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    values = sorted({size for pairs in series.values() for size, _ in pairs})
    axes.set_xticks(values, [str(v) for v in values])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_xlabel(sweep["vary"])
    plain_numbers(axes.yaxis)
    axes.set_ylabel("milliseconds a call")
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)
    return png(figure)
