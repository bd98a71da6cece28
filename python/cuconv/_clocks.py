"""How long calls take: by the host's clock on a CPU, by events on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cuconv._timing import Run
from cuconv.errors import UnsupportedError

CACHES = "/sys/devices/system/cpu/cpu0/cache"
UNKNOWN_CACHE = 64 << 20  # bytes; more than most processors have
Flush = Callable[[], None]


class HostClock:
    """`time.perf_counter`, which no change of the date moves."""

    def __init__(self, flush: Flush | None = None) -> None:
        self._flush = flush
        self.one_by_one = flush is not None

    def __call__(self, run: Run, calls: int) -> float:
        if self._flush is not None:
            self._flush()
        began = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - began) / calls


class EventClock:
    """CUDA events on CuPy's current stream: the GPU's own time from one to the other.

    The host's clock would count the wait for work before it, and all the time that queueing takes.
    Events count queueing only where the GPU waits for it: the first is stamped on an idle stream,
    so kernels shorter than a launch are timed as their launches.
    """

    def __init__(self, cupy: Any, device_id: int, cold: bool = False) -> None:
        self._cupy = cupy
        self.one_by_one = cold
        self._device = cupy.cuda.Device(device_id)
        with self._device:
            if cupy.cuda.get_current_stream().is_capturing():
                raise UnsupportedError(
                    "autotune has to time algorithms, which it cannot while the current stream is "
                    "being captured: call the plan's autotune(x, w), or make the call once, before"
                )
            self._start, self._stop = cupy.cuda.Event(), cupy.cuda.Event()
            self._flush = device_flush(cupy, device_id) if cold else None

    def __call__(self, run: Run, calls: int) -> float:
        with self._device:
            stream = self._cupy.cuda.get_current_stream()
            if self._flush is not None:
                self._flush()
            self._start.record(stream)
            for _ in range(calls):
                run()
            self._stop.record(stream)
            self._stop.synchronize()
            milliseconds = self._cupy.cuda.get_elapsed_time(self._start, self._stop)
        return float(milliseconds) * 1e-3 / calls


# ---- caches ----


def host_flush() -> Flush:
    """Reads and writes twice what the largest cache holds, so that it holds nothing else."""
    buffer = np.zeros(2 * largest_cache(Path(CACHES)) // 8)

    def flush() -> None:
        np.add(buffer, 1, out=buffer)

    return flush


def largest_cache(folder: Path) -> int:
    """In bytes, as Linux tells it."""
    sizes = [UNKNOWN_CACHE // 1024]
    try:
        found = [file.read_text().strip() for file in folder.glob("index*/size")]
        sizes = [int(text.removesuffix("K")) for text in found] or sizes
    except (OSError, ValueError):
        pass  # another system, or another unit
    return max(sizes) * 1024


def device_flush(cupy: Any, device_id: int) -> Flush:
    """The same of the GPU's L2, on the current device and stream."""
    size = cupy.cuda.runtime.getDeviceProperties(device_id)["l2CacheSize"]
    buffer = cupy.zeros(max(1, 2 * int(size) // 4), np.float32)

    def flush() -> None:
        cupy.add(buffer, 1, out=buffer)

    return flush
