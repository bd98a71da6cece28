"""`cuconv bench sweep`: how cost grows with one size of a convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cuconv._bench import sweep as sweeping
from cuconv._bench.cases import Choice
from cuconv._bench.run import Run
from cuconv._bench.settings import Settings
from cuconv._bench.sweep import FIXED, VALUES, Sweep
from cuconv._cli._bench_options import (
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

USUAL = ("N", "C", "H", "R", "stride")


class Fixed(click.ParamType):
    """NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, int]:
        name, _, text = str(value).partition("=")
        if name not in FIXED or not text.isdigit() or int(text) < 1:
            self.fail(f"{value!r} is no size: one of {', '.join(FIXED)} = a positive number")
        return name, int(text)


class Values(click.ParamType):
    """Positive numbers with commas between."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, ...]:
        parts = str(value).split(",")
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no list of positive numbers like 16,32,64")
        return tuple(sorted({int(part) for part in parts}))


@click.command(short_help="How cost grows with N, C, K, H, R or stride.")
@click.option(
    "--vary", "varied", type=click.Choice(list(VALUES)), multiple=True,
    help=f"Which size (repeatable); C takes K along.  [default: {', '.join(USUAL)}]",
)  # fmt: skip
@click.option("--values", type=Values(), help="Of the size that is varied, with one --vary.")
@click.option(
    "--fix", "fixed", type=Fixed(), multiple=True,
    help=f"The others (repeatable).  [default: {', '.join(f'{k}={v}' for k, v in FIXED.items())}]",
)  # fmt: skip
@how_options
@click.pass_context
def sweep(
    context: click.Context,
    resume: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Vary one size of a convolution and fix the others: times, and the exponent they grow by.

    The record is written after every row, so Ctrl-C keeps what there is.

    \b
    Examples:
      cuconv bench sweep --vary C --values 16,32,64,128 --fix H=28
      cuconv bench sweep --resume cuconv-sweep-cpu-2026-11-25.json
    """
    if resume:
        running = resumed(context, resume)
    else:
        settings, sweeps = what_and_how(**options)
        path = new_path(out, settings.device, "sweep")
        running = Run.begin(settings, path, command_line(), sweeps)
    try:
        carried_out(running, None, context)
    finally:
        for line in sweeping.lines(running.content):
            click.echo(line)


def what_and_how(
    varied: tuple[str, ...],
    values: tuple[int, ...] | None,
    fixed: tuple[tuple[str, int], ...],
    device_name: str,
    kinds: tuple[str, ...],
    directions: tuple[str, ...],
    layouts: tuple[str, ...],
    **how: Any,
) -> tuple[Settings, list[Sweep]]:
    varied = tuple(dict.fromkeys(varied)) or USUAL
    if values and len(varied) != 1:
        raise CliError("--values are of one size: give one --vary with them")
    if wrong := [name for name, _ in fixed if name in varied and len(varied) == 1]:
        raise CliError(f"{wrong[0]} cannot be fixed and varied")
    device = device_of(device_name)
    kind = one(kinds_of(kinds, device), "--dtype", "float32")
    direction = one(directions, "--direction", "forward")
    layout = one(layouts, "--layout", "NCHW")
    count = 3 if how["quick"] else None
    sweeps = [
        Sweep(name, values or VALUES[name][:count], fixed, kind, direction, layout)
        for name in varied
    ]
    choice = Choice((), (kind,), (direction,), (layout,))
    return settings_for(choice, device, **how), sweeps


def one(values: tuple[str, ...], option: str, usual: str) -> str:
    if len(set(values)) > 1:
        raise CliError(f"a sweep takes one {option}")
    return values[0] if values else usual
