"""Progress on stderr, shown only on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(delay: float = 0.0, remaining: bool = False) -> Iterator[Progress]:
    """A bar that appears after `delay` seconds, so that quick work shows none, and goes away.

    With `remaining` it tells the time that is left, not the time gone.
    """
    console = Console(stderr=True)
    clock: ProgressColumn = TimeElapsedColumn()
    if remaining:
        clock = TimeRemainingColumn(elapsed_when_finished=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        clock,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    timer = threading.Timer(delay, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield bar
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
