"""`cuconv bench run`: which rows, beside whom, and the table of what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cuconv._bench import cases, summary
from cuconv._bench.cases import GROUPS, USUAL, Choice
from cuconv._bench.run import Run
from cuconv._bench.settings import Settings
from cuconv._bench.statistics import Ratio
from cuconv._cli._bench_options import (
    POSITIVE,
    Amount,
    carried_out,
    command_line,
    device_of,
    how_options,
    kinds_of,
    new_path,
    resumed,
    settings_for,
)
from cuconv._cli._errors import CliError

BATCHES = {"cpu": (1, 8), "cuda": ()}
QUICK_LIMIT = 2


@click.command(short_help="Time layers beside other libraries; the default.")
@click.option(
    "--group",
    "groups",
    type=click.Choice([*GROUPS, "all"]),
    multiple=True,
    help=f"Layers, see --list (repeatable).  [default: {', '.join(USUAL)}]",
)
@click.option(
    "--batch", "batches", type=POSITIVE, multiple=True,
    help="Images at a time (repeatable).  [default: 1 and 8 on the CPU, the layer's own on a GPU]",
)  # fmt: skip
@click.option("--limit", type=POSITIVE, help="Layers of each group, the heaviest ones.")
@click.option(
    "--minutes", type=Amount(),
    help="Begin no row after so long; what matters most comes first.",
)  # fmt: skip
@click.option("--list", "listed", is_flag=True, help="Show groups and numbers of rows, only.")
@how_options
@click.pass_context
def run(
    context: click.Context,
    resume: Path | None,
    listed: bool,
    minutes: float | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Time cuconv beside what else is installed, layer by layer, and write a record.

    Every result is checked against float64 before it is timed. The record is written after every
    row, so Ctrl-C keeps what there is. Exit code 1: a result was wrong, or faster than the machine.

    \b
    Examples:
      cuconv bench run --group vgg --batch 1 --direction forward --direction weight_grad
      cuconv bench run --resume cuconv-bench-cpu-2026-11-25.json
    """
    if resume:
        running = resumed(context, resume, allowed=("minutes",))
    else:
        settings = settings_of(**options)
        if missed := cases.left_out(settings.choice):
            click.echo(f"left out: {missed}", err=True)
        if listed:
            show_list(settings)
            return
        path = new_path(out, settings.device, "run")
        running = Run.begin(settings, path, command_line())
    try:
        carried_out(running, minutes, context)
    finally:
        show(running.content)


def settings_of(
    groups: tuple[str, ...],
    batches: tuple[int, ...],
    limit: int | None,
    device_name: str,
    kinds: tuple[str, ...],
    directions: tuple[str, ...],
    layouts: tuple[str, ...],
    **how: Any,
) -> Settings:
    device = device_of(device_name)
    if how["quick"]:
        limit, batches = limit or QUICK_LIMIT, batches or (1,) if device == "cpu" else batches
    choice = Choice(
        GROUPS if "all" in groups else tuple(dict.fromkeys(groups)) or USUAL,
        kinds_of(tuple(dict.fromkeys(kinds)), device) or ("float32",),
        tuple(dict.fromkeys(directions)) or ("forward",),
        tuple(dict.fromkeys(layouts)) or ("NCHW",),
        tuple(dict.fromkeys(batches)) or BATCHES[device],
        limit,
    )
    if not cases.cases_of(choice):
        raise CliError("no row is chosen: only convolutions have directions, tf32 and tf32x3")
    return settings_for(choice, device, **how)


def wide_console() -> Console:
    """A file or pipe has no width that a table must fit into."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def show_list(settings: Settings) -> None:
    found = Table("group", title="Groups of layers", title_justify="left")
    found.add_column("rows", justify="right")
    found.add_column("source", overflow="fold")
    for group in GROUPS:
        one = Choice(**{**vars(settings.choice), "groups": (group,)})
        mark = "" if group in settings.choice.groups else " (not chosen)"
        found.add_row(group + mark, str(len(cases.cases_of(one))), cases.source_of(group))
    wide_console().print(found)
    total = len(cases.cases_of(settings.choice))
    click.echo(f"{total} rows are chosen, on the {settings.device}")


# ---- what came out ----


def show(content: dict[str, Any]) -> None:
    console = wide_console()
    for group, rows in summary.groups_of(content["rows"]).items():
        found = Table("row", title=group, title_justify="left")
        for name in ("ms", "beside ms"):
            found.add_column(name, justify="right", no_wrap=True)
        found.add_column("ratio", no_wrap=True)
        found.add_column("beside")
        found.add_column("form")
        for row in rows:
            found.add_row(summary.label(row), *shown(row))
        console.print(found)
        for line in summary.lines(rows):
            console.print(f"  {line}", markup=False)
    for hint in summary.notes(content):
        console.print(hint, markup=False)


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    if "sides" not in row:
        word = "failed" if "failed" in row else "left out"
        return "", "", word, row.get("failed") or row.get("skipped", ""), row.get("variant") or ""
    ours = f"{row['sides'][row['ours']]['ms']:.3f}"
    form = row.get("variant") or row.get("algo") or ""
    ratio = Ratio.of(row)
    if ratio is None:
        return ours, "", "", "no peer", form
    return ours, f"{row['sides'][row['beside']]['ms']:.3f}", str(ratio), row["beside"], form
