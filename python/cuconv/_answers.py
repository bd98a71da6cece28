"""What autotune has found, kept in a file: one entry for each device, package version and problem.

The file is believed to be a file and no more: whatever is wrong with it, it is left out with one
warning, and the next answer replaces it. Nothing in it is run, and what it names is used only where
it is one of the candidates anyway.
"""

from __future__ import annotations

import datetime
import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cuconv._atomic import read_json, update_json
from cuconv._folders import cache_folder

FORMAT = 1  # in the name as well: an older or newer cuconv keeps a file of its own beside this one
MOST_ENTRIES = 2000  # beyond which the oldest go
MOST_TEXT = 300  # characters of a word
MOST_FACTS = 40  # of a problem

_warned: set[Path] = set()


def cache_file() -> Path:
    return cache_folder() / f"autotune-v{FORMAT}.json"


@dataclass(frozen=True)
class Entry:
    """One answer, and what it was found from."""

    device: str
    version: str  # of the package
    problem: dict[str, Any]  # sizes and options, by name
    family: str
    variant: str
    seconds: dict[str, float]  # of each family that was timed
    skipped: dict[str, str]  # why others were not
    cold: bool  # caches were emptied before each call
    date: str  # UTC, ISO 8601; for people, and to let the oldest go

    @property
    def key(self) -> str:
        return key_of(self.device, self.version, self.problem)

    @property
    def time(self) -> datetime.datetime:
        return read_date(self.date)


def key_of(device: str, version: str, problem: Mapping[str, Any]) -> str:
    return json.dumps([device, version, problem], sort_keys=True)


Entries = dict[str, Entry]  # by key


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def shortened(text: str) -> str:
    """A reason, as it may stand in the file."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."


# ---- reading: whatever the file holds, entries come out or a ValueError ----


def read_word(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable():
        raise ValueError("a text is not one short line")
    return value


def read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a time is not a number")
    if not 0 <= value < math.inf:
        raise ValueError("a time is negative or infinite")
    return float(value)


def read_date(value: Any) -> datetime.datetime:
    date = datetime.datetime.fromisoformat(read_word(value))
    if date.tzinfo is None:
        raise ValueError("a date has no time zone")
    return date.astimezone(datetime.timezone.utc)


def read_fact(value: Any, inside: bool = False) -> Any:
    if isinstance(value, str):
        return read_word(value)
    if isinstance(value, list) and not inside and len(value) <= 3:
        return tuple(read_fact(v, inside=True) for v in value)
    if value is None or (isinstance(value, int) and abs(value) < 2**63):
        return value
    raise ValueError("a problem has values of other types")


@dataclass
class Table:
    """What was read: entries, and what is wrong with the rest."""

    entries: Entries = field(default_factory=dict)
    fault: str = ""


def read_entry(found: Any) -> Entry:
    if not isinstance(found, dict) or set(found) != set(Entry.__dataclass_fields__):
        raise ValueError("an entry has not the fields it should")
    problem, seconds, skipped = (found[name] for name in ("problem", "seconds", "skipped"))
    for table in (problem, seconds, skipped):
        if not isinstance(table, dict) or len(table) > MOST_FACTS:
            raise ValueError("an entry has values of other types")
    if not isinstance(found["cold"], bool):
        raise ValueError("an entry has values of other types")
    read_date(found["date"])
    return Entry(
        device=read_word(found["device"]),
        version=read_word(found["version"]),
        problem={read_word(name): read_fact(value) for name, value in problem.items()},
        family=read_word(found["family"]),
        variant=read_word(found["variant"]),
        seconds={read_word(name): read_number(value) for name, value in seconds.items()},
        skipped={read_word(name): read_word(value) for name, value in skipped.items()},
        cold=found["cold"],
        date=found["date"],
    )


def read_table(file: Path) -> Table:
    """Of a file of any content, or none."""
    table = Table()
    try:
        found = read_json(file)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"it is not of format {FORMAT}")
        if not isinstance(found.get("entries"), list):
            raise ValueError("it has no list of entries")
    except FileNotFoundError:
        return table
    except (OSError, ValueError) as error:
        table.fault = shortened(f"the autotune cache {file} is ignored: {error}")
        return table
    for item in found["entries"]:
        try:
            entry = read_entry(item)
        except (ValueError, OverflowError) as error:
            table.fault = f"entries of the autotune cache {file} are ignored: {error}"
        else:
            table.entries[entry.key] = entry
    return table


def read(file: Path) -> Entries:
    table = read_table(file)
    if table.fault:
        complain(file, table.fault)
    return table.entries


# ---- writing ----


def as_json(entries: Entries) -> dict[str, Any]:
    newest = sorted(entries.values(), key=lambda entry: entry.time)[-MOST_ENTRIES:]
    return {"format": FORMAT, "entries": [asdict(entry) for entry in newest]}


def add(file: Path, entry: Entry, keep: Callable[[Entry], bool]) -> Entry:
    """Puts an entry into the file; gives the one that counts.

    That is one that another process has put there meanwhile, where `keep` says so. A file that
    cannot be written is no error: the answer then holds for this process.
    """
    counts = entry

    def change() -> Any:
        nonlocal counts
        entries = read(file)
        there = entries.get(entry.key)
        if there is not None and keep(there):
            counts = there
        entries[entry.key] = counts
        return as_json(entries)

    try:
        update_json(file, change)
    except OSError as error:
        complain(file, f"the autotune cache {file} cannot be written: {error}")
    return counts


def remove(file: Path, doomed: Callable[[Entry], bool]) -> int:
    """How many went. What could not be read goes as well. Raises OSError."""
    if not file.exists() and not file.is_symlink():
        return 0
    gone = 0

    def change() -> Any:
        nonlocal gone
        entries = read_table(file).entries
        left = {key: entry for key, entry in entries.items() if not doomed(entry)}
        gone = len(entries) - len(left)
        return as_json(left) if left else None

    update_json(file, change)
    return gone


def complain(file: Path, message: str) -> None:
    """Once for each file."""
    if file not in _warned:
        _warned.add(file)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
