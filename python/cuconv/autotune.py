"""Timing the algorithms that can do a problem, once, and remembering the fastest.

The answer is kept in memory and in a JSON file, by problem, device and package version.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cuconv._backends._protocol import Backend, ConvExecutor, ConvOptions, Direction
from cuconv._folders import cache_folder
from cuconv._problem import ConvProblem
from cuconv._version import __version__

ROUNDS = 5  # each candidate is timed so often, in turns with the others; the fastest time counts

_memory: dict[Path, dict[str, str]] = {}  # by file: problem -> family
_warned: set[Path] = set()


def cache_file() -> Path:
    return cache_folder() / f"autotune-{__version__}.json"


def device_name(backend: Backend) -> str:
    if backend.device == "cuda":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(backend.device_id)  # type: ignore[attr-defined]
        return str(properties["name"].decode())
    return f"{backend.name} on {platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def key_of(
    backend: Backend, direction: Direction, problem: ConvProblem, options: ConvOptions
) -> str:
    facts: dict[str, Any] = {"device": device_name(backend), "direction": direction}
    facts.update(asdict(problem), dtype=problem.dtype.name, **asdict(options))
    del facts["algo"]
    return json.dumps(facts, sort_keys=True)


def fastest_family(
    backend: Backend,
    direction: Direction,
    problem: ConvProblem,
    options: ConvOptions,
    run: Callable[[ConvExecutor], None],
    again: bool = False,
) -> str:
    """The family to use, from memory, from disk, or by timing `run` on every candidate.

    Parameters
    ----------
    run : calls the executor it is given on the user's arrays
    again : time even where an answer is known
    """
    candidates = backend.conv_candidates(direction, problem, options)
    families = [c.algo for c in candidates if c.supported]
    if not families:
        return "auto"
    file = cache_file()
    known = _memory.setdefault(file, read(file))
    key = key_of(backend, direction, problem, options)
    if again or known.get(key) not in families:
        executors = {
            family: backend.conv(direction, problem, replace(options, algo=family))
            for family in families
        }
        times = measure(backend, executors, run)
        known[key] = min(times, key=lambda family: times[family])
        write(file, known)
    return known[key]


def measure(
    backend: Backend, executors: dict[str, ConvExecutor], run: Callable[[ConvExecutor], None]
) -> dict[str, float]:
    """Seconds each executor takes, interleaved so that a disturbance meets them all."""
    times = dict.fromkeys(executors, float("inf"))
    if len(executors) == 1:
        return times
    for executor in executors.values():
        run(executor)  # caches and pools fill outside the timing
    for _ in range(ROUNDS):
        for family, executor in executors.items():
            synchronize(backend)
            began = time.perf_counter()
            run(executor)
            synchronize(backend)
            times[family] = min(times[family], time.perf_counter() - began)
    return times


def synchronize(backend: Backend) -> None:
    if backend.device == "cuda":
        import cupy

        cupy.cuda.get_current_stream().synchronize()


# ---- the file ----


def read(file: Path) -> dict[str, str]:
    """The answers on disk; none where there is no file, or a broken one (with a warning)."""
    try:
        entries = json.loads(file.read_text())
        if not isinstance(entries, dict):
            raise ValueError("not a table")
        if not all(isinstance(v, str) for v in entries.values()):
            raise ValueError("an answer is not a word")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        complain(file, f"the autotune cache {file} is ignored: {error}")
        return {}
    return entries


def write(file: Path, known: dict[str, str]) -> None:
    """Replaces the file in one step, keeping what others have added to it meanwhile."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        merged = {**read(file), **known}
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=file.name, suffix=".tmp", delete=False
        ) as temporary:
            try:
                json.dump(merged, temporary, indent=1, sort_keys=True)
                temporary.flush()
                os.fsync(temporary.fileno())
                os.replace(temporary.name, file)
            except BaseException:
                os.unlink(temporary.name)
                raise
    except OSError as error:
        complain(file, f"the autotune cache {file} cannot be written: {error}")


def complain(file: Path, message: str) -> None:
    if file not in _warned:
        _warned.add(file)
        warnings.warn(message, RuntimeWarning, stacklevel=2)
