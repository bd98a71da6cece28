"""The scripts in examples/ run, and print what they should."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def output_of(name: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    tested = set(re.findall(r'output_of\("(\w+\.py)"\)', Path(__file__).read_text()))
    assert tested == {path.name for path in EXAMPLES.glob("*.py")}


def test_edges():
    # Worked out by hand: 4 along a side; at a corner (3, 3) inside and (1, 1) outside.
    assert output_of("edges.py").splitlines() == [
        ". . . . . . . . . .",
        ". . 1 3 4 4 3 1 . .",
        ". . 3 4 4 4 4 3 . .",
        ". . 4 4 . . 4 4 . .",
        ". . 4 4 . . 4 4 . .",
        ". . 3 4 4 4 4 3 . .",
        ". . 1 3 4 4 3 1 . .",
        ". . . . . . . . . .",
    ]


def test_template_matching():
    assert output_of("template_matching.py") == "best score 1.000 at row 20, column 45\n"


def test_small_network():
    assert output_of("small_network.py") == "sizes: (2, 10, 8, 8) sums: [1. 1.]\n"
