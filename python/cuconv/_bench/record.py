"""A record: what was measured, where, with what. docs/bench.md describes every key."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cuconv import config
from cuconv._atomic import replace_file
from cuconv._version import __version__

SCHEMA = 2
PACKAGE = Path(__file__).resolve().parents[1]
METHOD = (
    "Results are checked against float64 before they are timed. A round times every side once, in "
    "random order; operands rotate through more sets of buffers than twice the last cache holds. "
    "On the CPU a side's turn is the mean of as many calls as fill 20 ms, with a tenth of a "
    "second between sides because threads of BLAS and PyTorch spin after their work; filters stay "
    "the same, results are allocated by each side (relu has out=), and cuconv's plan keeps its "
    "filters, as PyTorch's prepacked module does. On a GPU turns are timed by events behind a "
    "kernel that waits until all is queued; operands, filters and results rotate. A ratio is the "
    "median over rounds of the other side's time over cuconv's, its interval a 95% bootstrap of "
    "that median; `ratio` is beside the peer of smallest median."
)


class RecordError(ValueError):
    """A file is no record, or one that cannot be used as asked; the message is for the user."""


def new(purpose: str, settings: dict[str, Any], command: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "program": "cuconv bench",
        "purpose": purpose,  # "run" or "sweep"
        "date": now(),
        "commit": commit(),
        "command": command,
        "method": METHOD,
        "settings": settings,
        "device": {},
        "versions": versions(),
        "missing": {},
        "state_before": {},
        "state_after": {},
        "roofline": None,
        "planned": 0,
        "complete": False,
        "rows": [],
    }


def versions() -> dict[str, str]:
    """Of what is always there."""
    return {
        "python": sys.version.split()[0],
        "cuconv": __version__,
        "numpy": np.__version__,
        "blas": config.blas(),
    }


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")


def commit() -> str:
    """Of the working copy that this package lies in; an installed one is told by CUCONV_COMMIT."""
    given = os.environ.get("CUCONV_COMMIT")
    top = git("rev-parse", "--show-toplevel")
    if given or not top or Path(top) / "python" / "cuconv" != PACKAGE:
        return given or "unknown"
    changed = "+changes" if git("status", "--porcelain", "-uno") else ""
    return git("rev-parse", "HEAD") + changed


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def write(path: Path, record: dict[str, Any]) -> None:
    """At once or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}") from None


def read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise RecordError(f"{path} is not a regular file")
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise RecordError(f"{path} is nested too deeply") from None
    except RecordError:  # a ValueError
        raise
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError:
        raise RecordError(f"{path} is no JSON") from None
    try:
        if found["schema"] == 1:
            found = upgraded(found)
        if found["schema"] != SCHEMA:
            raise RecordError(f"{path} has schema {found['schema']}; this program reads 1 and 2")
        check(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} is not a record of cuconv bench ({error!r})") from None
    return dict(found)


def check(record: dict[str, Any]) -> None:
    """Raises KeyError or TypeError for what is not as docs/bench.md says."""
    for name in ("purpose", "date", "commit", "command", "method", "versions", "settings"):
        record[name]
    record["complete"], record["state_before"].items()
    record["device"]["device"], record["device"]["model"]
    for row in record["rows"]:
        for name in ("key", "group", "name", "of", "kind", "direction", "layout", "x_shape"):
            row[name]
        if "sides" in row:
            row["sides"][row["ours"]]["ms"], row["ratios"].items(), row["ratio"]


def upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A record of schema 1: float32, forward, NCHW on a CPU, no roofline, no times of rounds. Its
    errors are relative to the largest result."""
    kept = {name: old[name] for name in ("date", "commit", "command", "method", "complete")}
    fixed = {"kind": "float32", "direction": "forward", "layout": "NCHW"}
    rows = []
    for row in old["rows"]:
        key = f"{row['group']} {row['name']} n{row['x_shape'][0]} float32 NCHW"
        row["skipped_sides"] = row.pop("skipped", {})
        row["errors"] = {name: {"largest": e, "rms": None} for name, e in row["errors"].items()}
        rows.append({"key": key, **fixed, **row})
        for side in row.get("sides", {}).values():
            side.setdefault("algo", "unknown")
        if "sides" in row:
            row["sides"][row["ours"]]["algo"] = row["algo"]
    model = {"device": "cpu", "model": old["cpu"], "cores": old["cores"], "threads": old["threads"]}
    return {
        **kept,
        "schema": SCHEMA,
        "program": "cuconv bench",
        "purpose": "run",
        "settings": {"seconds": None},
        "device": model,
        "versions": old["versions"],
        "missing": {},
        "state_before": {"load": old["load_before"]},
        "state_after": {"load": old["load_after"]},
        "roofline": None,
        "planned": len(rows),
        "rows": rows,
    }
