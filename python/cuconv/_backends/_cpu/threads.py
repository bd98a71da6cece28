"""Blocks of work spread over threads, with BLAS held to one thread inside.

How many threads is what BLAS would use itself, so `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS` and
threadpoolctl's limits of the caller are honoured. Without threadpoolctl BLAS cannot be held back:
blocks then run one after the other, and BLAS spreads each product itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Task = Callable[[], None]


def blas_libraries() -> list[Any]:
    """threadpoolctl's handles of the BLAS libraries that are loaded; none without it."""
    try:
        import numpy as np
        import threadpoolctl
    except ImportError:
        return []
    np.ones((2, 2)) @ np.ones((2, 2))  # a BLAS that loads late is loaded now
    return [
        library
        for library in threadpoolctl.ThreadpoolController().lib_controllers
        if library.user_api == "blas"
    ]


def set_threads(library: Any, number: int) -> None:
    """threadpoolctl lets one thread alone set limits where they are the whole process's, and others
    in silence do nothing; our lock and count of holders do what that is for."""
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
    library.set_num_threads(number)
    if clear is not None:
        clear(force=True)


class Workers:
    """The process's pool. One lock guards it, because callers may be threads themselves."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        self.libraries: list[Any] | None = None
        self.holders = 0  # callers inside `held`
        self.before: list[int] = []

    def threads(self) -> int:
        with self.lock:
            if self.libraries is None:
                self.libraries = blas_libraries()
            if self.holders:  # BLAS is held now: what it would use was noted
                return max(self.before, default=1)
            return max((library.get_num_threads() for library in self.libraries), default=1)

    @contextmanager
    def held(self) -> Iterator[None]:
        """BLAS uses one thread. The first caller in holds it, the last one out lets it go."""
        with self.lock:
            libraries = self.libraries or []
            if self.holders == 0:
                self.before = [library.get_num_threads() for library in libraries]
                for library in libraries:
                    set_threads(library, 1)
            self.holders += 1
        try:
            yield
        finally:
            with self.lock:
                self.holders -= 1
                if self.holders == 0:
                    for library, threads in zip(libraries, self.before, strict=True):
                        set_threads(library, threads)

    def hold_here(self) -> None:
        """In a worker: some libraries keep their limits thread by thread."""
        for library in self.libraries or []:
            if library.get_num_threads() != 1:
                with self.lock:
                    set_threads(library, 1)

    def executor(self, threads: int) -> ThreadPoolExecutor:
        with self.lock:
            if self.pool is None or self.size < threads:
                self.pool = ThreadPoolExecutor(threads, thread_name_prefix="cuconv")
                self.size = threads
            return self.pool


_workers = Workers()


def _forget() -> None:
    """A forked child has none of its parent's threads, and perhaps a lock that one of them held."""
    global _workers
    old, _workers = _workers, Workers()
    if old.holders:
        for library, threads in zip(old.libraries or [], old.before, strict=True):
            set_threads(library, threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def count() -> int:
    """How many threads `run` would use."""
    return _workers.threads()


def held() -> AbstractContextManager[None]:
    """BLAS uses one thread inside."""
    count()
    return _workers.held()


def run(tasks: Sequence[Task]) -> None:
    """Runs all tasks, whose results must not depend on their order. The first error is raised.

    One task runs here and leaves BLAS its threads.
    """
    threads = min(count(), len(tasks)) if len(tasks) > 1 else 1
    if threads == 1:
        for task in tasks:
            task()
        return
    pending = iter(tasks)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                task = next(pending, None)
            if task is None:
                return
            task()

    def work_elsewhere() -> None:
        _workers.hold_here()
        work()

    with _workers.held():
        executor = _workers.executor(threads)
        others = [executor.submit(work_elsewhere) for _ in range(threads - 1)]
        try:
            work()
        except BaseException:  # Ctrl-C as well: what has not begun never will
            with lock:
                pending = iter(())
            raise
        finally:  # nobody may write into the arrays after we return
            begun = [other for other in others if not other.cancel()]
            wait(begun)
        for other in begun:
            other.result()
