"""What autotune chooses: from memory, from the file, or by timing; and what a call can ask for."""

import json
import subprocess
import sys
import threading
import types
from dataclasses import asdict, replace

import numpy as np
import pytest

import cuconv
import problems
from compare import assert_equal
from cuconv import _answers, _clocks, autotune
from cuconv._backends._cpu import cost
from cuconv._version import __version__

X, W = (2, 4, 9, 8), (6, 2, 3, 3)
OPTIONS = {"stride": (1, 2), "padding": ((1, 0), (2, 1)), "groups": 2, "padding_mode": "reflect"}
FAMILIES = {"direct", "im2col", "fft"}  # that can do this


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype("float32")
    return problems.integers(rng, X, dtype), problems.integers(rng, W, dtype)


@pytest.fixture(autouse=True)
def nothing_in_memory():
    autotune.forget()
    yield
    autotune.forget()


def entries():
    return list(_answers.read_table(_answers.cache_file()).entries.values())


@pytest.fixture
def untimed(monkeypatch):
    """Timing is an error."""

    def refuse(*_):
        raise AssertionError("timed again")

    monkeypatch.setattr(autotune, "measure", refuse)


def rewrite(change):
    """The one entry of the file, changed as another process could have."""
    (entry,) = entries()
    table = {"format": _answers.FORMAT, "entries": [asdict(change(entry))]}
    _answers.cache_file().write_text(json.dumps(table))
    autotune.forget()


# ---- what is kept ----


def test_an_answer_is_kept_with_what_it_was_found_from():
    x, w = arrays()
    got = cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    (entry,) = entries()
    assert_equal(got, cuconv.conv2d(x, w, algo=entry.family, **OPTIONS))
    assert set(entry.seconds) == FAMILIES
    assert entry.family == min(entry.seconds, key=entry.seconds.get)
    assert entry.variant.startswith(entry.family)
    assert all(0 < seconds < 10 for seconds in entry.seconds.values())
    assert set(entry.skipped) == {"implicit_gemm", "winograd"}
    assert all(entry.skipped.values())
    assert entry.version == __version__
    assert entry.problem["direction"] == "forward"
    assert entry.problem["dtype"] == "float32"
    assert not entry.cold
    file = _answers.cache_file()
    rates = cost.rates_file().name
    known = {name + end for name in (file.name, rates) for end in ("", ".lock")}
    assert {f.name for f in file.parent.iterdir()} <= known  # nothing half-written is left


def test_gradients_can_be_tuned():
    x, w = arrays()
    g = cuconv.conv2d(x, w, **OPTIONS)
    for function, call in (
        (cuconv.conv2d_input_grad, (g, w, X)),
        (cuconv.conv2d_weight_grad, (g, x, W)),
    ):
        got = function(*call, algo="autotune", **OPTIONS)
        assert_equal(got, function(*call, algo=entries()[-1].family, **OPTIONS))
    assert {e.problem["direction"] for e in entries()} == {"input_grad", "weight_grad"}


def test_problems_layouts_and_options_have_answers_of_their_own():
    x, w = arrays()
    cuconv.conv2d(x, w, algo="autotune", groups=2)
    cuconv.conv2d(x, w, algo="autotune", groups=2, padding=1)
    cuconv.conv2d(x, w, algo="autotune", groups=2, activation="relu")
    last = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w)]
    cuconv.conv2d(*last, algo="autotune", groups=2, layout="NHWC")
    assert len(entries()) == 4


# ---- the same file, the same choice ----


def test_the_file_is_believed(untimed):
    x, w = arrays()
    file = _answers.cache_file()
    facts = facts_of_plan()
    device = autotune.device_name(cuconv._backends.host_backend())
    for answer in (*FAMILIES, *FAMILIES):
        entry = _answers.Entry(
            device, __version__, facts, answer, "", {}, {}, False, _answers.now()
        )
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"format": 1, "entries": [asdict(entry)]}))
        autotune.forget()
        plan = cuconv.Conv2dPlan(X, W, "float32", algo="autotune", device="cpu", **OPTIONS)
        assert plan.algo == "autotune"
        plan(x, w)
        assert plan.algo == answer
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)  # nor is it timed here


def facts_of_plan():
    convolution = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)._convolution
    return autotune.facts_of("forward", convolution.problem, convolution.options, "NCHW")


def test_every_process_makes_the_same_choice():
    """Though the file names the slower one."""
    x, w = arrays()
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    rewrite(lambda e: replace(e, family=max(e.seconds, key=e.seconds.get)))
    (entry,) = entries()
    code = (
        "import numpy as np, cuconv\n"
        f"plan = cuconv.Conv2dPlan({X}, {W}, 'float32', algo='autotune', device='cpu', "
        f"**{OPTIONS})\n"
        f"plan(np.ones({X}, 'f4'), np.ones({W}, 'f4'))\n"
        "print(plan.algo)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout.strip() == entry.family, done.stderr
    assert entries() == [entry]


def test_another_process_s_answer_counts_if_it_came_first(monkeypatch):
    """Two processes timing one problem at once agree in the end."""
    x, w = arrays()
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    (mine,) = entries()
    theirs = replace(mine, family=max(mine.seconds, key=mine.seconds.get))
    autotune.forget()
    _answers.cache_file().unlink()
    measure = autotune.measure

    def meanwhile(*arguments):
        found = measure(*arguments)
        _answers.add(_answers.cache_file(), theirs, lambda there: False)
        return found

    monkeypatch.setattr(autotune, "measure", meanwhile)
    with autotune.asked(again=False) as asked:
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    assert asked.found == [theirs] == entries()


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, family="winograd"),  # is not supported for this problem
        lambda e: replace(e, family="auto"),
        lambda e: replace(e, family="__import__('os').abort()"),
        lambda e: replace(e, version="0.0.1"),
        lambda e: replace(e, device="another device"),
        lambda e: replace(e, problem={**e.problem, "batch": 3}),
    ],
)
def test_what_is_not_for_this_is_not_used(change):
    x, w = arrays()
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    rewrite(change)
    (before,) = entries()
    with autotune.asked(again=False) as asked:
        cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    (found,) = asked.found
    assert found.family in FAMILIES
    assert {e.key for e in entries()} == {before.key, found.key}  # others' stay


# ---- timing ----


def test_plan_autotune_times_again():
    x, w = arrays()
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    assert plan.autotune(x, w) == plan.algo
    (first,) = entries()
    assert plan.algo == first.family
    plan.autotune(x, w, seconds=0.01)
    (second,) = entries()
    assert second.seconds != first.seconds


def test_plan_autotune_passes_its_options_on(monkeypatch):
    x, w = arrays()
    seen = []

    def measure(runs, clock, seconds):
        seen.append((seconds, clock.one_by_one))
        return autotune.Measured({"direct": 1.0, "im2col": 2.0}, {})

    monkeypatch.setattr(autotune, "measure", measure)
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    assert plan.autotune(x, w, seconds=3, cold=True) == "direct"
    assert plan.autotune(x, w) == "direct"
    g = plan(x, w)
    plan.input_grad.autotune(g, w, seconds=4, cold=True)
    plan.weight_grad.autotune(g, x, seconds=5)
    assert seen == [(3.0, True), (autotune.SECONDS, False), (4.0, True), (5.0, False)]


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_seconds_must_be_positive(seconds):
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    with pytest.raises(ValueError, match="seconds must be positive"):
        plan.autotune(*arrays(), seconds=seconds)


@pytest.mark.parametrize("how", [{"seconds": "1"}, {"seconds": True}, {"cold": 1}])
def test_the_options_of_autotune_have_types(how):
    plan = cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS)
    with pytest.raises(TypeError, match="must be"):
        plan.autotune(*arrays(), **how)


def test_cold_empties_the_caches_before_each_call(monkeypatch):
    x, w = arrays()
    flushes = []
    monkeypatch.setattr(_clocks, "host_flush", lambda: lambda: flushes.append(1))
    cuconv.Conv2dPlan(X, W, "float32", device="cpu", **OPTIONS).autotune(x, w, cold=True)
    (entry,) = entries()
    assert entry.cold
    assert len(flushes) >= 2 * (2 + 3)  # two candidates, two first calls and three slices


def test_a_candidate_that_raises_is_skipped_and_the_reason_kept(monkeypatch):
    x, w = arrays()
    backend = type(cuconv._backends.host_backend())
    conv = backend.conv

    def failing(self, direction, problem, options):
        if options.algo == "im2col":
            raise MemoryError("no room")
        return conv(self, direction, problem, options)

    monkeypatch.setattr(backend, "conv", failing)
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    (entry,) = entries()
    assert entry.family in FAMILIES - {"im2col"}
    assert entry.skipped["im2col"] == "MemoryError: no room"


def test_candidates_beyond_the_workspace_limit_are_skipped():
    x, w = np.ones((1, 16, 40, 40), "f4"), np.ones((16, 16, 3, 3), "f4")
    needs = {
        c.algo: c.workspace_bytes
        for c in cuconv.algorithms(x.shape, w.shape, "f4", device="cpu", workspace_limit=1 << 28)
        if c.supported
    }
    limit = sorted(needs.values())[1]  # two families keep inside
    cuconv.conv2d(x, w, algo="autotune", workspace_limit=limit)
    (entry,) = entries()
    assert entry.problem["workspace_limit"] == limit
    for family in set(entry.seconds):
        plan = cuconv.Conv2dPlan(
            x.shape, w.shape, "f4", device="cpu", algo=family, workspace_limit=limit
        )
        assert plan.workspace_bytes <= limit
    left_out = set(needs) - set(entry.seconds)
    assert left_out
    assert all("workspace" in entry.skipped[family] for family in left_out)


def test_where_one_algorithm_can_do_it_nothing_is_timed(untimed, monkeypatch):
    x, w = arrays()
    backend = type(cuconv._backends.host_backend())
    listed = backend.conv_candidates

    def one(*arguments):
        return [replace(c, supported=c.algo == "direct") for c in listed(*arguments)]

    monkeypatch.setattr(backend, "conv_candidates", one)
    plan = cuconv.Conv2dPlan(X, W, "float32", algo="autotune", device="cpu", **OPTIONS)
    plan(x, w)
    assert plan.algo == "direct"
    assert entries() == []


def test_an_empty_batch_can_be_tuned():
    x, w = arrays()
    assert cuconv.conv2d(x[:0], w, algo="autotune", **OPTIONS).shape[0] == 0


def test_threads_do_not_time_at_once(monkeypatch):
    """The second one waits, and then takes the first one's answer."""
    x, w = arrays()
    timed = []
    measure = autotune.measure

    def once(*arguments):
        timed.append(threading.get_ident())
        return measure(*arguments)

    monkeypatch.setattr(autotune, "measure", once)
    threads = [
        threading.Thread(target=cuconv.conv2d, args=(x, w), kwargs={"algo": "autotune", **OPTIONS})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timed) == 1


def test_a_known_answer_holds_inside_a_capture(monkeypatch):
    """There the clock refuses; but no clock is asked for."""
    x, w = arrays()

    def refuse(*_):
        raise cuconv.UnsupportedError("is being captured")

    with monkeypatch.context() as patched:
        patched.setattr(autotune, "clock_for", refuse)
        with pytest.raises(cuconv.UnsupportedError, match="captured"):
            cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    assert entries() == []
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    monkeypatch.setattr(autotune, "clock_for", refuse)
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)
    autotune.forget()
    cuconv.conv2d(x, w, algo="autotune", **OPTIONS)


def test_a_gpu_gets_a_clock_of_events(monkeypatch):
    made = []
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace())
    monkeypatch.setattr(_clocks, "EventClock", lambda *arguments: made.append(arguments))
    backend = types.SimpleNamespace(device="cuda", device_id=3)
    autotune.clock_for(backend, True)
    assert made == [(sys.modules["cupy"], 3, True)]


def test_the_number_of_threads_is_part_of_the_device():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    backend = cuconv._backends.host_backend()
    with threadpoolctl.threadpool_limits(1):
        one = autotune.device_name(backend)
    assert "1 thread (numpy)" in one


def test_a_forked_child_can_tune():
    """Though a thread of its parent was timing."""
    code = """
import os, threading, time, sys
import numpy as np, cuconv
from cuconv import autotune
x, w = np.ones((1, 2, 9, 9), 'f4'), np.ones((2, 2, 3, 3), 'f4')
held = threading.Event()
def hold():
    with autotune._turn:
        held.set()
        time.sleep(60)
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    cuconv.conv2d(x, w, algo='autotune')
    os._exit(7)
sys.stdout.write(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "7", done.stderr
