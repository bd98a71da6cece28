"""Blocks of work spread over threads, with BLAS held to one thread inside.

How many threads is what BLAS would use itself, so `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS` and
threadpoolctl's limits of the caller are honoured. Without threadpoolctl BLAS cannot be held back:
blocks then run one after the other, and BLAS spreads each product itself.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

Task = Callable[[], None]


def blas_libraries() -> list[Any]:
    """threadpoolctl's handles of the BLAS libraries that are loaded; none without it."""
    try:
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
    """The process's pool. One lock guards it, because callers may be threads themselves.

    A caller either holds BLAS to one thread and spreads blocks, or leaves it its threads. Products
    of one and the other differ in their last bits, so neither goes on while the other does.
    """

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0
        self.libraries: list[Any] | None = None
        self.holders = 0  # callers inside `held`
        self.leavers = 0  # callers inside `left`
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
            self.lock.wait_for(lambda: self.leavers == 0)
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
                    self.lock.notify_all()

    @contextmanager
    def left(self) -> Iterator[None]:
        """BLAS uses its own threads."""
        with self.lock:
            self.lock.wait_for(lambda: self.holders == 0)
            self.leavers += 1
        try:
            yield
        finally:
            with self.lock:
                self.leavers -= 1
                if self.leavers == 0:
                    self.lock.notify_all()

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


def left() -> AbstractContextManager[None]:
    """BLAS uses its own threads inside. Not to be entered by a task."""
    count()
    return _workers.left()


def one_by_one(tasks: Iterable[Task]) -> None:
    """Runs all tasks here, in order; BLAS spreads each of their products."""
    with left(), np.errstate(all="ignore"):
        for task in tasks:
            task()


def run(tasks: Iterable[Task]) -> None:
    """Runs all tasks, whose results must not depend on their order. The first error is raised.

    One task, or all where there is one thread, run here and leave BLAS its threads.
    """
    pending = iter(tasks)
    some = list(itertools.islice(pending, count()))
    if len(some) < 2:
        one_by_one(itertools.chain(some, pending))
        return
    Spread(itertools.chain(some, pending)).run(len(some))


class Spread:
    """One `run` over several threads."""

    def __init__(self, tasks: Iterator[Task]) -> None:
        self.tasks = tasks
        self.lock = threading.Lock()

    def work(self) -> None:
        with np.errstate(all="ignore"):  # NumPy's error state is each thread's own
            while True:
                with self.lock:
                    task = next(self.tasks, None)
                if task is None:
                    return
                task()

    def work_elsewhere(self) -> None:
        _workers.hold_here()
        self.work()

    def stop(self) -> None:
        with self.lock:
            self.tasks = iter(())

    def run(self, threads: int) -> None:
        others: list[Future[None]] = []
        with _workers.held():
            try:
                for _ in range(threads - 1):
                    try:
                        others.append(_workers.executor(threads).submit(self.work_elsewhere))
                    except RuntimeError:  # the interpreter is ending: no new threads
                        break
                self.work()
            except BaseException:  # Ctrl-C as well: what has not begun never will
                self.stop()
                raise
            finally:
                self.join(others)
        for other in others:
            if not other.cancelled():
                other.result()

    def join(self, others: list[Future[None]]) -> None:
        """Nobody may write into the arrays after we return, so Ctrl-C waits, too."""
        interrupt: BaseException | None = None
        while True:
            try:
                wait([other for other in others if not other.cancel()])
                break
            except BaseException as error:
                interrupt = error
                self.stop()
        if interrupt is not None:
            raise interrupt
