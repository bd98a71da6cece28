"""The table of what autotune has found."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cuconv._answers import Entry

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def problem_text(problem: dict[str, Any]) -> str:
    """In the words of the call. The file may hold anything, so as it is if that is not possible."""
    try:
        rank = problem["rank"]
        if rank not in (1, 2, 3):
            raise ValueError

        def axes(name: str) -> tuple[int, ...]:
            return tuple(problem[name])[3 - rank :]

        def times(values: Iterable[object]) -> str:
            return "x".join(str(v) for v in values)

        group_channels = problem["in_channels"] // problem["groups"]
        words = [
            times((problem["batch"], problem["in_channels"], *axes("input"))),
            "*",
            times((problem["out_channels"], group_channels, *axes("kernel"))),
        ]
        for mark, name, usual in (("s", "stride", 1), ("d", "dilation", 1)):
            if set(axes(name)) != {usual}:
                words.append(mark + times(axes(name)))
        low, high = axes("pad_low"), axes("pad_high")
        if low != high:
            words.append("p" + times(f"{a}:{b}" for a, b in zip(low, high, strict=True)))
        elif any(low):
            words.append("p" + times(low))
        if problem["groups"] > 1:
            words.append(f"g{problem['groups']}")
        words += [problem["dtype"], problem["layout"], problem["direction"]]
        unusual = {"activation": None, "precision": "ieee", "workspace_limit": None}
        words += [f"{name}={problem[name]}" for name in unusual if problem[name] != unusual[name]]
        return " ".join(words)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return json.dumps(problem)


def age_text(entry: Entry) -> str:
    """A clock that was wrong gives an age that is."""
    age = (datetime.datetime.now(datetime.timezone.utc) - entry.time).total_seconds()
    if age < -1:
        return "in the future"
    return next((f"{int(age // size)} {unit}" for unit, size in UNITS if age >= size), "now")


def seconds_text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def times_text(entry: Entry) -> str:
    """The fastest first."""
    ranked = sorted(entry.seconds.items(), key=lambda item: item[1])
    text = "\n".join(f"{family} {seconds_text(seconds)}" for family, seconds in ranked)
    return text + "\n(cold caches)" * entry.cold


def show_entries(entries: Iterable[Entry], title: str) -> None:
    """A table for each device and version of the package, in the order in which they come."""
    console = Console(highlight=False)
    console.print(Text(title), soft_wrap=True)
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.device, entry.version), []).append(entry)
    for (device, version), found in groups.items():
        table = Table(
            title=Text(f"{device}, cuconv {version}"), title_justify="left", show_lines=True
        )
        table.add_column("problem", overflow="fold")
        table.add_column("choice", overflow="fold")
        for name in ("times", "age"):
            table.add_column(name, no_wrap=True)
        for entry in found:
            choice = f"{entry.family}\n{entry.variant}"
            cells = (problem_text(entry.problem), choice, times_text(entry), age_text(entry))
            table.add_row(*(Text(cell) for cell in cells))
        console.print(table)
