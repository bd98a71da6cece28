"""Running the command line inside a test."""

import signal
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from cuconv._cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run(capsys, *arguments) -> Outcome:
    """`cuconv ARGUMENTS`, in this process."""
    capsys.readouterr()
    with kept_signals(), pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return Outcome(exit_.value.code, captured.out, captured.err)


@contextmanager
def kept_signals():
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def assert_one_line(outcome: Outcome, *fragments: str) -> None:
    """The user's error: exit code 2, one line on stderr that names it, nothing on stdout."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("cuconv: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    for fragment in fragments:
        assert fragment in outcome.err
