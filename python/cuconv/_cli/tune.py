"""`cuconv tune`: what autotune has found on this machine, and finding more before it is needed."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import asdict

import click

from cuconv import _answers
from cuconv._answers import Entry
from cuconv._cli._errors import CliError
from cuconv._cli._tune_run import run
from cuconv._cli._tune_table import show_entries

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.group(short_help="List, add or clear what autotune has measured.")
def tune() -> None:
    """The answers of algo="autotune": which algorithm was fastest, by problem and device.

    \b
    Example:
      cuconv tune run --x 8,64,56,56 --w 64,64,3,3 --padding 1
      cuconv tune list
      cuconv tune clear --older-than 90d
    """


@tune.command(name="path", short_help="Print where the answers are kept.")
def show_path() -> None:
    """Print the file that the answers are kept in, whether it is there or not.

    \b
    Example:
      cuconv tune path
    """
    click.echo(str(_answers.cache_file()))


@tune.command(name="list", short_help="Show the answers: problem, choice, times, age.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the reasons of the others.")
def list_(as_json: bool) -> None:
    """Show every answer: the problem, the device, the choice, what each algorithm took, its age.

    \b
    Example:
      cuconv tune list
      cuconv tune list --json > answers.json
    """
    file = _answers.cache_file()
    found = _answers.read_table(file)
    if found.fault:
        click.echo(f"cuconv: {found.fault}", err=True)
    entries = sorted(found.entries.values(), key=lambda entry: entry.time, reverse=True)
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
    elif entries:
        show_entries(entries, f"Answers in {file}")
    else:
        click.echo(f"No answers in {file}")


@tune.command(short_help="Forget answers.")
@click.option("--device", metavar="TEXT", help="Those of devices with this in their name.")
@click.option("--older-than", metavar="AGE", help="Those older than 12h, 30d, 8w and the like.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(device: str | None, older_than: str | None, yes: bool) -> None:
    """Forget answers: all, or those that the options choose. Asks first.

    \b
    Example:
      cuconv tune clear --device "RTX 2080" --yes
      cuconv tune clear --older-than 90d
    """
    age = None if older_than is None else read_age(older_than)
    now = datetime.datetime.now(datetime.timezone.utc)

    def doomed(entry: Entry) -> bool:
        if device is not None and device.lower() not in entry.device.lower():
            return False
        return age is None or now - entry.time > age

    file = _answers.cache_file()
    found = _answers.read_table(file)
    count = sum(doomed(entry) for entry in found.entries.values())
    everything = device is None and older_than is None
    if count == 0 and not (everything and found.fault):
        click.echo(f"Nothing to forget in {file}")
        return
    if not yes:
        question = f"Forget {count} of {len(found.entries)} answers in {file}?"
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:
            raise CliError("nothing forgotten; --yes forgets without asking") from None
        if not agreed:
            click.echo("Nothing forgotten")
            return
    count = _answers.remove(file, doomed)
    click.echo(f"Forgot {count} answer{'s' * (count != 1)}")


def read_age(text: str) -> datetime.timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if not match:
        raise CliError(f"--older-than {text}: must be a number and one of s, m, h, d, w, as in 30d")
    return datetime.timedelta(seconds=int(match[1]) * UNITS[match[2]])


tune.add_command(run)
