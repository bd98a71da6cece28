"""The CPU benchmark runs, and its record holds what is read from it later."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cuconv

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "time_cpu.py"


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


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_a_row_beside_pytorch(tmp_path):
    path = tmp_path / "cpu.json"
    options = "--group", "networks", "--limit", 1, "--batch", 1, "--seconds", 0.02
    done = run(*options, "--out", path)
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["schema"] == 1
    assert record["complete"]
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert {"date", "commit", "command", "cpu", "cores", "load_before"} <= set(record)
    assert {"python", "numpy", "blas", "scipy", "torch", "opencv"} <= set(record["versions"])
    (row,) = record["rows"]
    assert row["x_shape"] == [1, 3, 224, 224]
    assert row["variant"]
    assert row["workspace_bytes"] >= 0
    assert row["peak_bytes"] > 0
    assert 0 <= max(row["errors"].values()) < 1e-4
    layouts = {"PyTorch NCHW", "PyTorch channels_last"}
    assert set(row["sides"]) == {"cuconv plan", "cuconv one-shot"} | layouts
    assert row["beside"] in layouts
    assert 0 < row["interval"][0] <= row["ratio"] <= row["interval"][1]
    assert all(ratio["ratio"] > 0 for ratio in row["ratios"].values())


def test_a_mistake_is_told_in_words(tmp_path):
    done = run("--group", "nothing", "--out", tmp_path / "cpu.json")
    assert done.returncode == 2
    assert "networks" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
