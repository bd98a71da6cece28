"""Running a script of examples/ inside a test, as a user does."""

import subprocess
import sys
from pathlib import Path

import click
from click.testing import CliRunner

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Warnings are errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def assert_one_line(command: click.Command, arguments: list[object], *fragments: str) -> None:
    """The user's error: one line on stderr that says what is wrong, and nothing on stdout."""
    done = CliRunner().invoke(command, [str(a) for a in arguments])
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    for fragment in fragments:
        assert fragment in done.stderr
