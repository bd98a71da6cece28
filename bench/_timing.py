"""What benchmarks share: layers at full size; events, data and ceilings of the GPU; a record."""

from __future__ import annotations

import datetime
import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

HERE = Path(__file__).resolve().parent
# Each list is in the order of importance.
GROUPS = {
    "resnet50": "resnet50_v1_5",
    "vgg": "lavin_winograd_vgg_e",
    "googlenet": "googlenet_v1",
    "deepbench": "deepbench_conv_training_set",
}
DIRECTIONS = ("forward", "input_grad", "weight_grad")
LAYOUTS = ("NHWC", "NCHW")
FREE_BATCH = 32  # of networks that have none of their own
KINDS = {  # element type and precision, by what the benchmarks call both together
    "float16": ("float16", "ieee"),
    "float32": ("float32", "ieee"),
    "bfloat16": ("bfloat16", "ieee"),
    "tf32": ("float32", "tf32"),
    "tf32x3": ("float32", "tf32x3"),
}
# One thread waits on the GPU while the host queues what is timed, whose start-up is so left out.
WAIT = """
extern "C" __global__ void wait(long long cycles) {
  for (long long began = clock64(); clock64() - began < cycles;) {}
}
"""
WAIT_CYCLES = 600_000


def fail(message: str) -> NoReturn:
    """For what the user can put right."""
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(2)


@dataclass(frozen=True)
class Layer:
    group: str
    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    p: int
    q: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def __str__(self) -> str:
        stride, padding = ("x".join(map(str, pair)) for pair in (self.stride, self.padding))
        x = f"{self.n}x{self.c}x{self.h}x{self.w}"
        return f"{self.group} {x} {self.k}x{self.r}x{self.s} s{stride} p{padding}"

    def hits(self, axis: int) -> list[tuple[int, int]]:
        """Along one axis: for each product that is not with padding, where in y and where in x."""
        size, taps, outputs = [(self.h, self.r, self.p), (self.w, self.s, self.q)][axis]
        step, pad, spread = self.stride[axis], self.padding[axis], self.dilation[axis]
        pairs = [(o, o * step - pad + t * spread) for o in range(outputs) for t in range(taps)]
        return [(o, i) for o, i in pairs if 0 <= i < size]

    @property
    def work(self) -> int:
        """Multiply-adds, those with padding left out."""
        return self.n * self.c * self.k * len(self.hits(0)) * len(self.hits(1))


@dataclass(frozen=True)
class Job:
    layer: Layer
    kind: str
    direction: str
    layout: str

    def __str__(self) -> str:
        return f"{self.layer} {self.layout} {self.kind} {self.direction}"

    @property
    def dtype(self) -> np.dtype:
        import ml_dtypes

        name = KINDS[self.kind][0]
        return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        of = self.layer
        sides = {"x": (of.n, of.c, of.h, of.w), "w": (of.k, of.c, of.r, of.s)}
        sides["y"] = (of.n, of.k, of.p, of.q)
        if self.layout == "NCHW":
            return sides
        return {name: (n, h, w, c) for name, (n, c, h, w) in sides.items()}

    def names(self) -> tuple[str, str, str]:
        """The two operands and the result."""
        table = {"forward": "xwy", "input_grad": "ywx", "weight_grad": "yxw"}
        a, b, out = table[self.direction]
        return a, b, out

    def terms(self) -> int:
        """Length of a sum."""
        of = self.layer
        taps = of.r * of.s
        lengths = (of.c * taps, of.k * taps, of.n * of.p * of.q)
        return lengths[DIRECTIONS.index(self.direction)]

    def least_bytes(self) -> int:
        """Each operand read where it is needed, the result written."""
        elements = {name: math.prod(shape) for name, shape in self.shapes().items()}
        hits = [self.layer.hits(axis) for axis in (0, 1)]
        of = self.layer
        read = {"x": of.n * of.c, "y": of.n * of.k}
        for axis in hits:
            read["y"] *= len({o for o, _ in axis})
            read["x"] *= len({i for _, i in axis})
        a, b, out = self.names()
        total = sum(read.get(name, elements[name]) for name in (a, b)) + elements[out]
        return total * self.dtype.itemsize


def layers_of(group: str, batch: int | None) -> list[Layer]:
    """The distinct layers of a group, those first that its network spends most work on."""
    data = json.loads((HERE / "data" / "layers.json").read_text(encoding="utf-8"))
    (rows,) = [g["rows"] for g in data["groups"] if g["name"] == GROUPS[group]]
    times: dict[Layer, int] = defaultdict(int)
    for row in rows:
        n = batch or row["N"] or FREE_BATCH
        sizes = [row[name] for name in "CHWKRSPQ"]
        pairs = [(row[f"{name}_h"], row[f"{name}_w"]) for name in ("stride", "pad", "dil")]
        times[Layer(group, n, *sizes, *pairs)] += row.get("count", row.get("depth", 1))
    return sorted(times, key=lambda layer: -layer.work * times[layer])


@dataclass
class Lab:
    cupy: Any
    torch: Any  # None where there is none
    wait: Any
    l2_bytes: int
    rates: dict[str, float]  # multiply-adds a millisecond, by kind
    bandwidth: float  # bytes a millisecond

    def milliseconds(self, call: Callable[[], Any]) -> float:
        start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        self.wait((1,), (1,), (np.int64(WAIT_CYCLES),))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(start, stop))

    def uniform(self, shape: tuple[int, ...], count: int, dtype: Any) -> list[Any]:
        """So many arrays, apart, each at a multiple of 256 bytes."""
        size = math.prod(shape)
        step = -(-size // 128) * 128
        flat = self.cupy.random.default_rng(size).random(count * step, dtype=np.float32)
        flat *= 2
        flat -= 1
        flat = flat.astype(dtype)
        return [flat[i * step : i * step + size].reshape(shape) for i in range(count)]

    def floor_ms(self, kind: str, multiply_adds: int, moved_bytes: int) -> float:
        return max(multiply_adds / self.rates[kind], moved_bytes / self.bandwidth)

    def measure_ceilings(self) -> None:
        """The best of several runs, so that a clock that falls under load is no excuse."""
        source = self.uniform((1 << 28,), 1, np.float32)[0]
        target = self.cupy.empty_like(source)
        times = [self.milliseconds(lambda: self.cupy.copyto(target, source)) for _ in range(10)]
        self.bandwidth = 2 * source.nbytes / min(times)
        for kind in KINDS:
            if kind != "tf32x3":
                self.rates[kind] = max(self.product_rate(kind, n) for n in (4096, 8192))
        self.rates["tf32x3"] = self.rates["tf32"] / 3
        for kind in KINDS:  # a device without such units uses others
            self.rates[kind] = max(self.rates[kind], self.rates["float32"])

    def product_rate(self, kind: str, n: int) -> float:
        """Of n x n matrices. Without PyTorch, float16 stands for bfloat16: one unit does both."""
        dtype = KINDS[kind][0] if self.torch else KINDS[kind][0].replace("bfloat16", "float16")
        if self.torch:
            self.torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
            kinds = {"dtype": getattr(self.torch, dtype), "device": "cuda"}
            a, b = (self.torch.empty(n, n, **kinds).uniform_(-1, 1) for _ in "ab")
            out, product = self.torch.empty_like(a), self.torch.matmul
        else:
            from cupy._core import _routines_linalg as linalg

            compute = linalg.COMPUTE_TYPE_TF32 if kind == "tf32" else linalg.COMPUTE_TYPE_DEFAULT
            linalg.set_compute_type(np.dtype(dtype), compute)
            a, b, out = self.uniform((n, n), 3, dtype)
            product = self.cupy.matmul
        times = [self.milliseconds(lambda: product(a, b, out=out)) for _ in range(8)]
        return n**3 / min(times)


def open_lab() -> Lab:
    try:
        from cuconv._backends.cuda import missing
    except ImportError as error:
        fail(f"cuconv is not installed here ({error})")
    try:
        import cupy
    except ImportError as error:
        fail(f"CuPy is needed: install cuconv with the extra cuda13 or cuda12 ({error})")
    if what := missing():
        fail(f"needs an NVIDIA GPU and cuconv's CUDA kernels, but {what}")
    try:
        import torch
    except ImportError:
        torch = None
    if torch is None or not torch.cuda.is_available():
        print("no PyTorch with CUDA here: timed without cuDNN beside it", file=sys.stderr)
        torch = None
    l2_bytes = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"]
    return Lab(cupy, torch, cupy.RawKernel(WAIT, "wait"), l2_bytes, {}, 0.0)


def record_rows(usage: str, rows: Callable[[Any, Any], Iterable[Callable[[], Any]]]) -> None:
    """Measures beside PyTorch's cuDNN, with float32 as it is.

    Each row goes to the end of the file that the command line names, as soon as it is there. `rows`
    takes CuPy and PyTorch, and gives what to measure.
    """
    if len(sys.argv) != 2:
        raise SystemExit(usage)
    try:
        import cupy
        import torch

        import cuconv
    except ImportError as error:
        fail(f"needs cuconv, CuPy and PyTorch: {error}")
    if not cuconv.is_cuda_available():
        fail("needs an NVIDIA GPU and cuconv's CUDA module; see python -m cuconv info")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.set_grad_enabled(False)
    stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
    with Path(sys.argv[1]).open("a") as results, torch.cuda.stream(stream):
        for measure in rows(cupy, torch):
            row = measure()
            print(row, file=sys.stderr)
            results.write(json.dumps(row) + "\n")
            results.flush()


def output_of(*command: str) -> str:
    try:
        run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def environment(lab: Lab) -> dict[str, Any]:
    import cuconv

    cupy, torch, device = lab.cupy, lab.torch, lab.cupy.cuda.Device().id
    smi = ("nvidia-smi", f"--id={cupy.cuda.Device().pci_bus_id}", "--format=csv,noheader")
    changed = "+changes" if output_of("git", "status", "--porcelain", "-uno") else ""
    commit = output_of("git", "rev-parse", "HEAD")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": os.environ.get("CUCONV_COMMIT") or (commit + changed if commit else "unknown"),
        "device": cupy.cuda.runtime.getDeviceProperties(device)["name"].decode(),
        "driver": output_of(*smi, "--query-gpu=driver_version") or "unknown",
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "cuconv": cuconv.__version__,
        "cupy": cupy.__version__,
        "torch": torch.__version__ if torch else None,
        "torch_cuda": torch.version.cuda if torch else None,
        "cudnn": torch.backends.cudnn.version() if torch else None,
        "l2_bytes": lab.l2_bytes,
        "copy_gb_s": lab.bandwidth / 1e6,
        "product_tflop_s": {kind: 2 * rate / 1e9 for kind, rate in lab.rates.items()},
    }
