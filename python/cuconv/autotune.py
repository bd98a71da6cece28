"""Timing the algorithms that can do a problem, once, and remembering the fastest.

The answer is kept in memory and in a file, by problem, device and package version. What is in the
file counts: with the same file the same algorithm is used, in every process. See docs/autotune.md.
"""

from __future__ import annotations

import math
import numbers
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cuconv import _answers, _clocks
from cuconv import _arguments as arguments
from cuconv._answers import Entries, Entry, cache_file
from cuconv._backends._protocol import Backend, Candidate, ConvExecutor, ConvOptions, Direction
from cuconv._machine import processor
from cuconv._problem import ConvProblem
from cuconv._timing import SECONDS, Clock, Measured, measure
from cuconv._version import __version__

_memory: dict[Path, Entries] = {}  # by file: what it held when it was first read, and since
# The same by what a call has at hand: a key in words takes longer than many a convolution.
_quick: dict[tuple[Any, ...], Entry] = {}
_turn = threading.RLock()  # timings of two threads would disturb each other


def _forget() -> None:
    """A forked child may have a lock that one of its parent's threads held."""
    global _turn
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def forget() -> None:
    """What is in memory; the file is read again when it is next needed."""
    with _turn:
        _memory.clear()
        _quick.clear()


# ---- how to time ----


@dataclass(frozen=True)
class Asked:
    """How the calls inside a `with asked(...)` time, and what they found."""

    again: bool = False  # time even where an answer is known
    seconds: float = SECONDS  # of each candidate
    cold: bool = False  # empty the caches before each call
    found: list[Entry] = field(default_factory=list)  # timed inside
    known: list[Entry] = field(default_factory=list)  # before


_asked: ContextVar[Asked | None] = ContextVar("cuconv_autotune", default=None)


@contextmanager
def asked(again: bool = True, seconds: float = SECONDS, cold: bool = False) -> Iterator[Asked]:
    """For the tuning inside: other than what `algo="autotune"` does."""
    if isinstance(seconds, bool) or not isinstance(seconds, numbers.Real):
        raise TypeError(f"seconds must be a number, got {arguments.show(seconds)}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds must be positive and finite, got {seconds}")
    how = Asked(again, float(seconds), arguments.flag("cold", cold))
    token = _asked.set(how)
    try:
        yield how
    finally:
        _asked.reset(token)


# ---- what an answer is for ----


@lru_cache(maxsize=16)
def gpu_name(device_id: int) -> str:
    import cupy

    return _answers.shortened(
        cupy.cuda.runtime.getDeviceProperties(device_id)["name"].decode(errors="replace")
    )


def device_name(backend: Backend) -> str:
    if backend.device == "cuda":
        return gpu_name(backend.device_id)  # type: ignore[attr-defined]
    from cuconv._backends._cpu import threads

    number = threads.count()
    name = f"{backend.name} {getattr(backend, 'flavour', '')}".strip()
    return _answers.shortened(f"{processor()}, {number} thread{'s' * (number > 1)} ({name})")


def facts_of(
    direction: Direction, problem: ConvProblem, options: ConvOptions, layout: str
) -> dict[str, Any]:
    facts: dict[str, Any] = {"direction": direction, "layout": layout}
    facts.update(asdict(problem), dtype=problem.dtype.name, **asdict(options))
    del facts["algo"]
    return facts


# ---- the answer ----


def fastest_family(
    backend: Backend,
    direction: Direction,
    problem: ConvProblem,
    options: ConvOptions,
    run: Callable[[ConvExecutor], None],
    again: bool = False,
    layout: str = "",
) -> str:
    """The family to use, from memory, from disk, or by timing `run` on every candidate.

    Parameters
    ----------
    run : calls the executor it is given on the user's arrays
    again : time even where an answer is known
    layout : the caller's, which says how the arrays lie
    """
    how = _asked.get() or Asked()
    again = again or how.again
    file, device = cache_file(), device_name(backend)
    spot = (file, device, backend, direction, problem, options, layout)
    if not again and spot in _quick:
        how.known.append(_quick[spot])
        return _quick[spot].family
    candidates = backend.conv_candidates(direction, problem, options)
    able = sorted((c for c in candidates if c.supported), key=lambda c: c.cost)
    families = [c.algo for c in able]
    if len(families) < 2:
        return families[0] if families else "auto"
    facts = facts_of(direction, problem, options, layout)
    key = _answers.key_of(device, __version__, facts)
    with _turn:
        if file not in _memory:
            _memory[file] = _answers.read(file)
        entry = _memory[file].get(key)
        if not again and entry is not None and entry.family in families:
            how.known.append(entry)
        else:
            executors: dict[str, ConvExecutor] = {}

            def timed(family: str) -> None:
                if family not in executors:
                    one = replace(options, algo=family)
                    executors[family] = backend.conv(direction, problem, one)
                run(executors[family])

            runs = {family: lambda family=family: timed(family) for family in families}
            measured = measure(runs, clock_for(backend, how.cold), how.seconds)
            if not measured.seconds:
                return "auto"  # which will say what is wrong
            found = entry_of(device, facts, candidates, measured, how.cold)
            entry = _answers.add(
                file, found, lambda there: not again and there.family in measured.seconds
            )
            _memory[file][key] = entry
            how.found.append(entry)
        _quick[spot] = entry
    return entry.family


def clock_for(backend: Backend, cold: bool) -> Clock:
    if backend.device == "cuda":
        import cupy

        device: int = backend.device_id  # type: ignore[attr-defined]
        return _clocks.EventClock(cupy, device, cold)
    return _clocks.HostClock(_clocks.host_flush() if cold else None)


def entry_of(
    device: str,
    facts: dict[str, Any],
    candidates: list[Candidate],
    measured: Measured,
    cold: bool,
) -> Entry:
    seconds = measured.seconds
    family = min(seconds, key=lambda name: seconds[name])
    skipped = {c.algo: c.reason for c in candidates if not c.supported} | measured.failed
    return Entry(
        device=device,
        version=__version__,
        problem=facts,
        family=family,
        variant=next(c.variant for c in candidates if c.algo == family),
        seconds=seconds,
        skipped={name: _answers.shortened(why) for name, why in skipped.items()},
        cold=cold,
        date=_answers.now(),
    )
