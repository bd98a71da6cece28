"""Whole runs on tiny layers: what a record holds, how it goes on, and what it must not hide."""

import json
import sys

import numpy as np
import pytest

import cuconv
from bench_helpers import PAPER, has, settings, tiny, tiny_cases  # noqa: F401
from cuconv._bench import peers, record, roofline, run, timing
from cuconv._bench.devices import CpuDevice
from cuconv._bench.run import Run, faults
from cuconv._bench.sides import Side

pytestmark = pytest.mark.usefixtures("tiny")


class Twin:
    """A peer that is cuconv once more, as it is or spoilt."""

    def __init__(self, name="twin", spoil=lambda y: y):
        self.name, self.spoil = name, spoil
        self.versions = {name: "1"}

    def sides(self, buffers):
        case = buffers.case

        def call(i):
            return self.spoil(cuconv.conv2d(buffers.first[i], buffers.second[i], **case.options))

        return [Side(self.name, call, lambda y: y)]


@pytest.fixture
def beside(monkeypatch):
    """Chooses the peers that a run finds."""

    def choose(*twins):
        found = {twin.name: twin for twin in twins}
        monkeypatch.setattr(run, "find_peers", lambda *arguments: (found, {}))

    return choose


def measured(path, **changes):
    running = Run.begin(settings(**changes), path, "cuconv bench")
    running.measure()
    return record.read(path)


def test_a_record_holds_what_docs_say(tmp_path, beside):
    beside(Twin())
    found = measured(tmp_path / "r.json", directions=("forward",))
    assert found["schema"] == record.SCHEMA
    assert found["complete"]
    assert found["planned"] == len(found["rows"]) == 4
    assert {"model", "cores", "threads", "cache_bytes"} <= set(found["device"])
    assert {"python", "cuconv", "numpy", "blas", "twin"} <= set(found["versions"])
    assert found["roofline"]["bytes_per_s"] > 0
    assert str(tmp_path) not in json.dumps(found)
    for row in found["rows"]:
        assert set(row["sides"]) == {"cuconv plan", "cuconv one-shot", "twin"}
        side = row["sides"][row["ours"]]
        assert side["best_ms"] <= side["ms"]
        assert len(side["each_ms"]) == side["rounds"] >= 6
        assert row["beside"] == "twin"
        assert 0 < row["interval"][0] <= row["ratio"] <= row["interval"][1]
        assert 0 <= row["errors"][row["ours"]]["largest"] < 1e-4
        assert row["multiply_adds"] > 0
        assert row["variant"]
        assert row["peak_bytes"] > 0
        assert row["cold"]
        assert row["buffer_sets"] * row["operand_bytes"] >= 2 * found["device"]["cache_bytes"]
        assert row["flags"] == []


@pytest.mark.parametrize("direction", ["input_grad", "weight_grad"])
def test_gradients_without_peers(tmp_path, direction):
    found = measured(tmp_path / "r.json", directions=(direction,), layouts=("NHWC",))
    assert all(
        row["ratio"] is None and set(row["sides"]) == {"cuconv plan"} for row in found["rows"]
    )
    assert not faults(found)


def test_a_wrong_peer_is_told_and_not_timed(tmp_path, beside):
    def spoil(y):
        y[0, 0, 0, 0] += 1000
        return y

    beside(Twin(), Twin("wrong", spoil))
    found = measured(tmp_path / "r.json", limit=1)
    (row,) = found["rows"]
    assert "wrong" not in row["sides"]
    assert row["beside"] == "twin"
    assert "off" in row["wrong"]["wrong"]
    assert len(faults(found)) == 1


def test_a_wrong_kernel_is_told_and_not_timed(tmp_path, monkeypatch):
    call = cuconv.Conv2dPlan.__call__

    def spoilt(self, *arguments, **options):
        y = call(self, *arguments, **options)
        y[..., -1, -1] = np.nan
        return y

    monkeypatch.setattr(cuconv.Conv2dPlan, "__call__", spoilt)
    found = measured(tmp_path / "r.json", limit=1)
    (row,) = found["rows"]
    assert "sides" not in row
    assert "off by nan" in row["failed"] or "wrong" in row["failed"]
    assert len(faults(found)) == 1


@pytest.mark.parametrize("right", [1, 2, 5])
def test_a_plan_that_is_wrong_in_a_later_call_is_told(tmp_path, monkeypatch, right):
    """Kept filters serve from the second call on; what goes wrong later is seen after timing."""
    call, calls = cuconv.Conv2dPlan.__call__, []

    def spoilt(self, *arguments, **options):
        calls.append(0)
        return call(self, *arguments, **options) + np.float32(len(calls) > right)

    monkeypatch.setattr(cuconv.Conv2dPlan, "__call__", spoilt)
    (row,) = measured(tmp_path / "r.json", limit=1)["rows"]
    assert "sides" not in row
    assert "off by" in row["failed"]


def test_a_peer_that_is_wrong_after_it_was_timed_is_left_out(tmp_path, beside):
    calls = []

    def later(y):
        calls.append(0)
        return y + np.float32(len(calls) > 4)

    beside(Twin("later", later))
    (row,) = measured(tmp_path / "r.json", limit=1)["rows"]
    assert "after it was timed" in row["wrong"]["later"]
    assert "later" not in row["sides"]
    assert row["ratio"] is None


def test_a_peer_that_refuses_is_left_out_of_the_row(tmp_path, beside):
    def refuse(y):
        raise RuntimeError("no engine\nfor this")

    beside(Twin("picky", refuse))
    (row,) = measured(tmp_path / "r.json", limit=1)["rows"]
    assert row["skipped_sides"] == {"picky": "failed: no engine"}
    assert row["ratio"] is None


class LibraryError(Exception):
    """As OpenCV's: of none of Python's kinds."""


@pytest.mark.parametrize("good", [0, 1, 3, 6])
def test_whatever_a_peer_raises_costs_its_own_times_alone(tmp_path, beside, good):
    """While it is checked, timed (from the third call on), and checked once more."""
    calls = []

    def spoil(y):
        calls.append(0)
        if len(calls) > good:
            raise LibraryError("\nwrong argument\nin filter.cpp")
        return y

    beside(Twin("strange", spoil), Twin())
    found = measured(tmp_path / "r.json")
    assert found["complete"]
    assert not faults(found)
    for row in found["rows"]:
        assert row["skipped_sides"]["strange"].endswith("failed: wrong argument")
        assert set(row["sides"]) == {"cuconv plan", "cuconv one-shot", "twin"}


def test_a_peer_that_cannot_make_its_side_ready_is_left_out_of_the_row(tmp_path, beside):
    def broken(buffers):
        raise LibraryError

    twin = Twin("strange")
    twin.sides = broken
    beside(twin, Twin())
    (row,) = measured(tmp_path / "r.json", limit=1)["rows"]
    assert row["skipped_sides"] == {"strange": "failed: LibraryError"}
    assert row["beside"] == "twin"


def test_a_peer_that_cannot_be_opened_is_missing(tmp_path, monkeypatch):
    def broken(name, package):
        raise LibraryError("no driver\nat all")

    monkeypatch.setattr("cuconv._bench.peers.opencv.installed", broken)
    found = measured(tmp_path / "r.json", peers=("opencv",), limit=1)
    assert found["missing"] == {"opencv": "opencv failed: no driver"}
    assert found["complete"]


@pytest.mark.parametrize("good", [0, 1, 2])
def test_ctrl_c_in_a_peers_call_ends_the_run(tmp_path, beside, good):
    calls = []

    def spoil(y):
        calls.append(0)
        if len(calls) > good:
            raise KeyboardInterrupt
        return y

    beside(Twin("strange", spoil))
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "r.json")
    assert record.read(tmp_path / "r.json")["rows"] == []


def test_a_peer_that_finds_no_memory_while_timed_is_left_out_of_the_row(tmp_path, beside):
    calls = []

    def spoil(y):
        calls.append(0)
        if len(calls) > 2:
            raise RuntimeError("out of memory")
        return y

    beside(Twin(), Twin("greedy", spoil))
    (row,) = measured(tmp_path / "r.json", limit=1)["rows"]
    assert row["skipped_sides"] == {"greedy": "failed: out of memory"}
    assert set(row["sides"]) == {"cuconv plan", "cuconv one-shot", "twin"}


@pytest.mark.parametrize("right", [0, 1, 3])
def test_a_plan_that_raises_fails_its_row_alone(tmp_path, monkeypatch, right):
    call, calls = cuconv.Conv2dPlan.__call__, []

    def broken(self, *arguments, **options):
        calls.append(0)
        if len(calls) == right + 1:
            raise RuntimeError("broken")
        return call(self, *arguments, **options)

    monkeypatch.setattr(cuconv.Conv2dPlan, "__call__", broken)
    monkeypatch.setattr(run.memory, "of_plan", lambda *arguments: {})
    found = measured(tmp_path / "r.json")
    assert "broken" in found["rows"][0]["failed"]
    assert all("sides" in row for row in found["rows"][1:])
    assert found["complete"]


def test_a_family_that_cannot_is_left_out(tmp_path):
    found = measured(tmp_path / "r.json", algos=("auto", "winograd"), batches=(1,))
    skipped = [row for row in found["rows"] if "cuconv plan winograd" in row["skipped_sides"]]
    assert skipped
    alone = measured(tmp_path / "s.json", algos=("implicit_gemm",), limit=1)
    assert "not supported" in alone["rows"][0]["skipped"]


def test_ctrl_c_keeps_rows_and_a_run_goes_on(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    running = Run.begin(settings(), path, "cuconv bench")

    def interrupt(case, number, total):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.measure(interrupt)
    found = record.read(path)
    assert (len(found["rows"]), found["complete"], found["planned"]) == (2, False, 4)
    first = found["rows"][0]["sides"]
    told = []
    again = Run.resume(path)
    assert again.settings == settings()
    again.measure(lambda case, number, total: told.append((number, total)))
    assert told == [(0, 2), (1, 2)]
    found = record.read(path)
    assert found["complete"]
    assert len({row["key"] for row in found["rows"]}) == 4
    assert found["rows"][0]["sides"] == first
    assert len(found["resumed"]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_an_interrupt_after_the_last_row_leaves_a_complete_record(tmp_path, monkeypatch):
    path, calls = tmp_path / "r.json", []

    def interrupt(device, kinds, times):
        calls.append(times)
        if len(calls) == 2:  # after the row
            raise KeyboardInterrupt
        return PAPER

    monkeypatch.setattr(roofline, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Run.begin(settings(limit=1), path, "cuconv bench").measure()
    content = record.read(path)
    assert (len(content["rows"]), content["complete"]) == (1, True)
    record.write(path, content | {"complete": False})  # as an earlier version left it
    Run.resume(path).measure()
    assert record.read(path)["complete"]


def test_a_run_ends_when_its_time_is_over(tmp_path):
    path = tmp_path / "r.json"
    Run.begin(settings(), path, "cuconv bench").measure(minutes=1e-9)
    assert record.read(path)["rows"] == []
    assert not record.read(path)["complete"]


def test_records_of_other_commits_and_machines_are_not_mixed(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    Run.begin(settings(), path, "cuconv bench").measure(minutes=1e-9)
    content = json.loads(path.read_text())
    content["device"]["model"] = "another"
    path.write_text(json.dumps(content))
    with pytest.raises(record.RecordError, match="another"):
        Run.resume(path).measure()
    monkeypatch.setenv("CUCONV_COMMIT", "0" * 40)
    with pytest.raises(record.RecordError, match="not mixed"):
        Run.resume(path)


def test_a_disturbed_call_does_not_make_the_rounds_few(monkeypatch):
    """The first calls of a side fall among the spinning threads of the one before it."""
    device, slept = CpuDevice(1), []
    monkeypatch.setattr(timing.time, "sleep", slept.append)
    took = iter([5.0, 900.0, 1.0])
    monkeypatch.setattr(
        device, "milliseconds", lambda call, numbers: next(took, 1.0), raising=False
    )
    watch = timing.Stopwatch(Side("s", lambda i: None, lambda y: y), device, 1)
    assert watch.turn(0.1, 9).rounds >= 9
    assert slept == [device.pause_s] * 3
    slow = CpuDevice(1)
    monkeypatch.setattr(slow, "milliseconds", lambda call, numbers: 900.0)
    assert timing.Stopwatch(watch.side, slow, 1).turn(0.1, 9) == timing.Turn(1, 6)


def test_rows_of_other_versions_are_not_mixed(tmp_path, beside):
    path, twin = tmp_path / "r.json", Twin()
    beside(twin)
    measured(path, limit=1)
    content = record.read(path)
    content["settings"]["choice"]["limit"] = 2
    record.write(path, content)
    twin.versions = {"twin": "2"}
    with pytest.raises(record.RecordError, match="with twin 1, now 2: not mixed"):
        Run.resume(path).measure()
    beside()
    with pytest.raises(record.RecordError, match="with twin 1, now not there"):
        Run.resume(path).measure()
    assert record.read(path) == content
    twin.versions = {"twin": "1"}
    beside(twin)
    Run.resume(path).measure()
    assert len(record.read(path)["rows"]) == 2


def test_who_beats_the_roofline_is_flagged(tmp_path, monkeypatch):
    slow = {"bytes_per_s": 1.0, "multiply_adds_per_s": {"float32": 1.0}}
    monkeypatch.setattr(roofline, "measure", lambda device, kinds, times: slow)
    found = measured(tmp_path / "r.json", limit=1)
    assert "not to be believed" in found["rows"][0]["flags"][0]
    assert len(faults(found)) == len(found["rows"][0]["flags"])


def row_of(**side):
    row = {"kind": "float32", "multiply_adds": 10**9, "w_shape": [8, 8, 3, 3], "cold": True}
    row |= {"operand_bytes": 10**6, "result_bytes": 10**6, "sides": {"s": {"ms": 1.0, **side}}}
    return row


@pytest.mark.parametrize(
    ("side", "floor"),
    [
        ({"algo": "im2col"}, 10.0),
        ({"algo": "winograd", "variant": "winograd_f4x3"}, 2.5),
        ({"algo": "winograd", "variant": "winograd_f2x3_fused"}, 10 / 2.25),
        ({"algo": "fft"}, 0.1),
        ({}, 0.1),  # a peer's algorithm is not known
        ({"rotates_result": True}, 0.2),
    ],
)
def test_the_floor_is_that_of_the_algorithm(side, floor):
    limits = {"bytes_per_s": 1e10, "multiply_adds_per_s": {"float32": 1e11}}
    row = row_of(**side)
    assert roofline.floor_ms(row, row["sides"]["s"], limits) == pytest.approx(floor)
    row["cold"] = False
    warm = roofline.floor_ms(row, row["sides"]["s"], limits)
    assert warm == pytest.approx(floor if floor > 1 else 0)


def test_the_higher_limit_counts():
    a = {"bytes_per_s": 1.0, "multiply_adds_per_s": {"float32": 5.0}}
    b = {"bytes_per_s": 2.0, "multiply_adds_per_s": {"float32": 4.0, "float64": 1.0}}
    both = {"bytes_per_s": 2.0, "multiply_adds_per_s": {"float32": 5.0, "float64": 1.0}}
    assert roofline.merged(a, b) == both
    assert roofline.merged(None, a) == a


def test_missing_peers_say_why(tmp_path, monkeypatch):
    def missing(name, package):
        raise peers.Missing(f"{package} is not installed")

    for module in ("torch", "filters", "opencv"):
        monkeypatch.setattr(f"cuconv._bench.peers.{module}.installed", missing)
    found = measured(tmp_path / "r.json", peers=("torch", "scipy", "opencv"), limit=1)
    assert found["missing"] == {
        "torch": "PyTorch is not installed",
        "scipy": "SciPy is not installed",
        "opencv": "OpenCV is not installed",
    }
    assert found["rows"][0]["ratio"] is None
    assert not faults(found)


def test_a_peer_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        peers.Missing, match='is not installed: pip install "opencv-python-headless"'
    ):
        peers.installed("cv2", "OpenCV")


def test_a_module_that_breaks_is_a_missing_peer(monkeypatch):
    def broken(name):
        raise OSError("libsomething.so: cannot open")

    monkeypatch.setattr(peers.importlib, "import_module", broken)
    with pytest.raises(peers.Missing, match="cannot be imported: libsomething"):
        peers.installed("torch", "PyTorch")


@pytest.mark.skipif(has("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize(("kind", "limit"), [("float32", 4), ("bfloat16", 1)])
def test_pytorch_agrees_in_all_directions_and_layouts(tmp_path, kind, limit):
    names = ("forward", "input_grad", "weight_grad")
    how = {"directions": names, "layouts": ("NCHW", "NHWC"), "kinds": (kind,), "limit": limit}
    found = measured(tmp_path / "r.json", peers=("torch",), rounds=1, **how)
    assert not faults(found)
    assert len(found["rows"]) == 6 * limit
    for row in found["rows"]:
        assert str(row["beside"]).startswith("PyTorch"), row["skipped_sides"]


@pytest.mark.skipif(has("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pytorch_is_also_timed_with_filters_reordered_beforehand(tmp_path, layout):
    """Forward float32 alone: the others have no such module, or not on every processor."""
    how = {"layouts": (layout,), "directions": ("forward", "input_grad")}
    kinds = {"kinds": ("float32", "float64")}
    found = measured(tmp_path / "r.json", peers=("torch",), rounds=1, **how, **kinds)
    assert not faults(found)
    name = "PyTorch prepacked"
    for row in found["rows"]:
        timed = row["kind"] == "float32" and row["direction"] == "forward"
        assert (name in row["sides"]) == timed, row["skipped_sides"]
        assert not row["skipped_sides"]
        if timed:
            assert row["errors"][name]["largest"] < 1e-4


@pytest.mark.skipif(has("torch") is None, reason="PyTorch is not installed")
def test_a_pytorch_without_that_module_has_its_other_sides(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.mkldnn", None)
    (row,) = measured(tmp_path / "r.json", peers=("torch",), limit=1)["rows"]
    assert "torch.utils.mkldnn" in row["skipped_sides"]["PyTorch prepacked"]
    assert row["beside"].startswith("PyTorch")


@pytest.mark.parametrize("group", ["images", "pooling", "activations", "inception"])
def test_the_other_groups_beside_what_is_installed(tmp_path, monkeypatch, group):
    """Made small: an image of 64 x 64, two planes."""
    from cuconv._bench import cases, layers

    monkeypatch.setattr(cases, "IMAGE", 64)
    monkeypatch.setattr(cases, "IMAGE_TAPS", (5,))
    monkeypatch.setattr(cases, "POOLED", [(2, 9, 8)])
    monkeypatch.setattr(cases, "ACTIVATED", [(2, 9, 8)])
    small = {"3a": (6, 8, 4, 4, 6, 2, 4, 3)}
    monkeypatch.setattr(layers, "inception_modules", lambda: small)
    names = ("torch", "scipy", "opencv")
    found = measured(tmp_path / "r.json", peers=names, groups=(group,), batches=(2,), rounds=1)
    assert not faults(found)
    assert found["rows"]
    for row in found["rows"]:
        assert "sides" in row
        if len(found["missing"]) < 3:
            assert row["beside"] or group != "images"


def test_rows_come_in_the_order_of_their_weight():
    names = [case.name.partition(":")[0] for case in tiny_cases(kinds=("float32", "float64"))]
    assert names[0] == "plain"
    kinds = [case.kind for case in tiny_cases(kinds=("float32", "float64"))]
    assert kinds[:3] == ["float32", "float64", "float32"]
