"""Where cases run: how arrays are made there, calls timed, and what the hardware's limits are."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cuconv import config

Call = Callable[[int], Any]  # of the i-th set of buffers
UNKNOWN_CACHE = 32 << 20


class Device(Protocol):
    name: str  # "cpu" or "cuda"
    xp: Any  # numpy or cupy
    cache_bytes: int  # of the last cache
    turn_ms: float  # a side's turn is at least so long
    pause_s: float  # between the turns of two sides
    rotates_filters: bool
    shares: bool  # with other work, so that limits have to be measured again and again

    def open(self) -> AbstractContextManager[None]: ...

    def uniform(
        self, shape: Sequence[int], count: int, dtype: np.dtype, which: int = 0
    ) -> list[Any]:
        """So many arrays in [-1, 1], apart from each other, each at a multiple of 256 bytes. The
        same numbers in every call for that shape and `which`, 0 or 1."""
        ...

    def to_host(self, array: Any) -> np.ndarray: ...

    def synchronize(self) -> None: ...

    def milliseconds(self, call: Call, numbers: Sequence[int]) -> float:
        """Of a call, the mean over those with the sets of these numbers, one after the other."""
        ...

    def room(self) -> int:
        """Bytes that buffers may take."""
        ...

    def release(self) -> None:
        """Gives back what memory pools keep of a case."""
        ...

    def bandwidth(self, times: int) -> float:
        """Bytes a second: the best of copying and reading large arrays so many times."""
        ...

    def product_rate(self, kind: str, times: int) -> float:
        """Multiply-adds a second of large matrices, the best of so many; 0 where there are none."""
        ...

    def state(self) -> dict[str, Any]:
        """Clocks and load, now."""
        ...

    def facts(self) -> dict[str, Any]: ...


def uniform(
    xp: Any, shape: Sequence[int], count: int, dtype: np.dtype, which: int = 0
) -> list[Any]:
    size = math.prod(shape)
    step = -(-size // 128) * 128
    flat = xp.random.default_rng(2 * size + which).random(count * step, dtype=np.float32)
    flat *= 2
    flat -= 1
    flat = flat.astype(dtype, copy=False)
    return [flat[i * step : i * step + size].reshape(shape) for i in range(count)]


def host_milliseconds(call: Call, numbers: Sequence[int], wait: Callable[[], None]) -> float:
    began = time.perf_counter()
    for i in numbers:
        call(i)
    wait()
    return (time.perf_counter() - began) * 1e3 / len(numbers)


# ---- the CPU ----


class CpuDevice:
    name = "cpu"
    xp: Any = np
    turn_ms = 20.0
    # Threads of BLAS and OpenMP spin for some hundredths of a second after their work, and would
    # take a core from whoever comes next.
    pause_s = 0.1
    # A plan keeps its transformed filters together with the filters they were made from.
    rotates_filters = False
    shares = True

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.cache_bytes = last_cache() or UNKNOWN_CACHE

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            with contextlib.suppress(ImportError):
                import threadpoolctl

                np.ones((2, 2)) @ np.ones((2, 2))
                stack.enter_context(threadpoolctl.threadpool_limits(self.threads))
            yield

    def uniform(
        self, shape: Sequence[int], count: int, dtype: np.dtype, which: int = 0
    ) -> list[Any]:
        return uniform(np, shape, count, dtype, which)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def synchronize(self) -> None: ...

    def milliseconds(self, call: Call, numbers: Sequence[int]) -> float:
        return host_milliseconds(call, numbers, self.synchronize)

    def room(self) -> int:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/meminfo").read_text().splitlines()
            line = next(line for line in lines if line.startswith("MemAvailable"))
            return int(line.split()[1]) * 1024 // 4
        return 1 << 30

    def release(self) -> None: ...

    @cached_property
    def large(self) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays, each at least four times as large as the last cache."""
        elements = max(1 << 25, self.cache_bytes)
        return np.ones(elements, np.float32), np.ones(elements, np.float32)

    def bandwidth(self, times: int) -> float:
        source, target = self.large
        edges = np.linspace(0, source.size, self.threads + 1).astype(int)
        parts = [slice(*edge) for edge in itertools.pairwise(edges.tolist())]
        with ThreadPool(self.threads) as pool:

            def copy(_: int) -> None:
                pool.map(lambda part: np.copyto(target[part], source[part]), parts)

            def read(_: int) -> None:
                pool.map(lambda part: source[part].max(), parts)

            best = [
                min(self.milliseconds(call, [0]) for _ in range(times)) for call in (copy, read)
            ]
        return max(2 * source.nbytes / best[0], source.nbytes / best[1]) * 1e3

    def product_rate(self, kind: str, times: int, n: int = 1536) -> float:
        """NumPy has no fast product of 16 bits: there it is that of float32, by which cuconv
        computes. PyTorch's counts as well, because its convolutions may use what NumPy does not."""
        if kind.startswith("tf32"):
            return 0.0
        dtype = "float64" if kind == "float64" else "float32"
        a, b = (array.reshape(n, n) for array in self.uniform((n * n,), 2, np.dtype(dtype)))
        calls: list[Call] = [lambda _: np.matmul(a, b)]
        with contextlib.suppress(ImportError):
            import torch

            x, y = (torch.from_numpy(array).to(getattr(torch, kind)) for array in (a, b))
            calls.append(lambda _: torch.matmul(x, y))
        return 1e3 * n**3 / min(self.milliseconds(c, [0]) for c in calls for _ in range(times))

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if hasattr(os, "getloadavg"):
            found["load"] = [round(n, 2) for n in os.getloadavg()]
        with contextlib.suppress(OSError):
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            found["mhz"] = [round(float(x.split(":")[1])) for x in lines if x.startswith("cpu MHz")]
        return found

    def facts(self) -> dict[str, Any]:
        return {
            "device": self.name,
            "model": config.processor(),
            "cores": os.cpu_count(),
            "threads": self.threads,
            "cache_bytes": self.cache_bytes,
        }


def last_cache() -> int:
    """Its size in bytes; 0 where the system does not say."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    found = 0
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            text = file.read_text().strip()
            found = max(found, int(text[:-1]) * units[text[-1]])
    return found
