"""Which candidate is timed when, and when no longer: with a clock that the test moves."""

import sys
import types

import numpy as np
import pytest

import cuconv
from cuconv import _clocks, _timing
from cuconv._timing import ENOUGH, FAR, HOPELESS, MOST_CALLS, ROUNDS, SECONDS, WARM, measure


class Clock:
    """Each candidate takes what its list says, call by call; the last number stays."""

    one_by_one = False

    def __init__(self, **takes):
        self.takes = {name: takes[name] for name in takes}
        self.log = []  # (name, calls) in order

    def runs(self):
        return {name: lambda name=name: name for name in self.takes}

    def __call__(self, run, calls):
        name = run()
        index = self.count(name)
        self.log.append((name, calls))
        found = self.takes[name]
        found = found[min(index, len(found) - 1)] if isinstance(found, list) else found
        if isinstance(found, Exception):
            raise found
        return found

    def count(self, name):
        return sum(n == name for n, _ in self.log)

    def calls(self, name):
        return sum(calls for n, calls in self.log if n == name)

    def measure(self, seconds=SECONDS):
        return measure(self.runs(), self, seconds)


def test_candidates_take_turns():
    clock = Clock(a=1e-3, b=1.1e-3, c=1.2e-3)
    found = clock.measure()
    assert found.seconds == {"a": 1e-3, "b": 1.1e-3, "c": 1.2e-3}
    assert [name for name, _ in clock.log] == ["a", "b", "c"] * (WARM + ROUNDS)


def test_short_calls_are_timed_many_at_a_time():
    clock = Clock(a=1e-5, b=1e-9, c=1e-2)
    clock.measure()
    per_slice = {name: {calls for n, calls in clock.log[3 * WARM :] if n == name} for name in "abc"}
    assert per_slice == {"a": {196}, "b": {MOST_CALLS}, "c": {1}}
    assert {calls for _, calls in clock.log[: 3 * WARM]} == {1}


def test_first_calls_do_not_count():
    """What is made once may take longer than anything after it."""
    clock = Clock(a=[0.2, 0.1, 1e-3], b=2e-3)
    assert clock.measure().seconds == {"a": 1e-3, "b": 2e-3}


def test_a_disturbance_does_not_decide():
    """Of the faster one all slices but one are slowed; the minimum sees through it."""
    clock = Clock(a=[0.1, 0.1, 9e-3, 8e-3, 1e-3, 7e-3], b=1.4e-3)
    found = clock.measure()
    assert min(found.seconds, key=found.seconds.get) == "a"


def test_who_is_clearly_slower_stops_being_timed():
    clock = Clock(a=1e-3, b=1e-3, slow=FAR * 1e-3 * 1.01, near=FAR * 1e-3 * 0.99)
    clock.measure()
    assert clock.count("slow") == WARM + ENOUGH
    assert clock.count("near") == WARM + ROUNDS


def test_one_quick_slice_keeps_a_candidate_in():
    clock = Clock(a=1e-3, b=[5e-3, 5e-3, 5e-3, 5e-3, 1.2e-3, 0.9e-3])
    found = clock.measure()
    assert found.seconds["b"] == 0.9e-3
    assert clock.count("b") == WARM + ROUNDS


def test_nothing_is_timed_when_nothing_is_left_to_compare():
    clock = Clock(a=1e-3, slow=1.0)
    clock.measure()
    assert clock.count("a") <= WARM + ENOUGH


def test_time_is_bounded():
    """Two first calls; then `seconds`, and the rest of a call."""
    clock = Clock(a=0.06, b=0.06)
    clock.measure(0.25)
    assert clock.calls("a") == clock.calls("b") == WARM + 5
    clock = Clock(a=1.0, b=1.0)  # or three times
    clock.measure(0.25)
    assert clock.calls("a") == WARM + ENOUGH


def test_the_hopeless_are_called_once():
    clock = Clock(a=1e-2, b=1e-2, slow=1e-2 * HOPELESS * 2)
    found = clock.measure(0.25)
    assert clock.calls("slow") == 1
    assert found.seconds["slow"] == 1e-2 * HOPELESS * 2  # is told
    clock = Clock(a=1e-4, b=1e-4, slow=1e-4 * HOPELESS * 2)  # quick all the same: has its time
    clock.measure(0.25)
    assert clock.count("slow") == WARM + ENOUGH


def test_more_seconds_are_longer_slices():
    short, long = Clock(a=1e-3, b=1e-3), Clock(a=1e-3, b=1e-3)
    short.measure(0.25)
    long.measure(25.0)
    assert long.calls("a") > 50 * short.calls("a")


@pytest.mark.parametrize("when", range(WARM + ROUNDS))
def test_who_raises_is_out_with_its_reason(when):
    takes = [1.1e-3] * when + [MemoryError("too much")]
    clock = Clock(a=1e-3, bad=takes, b=1.2e-3)
    found = clock.measure()
    assert found.seconds == {"a": 1e-3, "b": 1.2e-3}
    assert found.failed == {"bad": "MemoryError: too much"}
    assert clock.count("a") == WARM + ROUNDS  # what the other took before is no measure


def test_all_may_raise():
    found = Clock(a=ValueError("no"), b=OSError("none")).measure()
    assert found.seconds == {}
    assert found.failed == {"a": "ValueError: no", "b": "OSError: none"}


def test_ctrl_c_goes_through():
    class Interrupted(Clock):
        def __call__(self, run, calls):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(a=1, b=1).measure()


@pytest.mark.parametrize("stuck", [0.0, -1.0])
def test_a_clock_that_does_not_move_is_survived(stuck):
    clock = Clock(a=stuck, b=stuck)
    assert set(clock.measure().seconds) == {"a", "b"}
    assert clock.calls("a") <= WARM + ROUNDS * MOST_CALLS


def test_the_slices_of_a_cold_clock_are_single_calls():
    clock = Clock(a=1e-5, b=1e-5)
    clock.one_by_one = True
    clock.measure()
    assert {calls for _, calls in clock.log} == {1}


# ---- clocks ----


def test_the_host_clock_empties_caches_before_it_looks(monkeypatch):
    events, seconds = [], iter([10.0, 13.0])
    monkeypatch.setattr(
        _clocks.time, "perf_counter", lambda: events.append("look") or next(seconds)
    )
    clock = _clocks.HostClock(flush=lambda: events.append("flush"))
    assert clock.one_by_one
    assert clock(lambda: events.append("run"), 1) == 3.0
    assert events == ["flush", "look", "run", "look"]
    assert not _clocks.HostClock().one_by_one


def test_the_flush_is_larger_than_the_largest_cache(tmp_path):
    for number, size in enumerate(("32K\n", "512K\n", "3072K\n")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(size)
    assert _clocks.largest_cache(tmp_path) == 3 << 20
    (tmp_path / "index0" / "size").write_text("some")
    assert _clocks.largest_cache(tmp_path) == _clocks.UNKNOWN_CACHE
    assert _clocks.largest_cache(tmp_path / "none") == _clocks.UNKNOWN_CACHE
    _clocks.host_flush()()


class Gpu:
    """CuPy, as far as the clock knows it, on a GPU whose time the test moves."""

    def __init__(self):
        self.log, self.now, self.capturing, self.current = [], 0.0, False, None
        gpu = self

        class Event:
            def record(self, stream):
                assert stream is gpu.stream
                assert gpu.current == 1
                self.at = gpu.now
                gpu.log.append("record")

            def synchronize(self):
                gpu.log.append("wait")

        class Device:
            def __init__(self, number):
                self.number = number

            def __enter__(self):
                self.before, gpu.current = gpu.current, self.number

            def __exit__(self, *_):
                gpu.current = self.before

        self.stream = types.SimpleNamespace(is_capturing=lambda: self.capturing)
        self.cuda = types.SimpleNamespace(
            Device=Device,
            Event=Event,
            get_current_stream=lambda: self.stream,
            get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3,
            runtime=types.SimpleNamespace(
                getDeviceProperties=lambda number: {"l2CacheSize": 4096, "name": b"A GPU"}
            ),
        )

    def zeros(self, count, dtype):
        self.log.append(f"zeros {count * np.dtype(dtype).itemsize}")
        return None

    def add(self, a, b, out):
        self.log.append("flush")

    def run(self):
        self.log.append("run")
        self.now += 2e-3


def test_a_gpu_is_timed_by_events_on_the_current_stream(monkeypatch):
    monkeypatch.setattr(_clocks.time, "perf_counter", None)  # the host's clock has no say
    gpu = Gpu()
    clock = _clocks.EventClock(gpu, 1)
    assert clock(gpu.run, 3) == pytest.approx(2e-3)
    assert gpu.log == ["record", "run", "run", "run", "record", "wait"]


def test_a_cold_gpu_is_flushed_outside_the_events():
    gpu = Gpu()
    clock = _clocks.EventClock(gpu, 1, cold=True)
    assert clock.one_by_one
    assert clock(gpu.run, 1) == pytest.approx(2e-3)
    assert gpu.log == ["zeros 8192", "flush", "record", "run", "record", "wait"]


@pytest.mark.parametrize("cold", [False, True])
def test_nothing_is_timed_inside_a_capture(cold):
    gpu = Gpu()
    gpu.capturing = True
    with pytest.raises(cuconv.UnsupportedError, match=r"being captured: call .*autotune\(x, w\)"):
        _clocks.EventClock(gpu, 1, cold)
    assert gpu.log == []  # nothing was put into the graph


def test_the_gpu_s_name_is_asked_once(monkeypatch):
    from cuconv import autotune

    gpu = Gpu()
    monkeypatch.setitem(sys.modules, "cupy", gpu)
    autotune.gpu_name.cache_clear()
    backend = types.SimpleNamespace(device="cuda", device_id=1, name="cuda")
    assert autotune.device_name(backend) == "A GPU"
    gpu.cuda.runtime = None
    assert autotune.device_name(backend) == "A GPU"
    autotune.gpu_name.cache_clear()


def test_a_tuning_on_a_gpu_as_a_whole(monkeypatch):
    """The faster by the GPU's time wins; it is kept under the GPU's name."""
    from cuconv import _answers, autotune
    from cuconv._backends._protocol import Candidate, ConvOptions

    gpu = Gpu()
    monkeypatch.setitem(sys.modules, "cupy", gpu)
    autotune.gpu_name.cache_clear()
    takes = {"direct": 3e-3, "im2col": 2e-3}

    class Backend:
        name, device, device_id = "cuda", "cuda", 1

        def conv_candidates(self, direction, problem, options):
            # The estimates have it the other way round.
            found = [Candidate(n, True, "", 0, -s, f"{n}_kernel", "") for n, s in takes.items()]
            return [*found, Candidate("fft", False, "no kernel", 0, 1.0, "", "")]

        def conv(self, direction, problem, options):
            return options.algo

    def run(family):
        gpu.now += takes[family]

    problem = cuconv.Conv2dPlan((1, 2, 9, 9), (2, 2, 3, 3), "f4", device="cpu")._convolution.problem
    question = (Backend(), "forward", problem, ConvOptions(algo="autotune"), run)
    assert autotune.fastest_family(*question) == "im2col"
    (entry,) = _answers.read_table(_answers.cache_file()).entries.values()
    assert (entry.device, entry.family, entry.variant) == ("A GPU", "im2col", "im2col_kernel")
    assert entry.seconds == pytest.approx(takes)
    assert entry.skipped == {"fft": "no kernel"}
    gpu.capturing = True
    assert autotune.fastest_family(*question) == "im2col"  # is known
    with pytest.raises(cuconv.UnsupportedError, match="captured"):
        autotune.fastest_family(*question, again=True)
    autotune.forget()
    autotune.gpu_name.cache_clear()


def test_times_are_believable():
    """With a real clock: who sleeps longer takes longer."""
    import time

    runs = {"long": lambda: time.sleep(4e-3), "short": lambda: time.sleep(1e-3)}
    found = _timing.measure(runs, _clocks.HostClock(), 0.02).seconds
    assert 1e-3 <= found["short"] < found["long"]
    assert found["long"] >= 4e-3
