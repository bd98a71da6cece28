"""`cuconv info`: how cuconv was built and what this machine has."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cuconv import config


@click.command(short_help="Show the build, devices and libraries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts and bug reports.")
def info(as_json: bool) -> None:
    """Show the version, how it was built, and the devices and libraries here.

    \b
    Example:
      cuconv info
      cuconv info --json > machine.json
    """
    sections = config.collect()
    if as_json:
        click.echo(json.dumps(sections, indent=2, ensure_ascii=True))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for number, (section, values) in enumerate(sections.items()):
        if number:
            table.add_row()
        table.add_row(Text(section, style="underline"))
        for name, value in values.items():
            table.add_row(Text(f"  {name}"), Text(str(value)))
    Console(highlight=False).print(table)
