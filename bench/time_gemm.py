"""Times im2col, implicit GEMM and direct convolution on a GPU, beside cuDNN in the same run.

Layers come from bench/data/layers.json. For each, data uniform in [-1, 1] is laid out in as many
sets of buffers as exceed twice the L2 cache. A result goes into memory full of NaN first and is
held against a float64 convolution of some of its images (or filters); only a right one is timed,
in turns with cuDNN (through PyTorch, where that is installed). Times are medians, ratios medians
of the ratios of pairs. The floor of a row is the larger of its operations over the rate of a large
matrix product and its bytes over the bandwidth of a large copy, both measured at the beginning.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _timing import (
    DIRECTIONS,
    GROUPS,
    KINDS,
    LAYOUTS,
    Job,
    Lab,
    environment,
    fail,
    layers_of,
    open_lab,
)

FAMILIES = ("implicit_gemm", "im2col", "direct")
ORACLES = dict(zip(DIRECTIONS, ("direct_naive", "direct_gather", "direct_reduce"), strict=True))

PAIRS = 15
PAIRS_MS = 400.0  # slow kernels get fewer pairs


# ---- what is timed ----


def jobs_of(arguments: argparse.Namespace) -> list[Job]:
    """The heaviest layers in the first dtype, direction and layout, and outwards from there."""
    ranked = []
    for group in arguments.groups:
        for place, layer in enumerate(layers_of(group, arguments.batch)):
            for i, kind in enumerate(arguments.dtypes):
                for j, direction in enumerate(arguments.directions):
                    for k, layout in enumerate(arguments.layouts):
                        job = Job(layer, kind, direction, layout)
                        ranked.append((place + i + j + k, job))
    return [job for _, job in sorted(ranked, key=lambda item: item[0])]


# ---- one job ----


def convolve(job: Job, algo: str, a: Any, b: Any, out: Any = None) -> Any:
    import cuconv

    layer = job.layer
    options: dict[str, Any] = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "layout": job.layout,
        "precision": "ieee" if a.dtype == np.float64 else KINDS[job.kind][1],
        "algo": algo,
        "out": out,
    }
    if job.direction == "forward":
        return cuconv.conv2d(a, b, **options)
    if job.direction == "input_grad":
        return cuconv.conv2d_input_grad(a, b, job.shapes()["x"], **options)
    return cuconv.conv2d_weight_grad(a, b, job.shapes()["w"], **options)


def variant_of(job: Job, algo: str) -> str:
    """The kernel that a family uses for a job."""
    from cuconv._backends import device_backend
    from cuconv._conv import Convolution, conv_options
    from cuconv._problem import conv_call

    layer, shapes = job.layer, job.shapes()
    names = ("stride", "padding", "dilation")
    where = {name: getattr(layer, name) for name in names} | {"layout": job.layout}
    call = conv_call(2, job.dtype, shapes["x"], shapes["w"], **where)
    conjugate = job.direction != "forward"
    how = conv_options(job.dtype, precision=KINDS[job.kind][1], algo=algo, conjugate=conjugate)
    executor: Any = Convolution(job.direction, call, how).executor(device_backend(0))
    return executor.variant


def slices(lab: Lab, array: Any, axis: int, picks: list[int]) -> Any:
    """In float64."""
    front = array.swapaxes(0, axis)
    return lab.cupy.stack([front[i].astype(np.float64) for i in picks], axis=0).swapaxes(0, axis)


def oracle(lab: Lab, job: Job, a: Any, b: Any, picks: list[int]) -> Any:
    """Those images of the result, or filters for the weight gradient, in float64."""
    import cuconv

    if job.direction == "weight_grad":
        part = replace(job, layer=replace(job.layer, k=len(picks)))
        a = slices(lab, a, job.layout.index("C"), picks)
    else:
        part = replace(job, layer=replace(job.layer, n=len(picks)))
        a = slices(lab, a, 0, picks)
    with cuconv.use_backend("cuda", variant=ORACLES[job.direction]):
        return convolve(part, "direct", a, b.astype(np.float64))


def errors(lab: Lab, got: Any, want: Any) -> tuple[float, float]:
    """Largest and root mean square error, both relative to the root mean square of the result."""
    scale = float(lab.cupy.sqrt((want**2).mean()))
    off = abs(got - want)
    return float(off.max()) / scale, float(lab.cupy.sqrt((off**2).mean())) / scale


def allowed_error(job: Job) -> float:
    """Eight times what the roundings of operands, sums and result come to on random data.

    The bound of docs/bounds.md grows with the length of the sum and would let wrong results pass
    where that is in the millions. Tensor cores cut sums off where other units round, so their
    errors add up; split-K keeps the sums short.
    """
    stored = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "tf32": 2.0**-10}.get(job.kind, 2.0**-21)
    terms = job.terms()
    steps = 4 * math.sqrt(terms) if job.kind == "float32" else min(terms, 1 << 16) / 4 + 4
    return 8 * (stored + steps * 2.0**-23)


def cudnn_call(lab: Lab, job: Job, a: list[Any], b: list[Any]) -> Callable[[int], Any]:
    """PyTorch's convolution of the i-th operands, in its own order of axes."""
    torch, layer = lab.torch, job.layer
    shape = (layer.stride, layer.padding, layer.dilation)
    torch.backends.cudnn.allow_tf32 = job.kind == "tf32"

    def tensor(array: Any) -> Any:
        bits = torch.from_dlpack(array.view(f"int{8 * array.itemsize}"))
        mine = bits.view(getattr(torch, KINDS[job.kind][0]))
        return mine.permute(0, 3, 1, 2) if job.layout == "NHWC" else mine

    first, second = [tensor(x) for x in a], [tensor(x) for x in b]
    if job.direction == "forward":
        return lambda i: torch.nn.functional.conv2d(first[i], second[i], None, *shape)
    like = tensor(lab.cupy.empty(job.shapes()[job.names()[2]], job.dtype))  # for its shape
    backward = torch.ops.aten.convolution_backward
    if job.direction == "input_grad":
        options = (None, *shape, False, [0, 0], 1, [True, False, False])
        return lambda i: backward(first[i], like, second[i], *options)[0]
    options = (None, *shape, False, [0, 0], 1, [False, True, False])
    return lambda i: backward(first[i], second[i], like, *options)[1]


class Bench:
    """One job: its data, the true result, cuDNN ready to run."""

    def __init__(self, lab: Lab, job: Job) -> None:
        self.lab, self.job = lab, job
        shapes = [job.shapes()[name] for name in job.names()]
        a_set = job.dtype.itemsize * sum(map(math.prod, shapes))
        self.count = max(2, -(-2 * lab.l2_bytes // a_set))
        self.a, self.b, self.out = (lab.uniform(s, self.count, job.dtype) for s in shapes)
        images = shapes[2][0]
        self.picks = sorted({0, images // 2, images - 1})
        self.want = oracle(lab, job, self.a[0], self.b[0], self.picks)
        self.turn = 0
        self.theirs: Callable[[int], Any] | None = None
        self.facts: dict[str, Any] = {}
        if lab.torch:
            self.prepare_cudnn()

    def prepare_cudnn(self) -> None:
        call = cudnn_call(self.lab, self.job, self.a, self.b)
        kept: deque[Any] = deque(maxlen=self.count)  # so that its results rotate, too
        began = time.perf_counter()
        try:
            kept.append(call(0))
        except RuntimeError as error:
            if isinstance(error, self.lab.torch.cuda.OutOfMemoryError):
                raise
            self.facts["cudnn_error"] = str(error).partition("\n")[0]
            return
        self.theirs = lambda i: kept.append(call(i))
        self.lab.cupy.cuda.get_current_stream().synchronize()
        self.facts["cudnn_first_call_ms"] = 1e3 * (time.perf_counter() - began)
        got = kept[0].permute(0, 2, 3, 1) if self.job.layout == "NHWC" else kept[0]
        got = self.lab.cupy.from_dlpack(got[self.picks].double().contiguous())
        self.facts["cudnn_rms_error"] = errors(self.lab, got, self.want)[1]

    def time(self, call: Callable[[int], Any]) -> float:
        self.turn = (self.turn + 1) % self.count
        return self.lab.milliseconds(lambda: call(self.turn))

    def run(self, name: str) -> dict[str, Any]:
        """By a family, or by a kernel variant."""
        import cuconv

        if name in FAMILIES:
            return self.measure(name)
        with cuconv.use_backend("cuda", variant=name):
            return self.measure("auto")

    def measure(self, algo: str) -> dict[str, Any]:
        lab, job, out = self.lab, self.job, self.out
        row: dict[str, Any] = {"variant": variant_of(job, algo)}
        for array in out:
            array.view(np.uint8)[...] = 255  # NaN in every type
        lab.cupy.cuda.get_current_stream().synchronize()

        def ours(i: int) -> None:
            convolve(job, algo, self.a[i], self.b[i], out[i])

        began = time.perf_counter()
        ours(0)
        lab.cupy.cuda.get_current_stream().synchronize()
        row["first_call_ms"] = 1e3 * (time.perf_counter() - began)
        largest, row["rms_error"] = errors(lab, slices(lab, out[0], 0, self.picks), self.want)
        whole = bool(lab.cupy.isfinite(out[0].astype(np.float32)).all())
        if not whole or not largest <= allowed_error(job):
            fault = f"error {largest:.2g}, allowed {allowed_error(job):.2g}"
            return row | {"wrong": fault if whole else "not all of the result is finite"}
        theirs = self.theirs or (lambda _: None)
        self.time(ours), self.time(theirs)
        estimate = self.time(ours) + self.time(theirs)
        pairs = []
        for i in range(max(1, min(PAIRS, int(PAIRS_MS / estimate)))):
            order = (ours, theirs) if i % 2 == 0 else (theirs, ours)
            times = [self.time(call) for call in order]
            pairs.append(tuple(times if i % 2 == 0 else times[::-1]))
        return row | self.result(pairs)

    def result(self, pairs: list[tuple[float, ...]]) -> dict[str, Any]:
        mine = [a for a, _ in pairs]
        ms, work = statistics.median(mine), self.job.layer.work
        floor = self.lab.floor_ms(self.job.kind, work, self.job.least_bytes())
        row: dict[str, Any] = {"pairs": len(pairs), "ms": ms, "ms_range": [min(mine), max(mine)]}
        row |= {"tflop_s": 2 * work / ms / 1e9, "of_floor": floor / ms, "buffer_sets": self.count}
        if self.theirs:
            his, ratios = [b for _, b in pairs], [b / a for a, b in pairs]
            row |= {"cudnn_ms": statistics.median(his), "cudnn_ms_range": [min(his), max(his)]}
            row["speed_of_cudnn"] = statistics.median(ratios)
            row["speed_of_cudnn_range"] = [min(ratios), max(ratios)]
        return row | self.facts


# ---- the run ----


class Results:
    """The file, written whole after every row."""

    def __init__(self, path: Path | None, resume: bool) -> None:
        self.path = path
        self.content: dict[str, Any] = {"runs": [], "rows": {}}
        if path and path.exists():
            if not resume:
                fail(f"{path} exists: go on with it by --resume, or name another file")
            try:
                self.content = json.loads(path.read_text())
                self.content["runs"][-1]["device"], self.content["rows"].items()
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                fail(f"{path} is not a file of results of this program")
        elif path and not path.parent.is_dir():
            fail(f"there is no folder {path.parent}")

    def begin(self, run: dict[str, Any]) -> None:
        for fact in ("device", "commit", "cudnn_heuristics"):
            for other in self.content["runs"]:
                if other[fact] != run[fact]:
                    fail(f"{self.path} has {fact} {other[fact]}, this is {run[fact]}: not mixed")
        self.content["runs"].append(run)

    def add(self, key: str, row: dict[str, Any]) -> None:
        self.content["rows"][key] = row | {"run": len(self.content["runs"]) - 1}
        if self.path:
            unfinished = self.path.with_name(self.path.name + ".part")
            unfinished.write_text(json.dumps(self.content, indent=1) + "\n")
            unfinished.replace(self.path)

    def summary(self) -> None:
        """Geometric means by group."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.content["rows"].values():
            if "ms" in row:
                found[row["of"]].append(row)
        print("\ngeometric means:")
        for name, rows in sorted(found.items()):
            line = f"{name:58} {len(rows):4} rows"
            for fact, what in (("of_floor", "of the floor"), ("speed_of_cudnn", "x cuDNN")):
                if values := [row[fact] for row in rows if fact in row]:
                    line += f"  {statistics.geometric_mean(values):6.3f} {what}"
            print(line)


def line_of(key: str, row: dict[str, Any]) -> str:
    if "ms" not in row:
        return f"{key}  " + (f"WRONG: {row['wrong']}" if "wrong" in row else row["skipped"])
    text = f"{key}  {row['ms']:.4f} ms  {row['tflop_s']:.1f} TFLOP/s"
    text += f"  {row['of_floor']:.3f} of the floor"
    if "speed_of_cudnn" in row:
        text += f"  {row['speed_of_cudnn']:.3f} x cuDNN"
    if row["of_floor"] > 1:
        text += "\n*** FASTER THAN THE FLOOR, NOT TO BE BELIEVED: " + key
    return text


def measure_job(lab: Lab, job: Job, names: list[str], done: Callable[[str, Any], None]) -> None:
    import cuconv

    memory = [lab.cupy.cuda.memory.OutOfMemoryError]
    memory += [lab.torch.cuda.OutOfMemoryError] if lab.torch else []
    bench: Bench | None = None
    for name in names:
        try:
            bench = bench or Bench(lab, job)
            row = bench.run(name)
        except cuconv.UnsupportedError as error:
            row = {"skipped": f"not supported: {error}"}
        except tuple(memory):
            row = {"skipped": "not enough memory on the GPU"}
        except cuconv.CudaError as error:  # later calls would fail as well
            print(f"time_gemm.py: {job} {name}: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        done(name, row)
    bench = None
    lab.cupy.get_default_memory_pool().free_all_blocks()
    if lab.torch:
        lab.torch.cuda.empty_cache()


def keys_of(job: Job, families: list[str]) -> dict[str, str]:
    """The name of each row in the results. In tf32 direct does what it does in float32."""
    alike = ("direct",) if job.kind in ("tf32", "tf32x3") else ()
    return {f"{job} {name}": name for name in families if name not in alike}


def run(arguments: argparse.Namespace, jobs: list[Job]) -> int:
    began = time.monotonic()
    results = Results(arguments.output, arguments.resume)
    lab = open_lab()
    check_families(arguments.families)
    faults = 0
    stream = lab.cupy.cuda.Stream(non_blocking=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stream)
        if lab.torch:
            lab.torch.backends.cudnn.benchmark = not arguments.cudnn_heuristics
            lab.torch.backends.cudnn.benchmark_limit = 0  # every engine is tried
            stack.enter_context(lab.torch.cuda.stream(lab.torch.cuda.ExternalStream(stream.ptr)))
        lab.measure_ceilings()
        facts = environment(lab) | {"cudnn_heuristics": arguments.cudnn_heuristics}
        print(json.dumps(facts, indent=1))
        results.begin(facts)
        for job in jobs:
            keys = keys_of(job, arguments.families)
            missing = {k: name for k, name in keys.items() if k not in results.content["rows"]}
            if arguments.seconds and time.monotonic() - began > arguments.seconds:
                print(f"stopped after {arguments.seconds:g} s; --resume goes on")
                break

            def done(name: str, row: dict[str, Any], job: Job = job) -> None:
                nonlocal faults
                key = f"{job} {name}"
                of = f"{job.layer.group} {job.kind} {job.direction} {job.layout} {name}"
                results.add(key, row | {"of": of})
                print(line_of(key, row), flush=True)
                faults += "wrong" in row or row.get("of_floor", 0) > 1

            if missing:
                measure_job(lab, job, list(missing.values()), done)
    results.summary()
    if faults:
        print(f"*** {faults} rows are wrong or faster than the floor", file=sys.stderr)
    return 1 if faults else 0


def check_families(names: list[str]) -> None:
    from cuconv._backends import cuda

    known = [*FAMILIES, *sorted({name for name, _, _ in cuda.module().conv_variants()})]
    if unknown := [name for name in names if name not in known]:
        fail(f"there is no family or variant {unknown[0]!r}; there are {', '.join(known)}")


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def some(name: str, choices: Any, what: str) -> None:
        names = list(choices)
        parser.add_argument(
            name, nargs="+", choices=names, default=names, metavar=name[2:-1].upper(),
            help=f"{what}, of {', '.join(names)} (default: all)",
        )  # fmt: skip

    some("--groups", GROUPS, "networks and benchmarks")
    some("--dtypes", KINDS, "element types; tf32 and tf32x3 are float32 in that precision")
    some("--directions", DIRECTIONS, "directions")
    some("--layouts", LAYOUTS, "layouts")
    parser.add_argument(
        "--families", nargs="+", default=list(FAMILIES), metavar="NAME",
        help=f"families, or kernel variants by name (default: {', '.join(FAMILIES)})",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=positive, help="images, instead of each layer's own number (ResNet-50: 32)"
    )
    parser.add_argument(
        "--seconds", type=float, help="begin no layer after so long; the most important come first"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="JSON, written anew after every row"
    )
    parser.add_argument(
        "--resume", action="store_true", help="keep what is in FILE and measure the rest"
    )
    parser.add_argument(
        "--cudnn-heuristics", action="store_true",
        help="let cuDNN choose without trying (cudnn.benchmark off)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="print the rows in their order, only")
    arguments = parser.parse_args()
    if arguments.resume and not arguments.output:
        parser.error("--resume needs --output")
    if arguments.seconds is not None and not arguments.seconds > 0:
        parser.error("--seconds must be positive")
    return arguments


def main() -> int:
    arguments = parse()
    jobs = jobs_of(arguments)
    if arguments.list:
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # for `| head`
        for job in jobs:
            for key in keys_of(job, arguments.families):
                print(key)
        return 0
    try:
        return run(arguments, jobs)
    except OSError as error:
        print(f"time_gemm.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: rows that were finished are kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
