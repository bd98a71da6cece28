"""The GPU side of the benchmark without a GPU: events, stream, buffers, peers on a pretended CuPy.

CuPy is played by NumPy, so cuconv computes with its NumPy backend; events take their times from a
clock that every call moves on. What this proves is the Python side: what is recorded around what.
"""

import os
import subprocess
import types
from pathlib import Path

import numpy as np
import pytest

import cuconv
from bench_helpers import TINY, has, settings
from cuconv._backends import cuda
from cuconv._bench import cases, gpu, record, roofline, run, sides
from cuconv._bench.exact import make_check
from cuconv._bench.gpu import WAIT_CYCLES, WAIT_CYCLES_A_CALL, CudaDevice
from cuconv._bench.peers import cudnn_frontend
from cuconv._bench.peers.torch import TorchPeer
from cuconv._bench.run import Run, faults
from cuconv._bench.sides import Skipped, make_buffers

LOG = []


class Clock:
    now = 0.0


class Event:
    def record(self):
        LOG.append("record")
        self.at = Clock.now

    def synchronize(self):
        LOG.append("synchronize")


class Stream:
    def __init__(self, non_blocking):
        assert non_blocking
        self.ptr = 4711

    def __enter__(self):
        LOG.append("enter")

    def __exit__(self, *_):
        LOG.append("exit")

    def synchronize(self): ...


class RawKernel:
    def __init__(self, source, name):
        assert f"void {name}(" in source

    def __call__(self, grid, block, arguments):
        LOG.append(f"wait {int(arguments[0])}")


class Cupy:
    """NumPy with what the benchmark asks of CuPy besides."""

    __version__ = "14.0"
    RawKernel = RawKernel

    def __init__(self):
        properties = {"name": b"Pretended GPU", "l2CacheSize": 1 << 12, "major": 9, "minor": 0}
        properties["totalGlobalMem"] = 1 << 30
        self.cuda = types.SimpleNamespace(
            Device=lambda: types.SimpleNamespace(id=0, pci_bus_id="0000:01:00.0"),
            Event=Event,
            Stream=Stream,
            get_elapsed_time=lambda start, stop: stop.at - start.at,
            runtime=types.SimpleNamespace(
                getDeviceProperties=lambda number: properties,
                driverGetVersion=lambda: 13010,
                runtimeGetVersion=lambda: 13000,
                memGetInfo=lambda: (1 << 30, 1 << 30),
            ),
        )

    def get_default_memory_pool(self):
        free = LOG.append
        return types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: free("free"))

    def asnumpy(self, array):
        return np.asarray(array)

    def __getattr__(self, name):
        return getattr(np, name)


@pytest.fixture
def device(monkeypatch):
    LOG.clear()
    Clock.now = 0.0

    def no_smi(*arguments, **options):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", no_smi)
    monkeypatch.setattr(cases, "MIXED", TINY)
    plan = cuconv.Conv2dPlan
    monkeypatch.setattr(
        cuconv, "Conv2dPlan", lambda *a, device, **options: plan(*a, device="cpu", **options)
    )
    return CudaDevice(Cupy())


def moving(calls, step=2.0):
    def call(i):
        LOG.append(f"call {i}")
        calls.append(i)
        Clock.now += step

    return call


def test_calls_are_between_events_behind_a_waiting_kernel(device):
    assert device.milliseconds(moving([]), [3, 4, 5]) == pytest.approx(2.0)
    calls = [f"call {i}" for i in (3, 4, 5)]
    assert list(LOG) == [
        f"wait {WAIT_CYCLES + 3 * WAIT_CYCLES_A_CALL}",
        "record",
        *calls,
        "record",
        "synchronize",
    ]


def test_short_kernels_share_a_turn_and_buffers_rotate(device):
    from cuconv._bench.timing import timed

    calls = []
    side = sides.Side("short", moving(calls, 0.004), lambda y: y)
    found = timed([side], device, sets=4, seconds=0.001, fewest=5)[0]["short"]
    assert found.turn.calls == 10  # no more: the host would not have queued them in time
    assert found.ms == pytest.approx([0.004] * found.turn.rounds)
    assert calls == [i % 4 for i in range(len(calls))]


def test_operands_filters_and_results_exceed_twice_the_cache(device):
    (case,) = cases.cases_of(cases.Choice(("mixed",), limit=1))
    buffers = make_buffers(case, device, cold=True)
    each = buffers.operand_bytes + buffers.result_bytes
    assert buffers.cold
    assert buffers.count * each >= 2 * device.cache_bytes > (buffers.count - 1) * each
    for arrays in (buffers.first, buffers.second, buffers.outs):
        assert len({a.__array_interface__["data"][0] for a in arrays}) == buffers.count
    warm = make_buffers(case, device, cold=False)
    assert (warm.count, warm.cold) == (1, False)


def test_little_memory_means_fewer_buffers_and_says_so(device, monkeypatch):
    (case,) = cases.cases_of(cases.Choice(("mixed",), limit=1))
    monkeypatch.setattr(device, "room", lambda: 1)
    buffers = make_buffers(case, device, cold=True)
    assert (buffers.count, buffers.cold) == (1, False)


def test_what_is_not_written_is_seen(device):
    (case,) = cases.cases_of(cases.Choice(("mixed",), limit=1))
    buffers = make_buffers(case, device, cold=True)
    own = sides.own_sides(buffers, ("auto",))[0]
    assert own.outs is buffers.outs
    sides.poison(own, device)
    assert all(np.isnan(out).all() for out in buffers.outs)


@pytest.mark.usefixtures("on_gpu")
def test_a_second_side_that_writes_nothing_is_wrong(tmp_path, monkeypatch):
    """It returns the array that the side before it has filled."""
    made = sides.conv_side

    def lazy(name, buffers, algo):
        side = made(name, buffers, algo)
        if algo != "auto":
            side.call = lambda i: buffers.outs[i]
        return side

    monkeypatch.setattr(sides, "conv_side", lazy)
    how = settings(device="cuda", limit=1, algos=("auto", "im2col"))
    Run.begin(how, tmp_path / "r.json", "cuconv bench").measure()
    (row,) = record.read(tmp_path / "r.json")["rows"]
    assert "off by nan" in row["wrong"]["cuconv plan im2col"]
    assert set(row["sides"]) == {"cuconv plan"}


def test_the_device_says_what_it_is(device):
    facts = device.facts()
    assert facts["model"] == "Pretended GPU"
    assert facts["capability"] == "9.0"
    assert facts["driver"] == "unknown"  # without nvidia-smi
    assert device.state() == {}


def test_clocks_come_from_nvidia_smi(device, monkeypatch):
    line = "1980 MHz, 2619 MHz, 40, 300.00 W, 0x0\n"
    told = []

    def smi(command, **options):
        told.append(command)
        return types.SimpleNamespace(stdout=line)

    monkeypatch.setattr(subprocess, "run", smi)
    assert device.state()["clocks.sm"] == "1980 MHz"
    assert "--id=0000:01:00.0" in told[0]


@pytest.fixture
def on_gpu(device, monkeypatch):
    """A whole run on the pretended GPU, where every call takes as long as the machine needs."""
    import time

    def elapsed(call, numbers):
        began = time.perf_counter()
        for i in numbers:
            call(i)
        return (time.perf_counter() - began) * 1e3 / len(numbers)

    monkeypatch.setattr(device, "milliseconds", elapsed)
    monkeypatch.setattr(run, "open_device", lambda chosen: device)
    limits = {"bytes_per_s": 1e15, "multiply_adds_per_s": {"float32": 1e18}}
    monkeypatch.setattr(roofline, "measure", lambda *arguments: limits)


@pytest.mark.usefixtures("on_gpu")
def test_a_whole_run(tmp_path):
    directions = ("forward", "input_grad", "weight_grad")
    how = settings(device="cuda", directions=directions, layouts=("NHWC",))
    running = Run.begin(how, tmp_path / "r.json", "cuconv bench")
    running.measure()
    found = record.read(tmp_path / "r.json")
    assert not faults(found)
    assert found["complete"]
    assert found["versions"]["cupy"] == "14.0"
    assert len(found["rows"]) == 12
    assert all(row["sides"][row["ours"]]["rotates_result"] for row in found["rows"])
    assert all("cuconv one-shot" not in row["sides"] for row in found["rows"])
    assert LOG[0] == "enter"
    assert LOG.count("free") == 12  # after every row
    assert LOG[-1] == "exit"


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("group", ["pooling", "activations", "inception"])
def test_the_other_groups(tmp_path, monkeypatch, group):
    from cuconv._bench import layers

    monkeypatch.setattr(cases, "POOLED", [(2, 9, 8)])
    monkeypatch.setattr(cases, "ACTIVATED", [(2, 9, 8)])
    small = {"3a": (6, 8, 4, 4, 6, 2, 4, 3)}
    monkeypatch.setattr(layers, "inception_modules", lambda: small)
    how = settings(device="cuda", groups=(group,), batches=(2,), layouts=("NCHW",))
    Run.begin(how, tmp_path / "r.json", "cuconv bench").measure()
    found = record.read(tmp_path / "r.json")
    assert not faults(found)
    assert all("sides" in row for row in found["rows"])


@pytest.mark.usefixtures("on_gpu")
def test_a_cuda_error_ends_the_run_and_keeps_the_rows(tmp_path, monkeypatch):
    measured = run.measured

    def failing(case, lab):
        if case.name.startswith("grouped"):
            raise cuconv.CudaError("cudaErrorIllegalAddress")
        return measured(case, lab)

    monkeypatch.setattr(run, "measured", failing)
    with pytest.raises(cuconv.CudaError):
        Run.begin(settings(device="cuda"), tmp_path / "r.json", "cuconv bench").measure()
    assert 0 < len(record.read(tmp_path / "r.json")["rows"]) < 4


def test_without_a_gpu_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(cuda, "missing", lambda: "there is no NVIDIA driver on this machine")
    with pytest.raises(cuconv.CudaUnavailableError, match="no NVIDIA driver"):
        run.open_device(settings(device="cuda"))


@pytest.mark.skipif(has("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", ["forward", "input_grad", "weight_grad"])
def test_pytorch_takes_the_arrays_where_they_are(device, direction, layout):
    """No copies: operands in the case's own layout, results kept as long as they rotate."""
    import torch

    choice = cases.Choice(("mixed",), directions=(direction,), layouts=(layout,), limit=2)
    with torch.inference_mode():
        for case in cases.cases_of(choice):
            buffers = make_buffers(case, device, cold=True)
            (side,) = TorchPeer(torch, device).sides(buffers)
            assert (side.name, side.rotates_result) == ("PyTorch", True)
            first = side.call(0)
            make_check(buffers).errors(side.canonical(first), peer=True)
            buffers.first[1][...] = 0  # is seen, because it is the same memory
            assert not side.canonical(side.call(1)).any()
            make_check(buffers).errors(side.canonical(first), peer=True)


# ---- limits ----


def test_a_kind_without_units_of_its_own_has_float32_s_limit(device, monkeypatch):
    rates = {"float16": 1.0, "bfloat16": 1.0, "float32": 4.0, "float64": 2.0, "tf32": 9.0}
    monkeypatch.setattr(device, "one_rate", lambda kind, times, n: rates[kind])
    got = {kind: device.product_rate(kind, 1) for kind in cases.KINDS}
    want = {"float16": 4.0, "bfloat16": 4.0, "float32": 4.0, "float64": 2.0}
    assert got == want | {"tf32": 9.0, "tf32x3": 4.0}


def test_bandwidth_counts_both_ways_of_a_copy(device, monkeypatch):
    monkeypatch.setattr(device, "milliseconds", lambda call, numbers: 1.0)
    assert device.bandwidth(2, elements=256) == pytest.approx(2 * 1024 * 1e3)


# ---- cuDNN's own package ----


class Graph:
    """Notes what is described; every tensor is its number."""

    def __init__(self):
        self.tensors, self.calls, self.result = [], [], None

    def tensor(self, **described):
        self.tensors.append(described)
        return len(self.tensors)

    def __getattr__(self, name):
        def noted(*arguments, **options):
            self.calls.append((name, arguments, options))
            return Output() if name.startswith("conv_") else 0

        return noted


class Output:
    def __getattr__(self, name):
        return lambda value: self


def pretended_cudnn(graph):
    words = types.SimpleNamespace
    return words(
        __version__="1.32",
        backend_version=lambda: 91000,
        data_type=words(HALF="half", BFLOAT16="bf16", FLOAT="float", DOUBLE="double"),
        heur_mode=words(A="A", FALLBACK="fallback"),
        numerical_note=words(TENSOR_CORE="tensor core"),
        pygraph=lambda **options: graph,
    )


class Addressed(np.ndarray):
    """With the address where CuPy has it."""

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.__array_interface__["data"][0])


@pytest.mark.parametrize(
    ("direction", "operation", "operands"),
    [
        ("forward", "conv_fprop", {"image": 1, "weight": 2}),
        ("input_grad", "conv_dgrad", {"loss": 1, "filter": 2}),
        ("weight_grad", "conv_wgrad", {"loss": 1, "image": 2}),
    ],
)
def test_cudnn_s_graph_describes_the_case(device, monkeypatch, direction, operation, operands):
    made = device.uniform
    monkeypatch.setattr(device, "uniform", lambda *a: [array.view(Addressed) for array in made(*a)])
    monkeypatch.setattr(
        device.cupy, "empty", lambda *a: np.empty(*a).view(Addressed), raising=False
    )
    choice = cases.Choice(("mixed",), directions=(direction,), layouts=("NHWC",), limit=2)
    (case,) = [c for c in cases.cases_of(choice) if c.name.startswith("grouped")]
    buffers = make_buffers(case, device, cold=True)
    graph = Graph()
    peer = cudnn_frontend.CudnnPeer(pretended_cudnn(graph), "handle", device)
    (side,) = peer.sides(buffers)
    names = [name for name, _, _ in graph.calls]
    assert names[0] == operation
    options = graph.calls[0][2]
    assert operands.items() <= options.items()
    assert (options["padding"], options["stride"], options["dilation"]) == ([2, 1], [2, 1], [1, 2])
    assert "deselect_numeric_notes" in names  # float32 must not be TF32
    assert names.index("deselect_numeric_notes") < names.index("check_support")
    shape = case.shapes[0]
    _, c, h, w = shape
    assert graph.tensors[0]["dim"] == list(shape)
    assert graph.tensors[0]["stride"] == [h * w * c, 1, w * c, c]
    side.call(1)
    name, arguments, _ = graph.calls[-1]
    assert name == "execute"
    assert next(iter(arguments[0].values())) == buffers.first[1].data.ptr


def test_cudnn_s_refusal_is_a_reason(device):
    class Refusing(Graph):
        def check_support(self):
            raise RuntimeError("no engine for this\nmore")

    (case,) = cases.cases_of(cases.Choice(("mixed",), limit=1))
    buffers = make_buffers(case, device, cold=False)
    peer = cudnn_frontend.CudnnPeer(pretended_cudnn(Refusing()), "handle", device)
    assert peer.sides(buffers) == [Skipped(cudnn_frontend.NAME, "no engine for this")]


# ---- the script that runs everything ----

SCRIPT = Path(__file__).resolve().parents[1] / "bench" / "gpu_session.sh"
STUB = """#!/usr/bin/env bash
case "$2" in
  run)
    shift 4
    [ "$1" = --resume ] && file=$2 || file=$4
    echo "$file $1" >>"$STUB_LOG"
    if [ "$1" = --resume ]; then complete=true; else complete=false; fi
    printf '{\n "complete": %s\n}\n' "$complete" >"$file"
    exit "$STUB_STATUS" ;;
  sweep)
    echo "sweep $3" >>"$STUB_LOG"
    echo measured >>"${@: -1}"
    exit "$STUB_SWEEP" ;;
esac
"""


@pytest.mark.skipif(not SCRIPT.exists(), reason="source distributions leave out the script")
@pytest.mark.parametrize("status", [1, 2])
def test_the_script_goes_on_with_records_that_have_a_wrong_row(tmp_path, status):
    """And neither with what an error has ended, nor does it measure a sweep again."""
    results = tmp_path / "r"
    lines = two_sessions(tmp_path, STUB_STATUS=status, STUB_SWEEP=1)
    assert [line for line in lines if line.startswith("sweep")] == ["sweep --device"]
    assert (results / "sweep.json").read_text() == "measured\n"
    assert lines.count(f"{results}/first.json --device") == 1
    assert lines.count(f"{results}/first.json --resume") == (status == 1)
    assert (results / "first.failed").read_text() == f"first: exit status {status}\n"


@pytest.mark.skipif(not SCRIPT.exists(), reason="source distributions leave out the script")
def test_the_script_goes_on_with_a_sweep_that_was_cut_short(tmp_path):
    lines = two_sessions(tmp_path, STUB_STATUS=0, STUB_SWEEP=130, SESSION_SECONDS=200)
    swept = [line for line in lines if line.startswith("sweep")]
    assert swept == ["sweep --device", "sweep --resume"]
    assert (tmp_path / "r" / "sweep.json").read_text() == "measured\n" * 2
    assert not (tmp_path / "r" / "sweep.failed").exists()


def two_sessions(folder, **environment):
    """What the script calls in the third stage, twice, with results in folder / "r"."""
    stub, log = folder / "python", folder / "log"
    stub.write_text(STUB)
    stub.chmod(0o755)
    how = {"PYTHON": str(stub), "STUB_LOG": str(log), "PATH": os.environ["PATH"]}
    how |= {"CUCONV_COMMIT": "0" * 40} | {k: str(v) for k, v in environment.items()}
    command = ["bash", str(SCRIPT), str(folder / "r"), "3"]
    for _ in range(2):
        subprocess.run(command, env=how, check=False, capture_output=True)
    return log.read_text().splitlines()


def test_every_fact_of_the_clocks_has_a_name():
    assert len(set(gpu.CLOCKS)) == len(gpu.CLOCKS) == 5
