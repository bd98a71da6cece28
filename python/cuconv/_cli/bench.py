"""`cuconv bench`: measure, and look at what was measured. `run` is meant where nothing is said."""

from __future__ import annotations

from pathlib import Path

import click

from cuconv._bench import compare as comparing
from cuconv._bench import record, report, summary
from cuconv._cli._bench_run import run
from cuconv._cli._bench_sweep import sweep
from cuconv._cli._errors import CliError
from cuconv._cli._files import write_atomically

FILE = click.Path(dir_okay=False, path_type=Path)


class BenchGroup(click.Group):
    """Options without a command are those of `run`; errors of records are the user's."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        helps = set(context.help_option_names)
        if not arguments or (arguments[0].startswith("-") and arguments[0] not in helps):
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except record.RecordError as error:
            raise CliError(str(error)) from None


@click.group(cls=BenchGroup, short_help="Time cuconv beside other libraries; read the records.")
def bench() -> None:
    """Time cuconv beside other libraries, and show what was measured.

    Without a command: `run`. docs/bench.md tells the method and what a record holds.

    \b
    Examples:
      cuconv bench --quick                       a first look, a minute or two
      cuconv bench --list                        which groups of layers there are
      cuconv bench run --group vgg --out vgg.json
      cuconv bench report vgg.json               one HTML page with pictures
      cuconv bench compare before.json vgg.json
      cuconv bench sweep --vary C
    """


@bench.command("report", short_help="One HTML page of records, with pictures inside.")
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--out",
    type=FILE,
    help="The page.  [default: beside the first record, as .html]",
)
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for the pictures, as PNG files.",
)
def report_command(files: tuple[Path, ...], out: Path | None, pictures: Path | None) -> None:
    """Make one HTML page of records, self-contained, and their pictures as PNG files.

    \b
    Example:
      cuconv bench report cpu.json --out cpu.html --pictures pictures
    """
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise CliError("two of the records have the same name")
    out = out or files[0].with_suffix(".html")
    no_input(out, files)
    page, drawn = report.report({path.name: record.read(path) for path in files})
    write_in_folder(out, page)
    for name, png in drawn.items() if pictures else ():
        assert pictures is not None, "the loop is empty without"
        write_in_folder(pictures / name, png)
    click.echo(f"Page: {click.format_filename(out)}")
    if pictures:
        click.echo(f"Pictures: {len(drawn)} in {click.format_filename(pictures)}")


def no_input(out: Path, files: tuple[Path, ...]) -> None:
    """A page must not replace the record that it is made of, whatever its name or link."""
    if any(out.resolve() == file.resolve() for file in files):
        raise CliError(f"--out {out} is one of the records: name another file")


def write_in_folder(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    write_atomically(path, data)


@bench.command(short_help="A record as Markdown tables.")
@click.argument("file", type=FILE)
def table(file: Path) -> None:
    """Print a record as Markdown: pages of documentation are made by this, never by hand.

    \b
    Example:
      cuconv bench table bench/results/cpu-2026-11-25.json > docs/cpu_measured.md
    """
    click.echo("\n".join(summary.page(record.read(file), file.name)))


@bench.command(short_help="Two records row by row: what became faster or slower.")
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option(
    "--by",
    type=click.Choice(comparing.BY),
    help="Compare cuconv's times, or its ratios beside the same peer, which takes out how fast the "
    "machine was.  [default: time where both records keep single times]",
)
@click.option("--out", type=FILE, help="An HTML page with the table and a picture.")
def compare(before: Path, after: Path, by: str | None, out: Path | None) -> None:
    """Compare two records, of two commits for example. Ratios above 1: the second is faster.

    \b
    Example:
      cuconv bench compare before.json after.json --out change.html
    """
    if out:
        no_input(out, (before, after))
    found = comparing.compare(record.read(before), record.read(after), by or "")
    for change in sorted(found.changes, key=lambda change: change.ratio.value):
        beside = f"  by {change.beside}" if change.beside else ""
        click.echo(
            f"{change.ratio!s:32} {change.row['group']}: {summary.label(change.row)}{beside}"
        )
    for line in report.comparison_lines(found):
        click.echo(line)
    if out:
        page = report.comparison_page((before.name, after.name), found)
        write_in_folder(out, page)
        click.echo(f"Page: {click.format_filename(out)}")


bench.add_command(run)
bench.add_command(sweep)
