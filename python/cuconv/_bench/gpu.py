"""A GPU through CuPy: events on one stream, its clocks, and the rates of its own libraries."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cuconv._bench.cases import KINDS
from cuconv._bench.devices import Call, uniform

# One thread waits on the GPU while the host queues what is timed, whose start-up is so left out.
WAIT = """
extern "C" __global__ void wait(long long cycles) {
  for (long long began = clock64(); clock64() - began < cycles;) {}
}
"""
WAIT_CYCLES, WAIT_CYCLES_A_CALL = 400_000, 150_000  # some 80 microseconds a call
CLOCKS = (
    "clocks.sm",
    "clocks.mem",
    "temperature.gpu",
    "power.draw",
    "clocks_throttle_reasons.active",
)


class CudaDevice:
    name = "cuda"
    turn_ms = 0.05  # an event is good to half a microsecond
    pause_s = 0.0
    rotates_filters = True
    shares = False

    def __init__(self, cupy: Any) -> None:
        self.cupy = self.xp = cupy
        self.number = cupy.cuda.Device().id
        self.properties = cupy.cuda.runtime.getDeviceProperties(self.number)
        self.cache_bytes = int(self.properties["l2CacheSize"])
        self.wait = cupy.RawKernel(WAIT, "wait")
        self.stream = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        with self.stream:
            yield

    def uniform(
        self, shape: Sequence[int], count: int, dtype: np.dtype, which: int = 0
    ) -> list[Any]:
        return uniform(self.cupy, shape, count, dtype, which)

    def to_host(self, array: Any) -> np.ndarray:
        return np.asarray(self.cupy.asnumpy(array))

    def synchronize(self) -> None:
        self.stream.synchronize()

    def milliseconds(self, call: Call, numbers: Sequence[int]) -> float:
        start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        self.wait((1,), (1,), (np.int64(WAIT_CYCLES + len(numbers) * WAIT_CYCLES_A_CALL),))
        start.record()
        for i in numbers:
            call(i)
        stop.record()
        stop.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(start, stop)) / len(numbers)

    def room(self) -> int:
        pool = self.cupy.get_default_memory_pool()
        return int(self.cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()) // 2

    def release(self) -> None:
        """PyTorch's pool as well, where it has one: neither gives to the other."""
        self.cupy.get_default_memory_pool().free_all_blocks()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def bandwidth(self, times: int, elements: int = 1 << 28) -> float:
        source = self.uniform((elements,), 1, np.dtype("float32"))[0]
        target = self.cupy.empty_like(source)

        def copy(_: int) -> None:
            self.cupy.copyto(target, source)

        def read(_: int) -> None:
            source.max()

        best = [min(self.milliseconds(call, [0]) for _ in range(times)) for call in (copy, read)]
        return max(2 * source.nbytes / best[0], source.nbytes / best[1]) * 1e3

    def product_rate(self, kind: str, times: int, sizes: Sequence[int] = (4096, 8192)) -> float:
        """A device without units for a kind uses those of float32, which therefore count for every
        kind but float64. Three products in tf32 are one in tf32x3."""
        if kind == "tf32x3":
            third = self.product_rate("tf32", times, sizes) / 3
            return max(third, self.product_rate("float32", times, sizes))
        rate = max(self.one_rate(kind, times, n) for n in sizes)
        if kind in ("float32", "float64"):
            return rate
        return max(rate, self.product_rate("float32", times, sizes))

    def one_rate(self, kind: str, times: int, n: int) -> float:
        """By cuBLAS, through CuPy. float16 stands for bfloat16: one unit does both."""
        from cupy._core import _routines_linalg as linalg

        dtype = np.dtype(KINDS[kind][0].replace("bfloat16", "float16"))
        compute = linalg.COMPUTE_TYPE_TF32 if kind == "tf32" else linalg.COMPUTE_TYPE_DEFAULT
        linalg.set_compute_type(dtype, compute)
        a, b, out = self.uniform((n, n), 3, dtype)
        try:
            found = [
                self.milliseconds(lambda _: self.cupy.matmul(a, b, out=out), [0])
                for _ in range(times)
            ]
        finally:
            linalg.set_compute_type(dtype, linalg.COMPUTE_TYPE_DEFAULT)
        return 1e3 * n**3 / min(found)

    def state(self) -> dict[str, Any]:
        values = self.smi(*CLOCKS).split(", ")
        return dict(zip(CLOCKS, values, strict=True)) if len(values) == len(CLOCKS) else {}

    def smi(self, *names: str) -> str:
        bus = self.cupy.cuda.Device().pci_bus_id
        command = ["nvidia-smi", f"--id={bus}", f"--query-gpu={','.join(names)}"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                [*command, "--format=csv,noheader"],
                capture_output=True,
                text=True,
                check=True,
                timeout=20,
            )
            return done.stdout.strip()
        return ""

    def facts(self) -> dict[str, Any]:
        runtime = self.cupy.cuda.runtime
        return {
            "device": self.name,
            "model": self.properties["name"].decode(),
            "capability": f"{self.properties['major']}.{self.properties['minor']}",
            "cache_bytes": self.cache_bytes,
            "memory_bytes": int(self.properties["totalGlobalMem"]),
            "driver": self.smi("driver_version") or "unknown",
            "power_limit": self.smi("power.limit") or "unknown",
            "cuda_driver": runtime.driverGetVersion(),
            "cuda_runtime": runtime.runtimeGetVersion(),
        }
