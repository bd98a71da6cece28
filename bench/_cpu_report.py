"""Records of `time_cpu.py` as tables on the terminal, as words and as pictures."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click
from _cpu_cases import GROUPS
from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """A file or pipe has no width that a table must fit into."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def show(console: Console, rows: list[dict[str, Any]]) -> None:
    for group in GROUPS:
        if mine := [row for row in rows if row["group"] == group]:
            console.print(table(group, mine))
            for line in summary(mine):
                console.print(line, highlight=False)


def label(row: dict[str, Any]) -> str:
    return f"{row['name']} n{row['x_shape'][0]}"


def table(group: str, rows: list[dict[str, Any]]) -> Table:
    found = Table("row", title=group)
    for name in ("ms", "beside ms", "ratio"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("beside")
    found.add_column("variant")
    for row in rows:
        found.add_row(label(row), *cells(row))
    return found


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "failed" in row:
        return "", "", "failed", row["failed"], row.get("variant", "")
    ours = f"{row['sides'][row['ours']]['ms']:.3f}"
    if row["ratio"] is None:
        return ours, "", "", "nothing installed", row["variant"]
    low, high = row["interval"]
    theirs = f"{row['sides'][row['beside']]['ms']:.3f}"
    ratio = f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})"
    return ours, theirs, ratio, row["beside"], row["variant"] or row["algo"]


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Geometric means, the worst row, and what failed."""
    lines = []
    good = [row for row in rows if row.get("ratio")]
    kinds = {"all rows": good, "3x3 stride 1": [row for row in good if row["plain_3x3"]]}
    for batch in sorted({row["x_shape"][0] for row in good}):
        kinds[f"batch {batch}"] = [row for row in good if row["x_shape"][0] == batch]
    for words, some in kinds.items():
        if some:
            mean = statistics.geometric_mean(row["ratio"] for row in some)
            lines.append(f"  geometric mean of {words}: {mean:.2f} ({len(some)} rows)")
    if good:
        worst = min(good, key=lambda row: row["ratio"])
        lost = sum(row["ratio"] < 1 for row in good)
        lines.append(f"  worst: {worst['ratio']:.2f}, {label(worst)}; slower in {lost} rows")
    if failed := [label(row) for row in rows if "failed" in row]:
        lines.append(f"  failed: {', '.join(failed)}")
    return lines


def draw_all(folder: Path, rows: list[dict[str, Any]]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for group in GROUPS:
            if mine := [row for row in rows if row["group"] == group and row.get("ratio")]:
                draw(folder / f"cpu-{group}.png", group, mine)
    except OSError as error:
        raise click.ClickException(f"cannot write pictures to {folder}: {error.strerror}") from None


def draw(path: Path, group: str, rows: list[dict[str, Any]]) -> None:
    """Bars start at 1: a loss is as long to the left as the same gain is to the right."""
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["ratio"])
    families = sorted({row["algo"] for row in rows})
    figure = Figure(figsize=(9, 1.6 + 0.24 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for number, family in enumerate(families):
        some = [(at, row) for at, row in enumerate(rows) if row["algo"] == family]
        widths = [row["ratio"] - 1 for _, row in some]
        axes.barh([at for at, _ in some], widths, left=1, color=f"C{number}", label=family)
    for at, row in enumerate(rows):
        axes.plot(row["interval"], (at, at), color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [f"{label(r)}   {r['ratio']:.2f}" for r in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    finish(axes, group, rows)
    figure.savefig(path, dpi=130)


def finish(axes: Any, group: str, rows: list[dict[str, Any]]) -> None:
    """As far to the left of 1 as to the right, so that no side looks better than it is."""
    reach = 1.15 * max(max(row["interval"][1], 1 / row["interval"][0]) for row in rows)
    axes.set_xscale("log")
    axes.set_xlim(1 / reach, reach)
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 5, 10, 20) if 1 / reach < t < reach]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("time of the fastest peer / time of cuconv: right of 1 cuconv is faster")
    axes.set_title(f"CPU, float32: {group}", fontsize=10)
    axes.legend(title="cuconv's algorithm", fontsize=8, loc="lower right")
