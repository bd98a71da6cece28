"""The check of the CPU's choices runs, and its record holds what is read from it later."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cuconv

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "check_choice.py"


def run(*arguments):
    """With the package that the tests have, wherever it is."""
    package = str(Path(cuconv.__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )


def test_a_record(tmp_path):
    path = tmp_path / "choice.json"
    group = ("--group", "resnet50", "--limit", 1, "--seconds", 0.01)
    done = run(*group, "--direction", "weight_grad", "--factor", 0.5, "--out", path)
    assert done.returncode == 1, done.stderr  # then every row is a miss
    assert "1 rows: the fastest was chosen in" in done.stdout
    record = json.loads(path.read_text())
    assert record["complete"]
    assert {"date", "commit", "cpu", "cores", "threads", "load_before", "load_after"} <= set(record)
    (row,) = record["rows"]
    assert row["chosen"] in row["seconds"]
    assert row["seconds"][row["best"]] == min(row["seconds"].values())
    assert row["factor"] >= 1


def test_a_mistake_is_told_in_words(tmp_path):
    done = run("--group", "nothing", "--out", tmp_path / "choice.json")
    assert done.returncode != 0
    assert "not one of" in done.stderr
    assert "Traceback" not in done.stderr
