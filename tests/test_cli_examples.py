"""The scripts in examples/ run, and print what they should."""

import re
from pathlib import Path

from example_runs import EXAMPLES, run_example


def output_of(name: str) -> str:
    done = run_example(name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*example*.py"))
    tested = set(re.findall(r'(?:output_of|run_example)\("(\w+\.py)"', sources))
    # One with an underscore is what others share.
    assert tested == {path.name for path in EXAMPLES.glob("[!_]*.py")}


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
