"""The CPU's worker threads: callers that are threads, forks, errors, limits."""

import os
import subprocess
import sys
import threading
import warnings
from functools import partial

import numpy as np
import pytest

import cuconv
from cuconv._backends._cpu import threads

threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")


def blas_threads():
    """Of the libraries that NumPy multiplies with."""
    threads.count()
    return [library.get_num_threads() for library in threads._workers.libraries]


def test_all_tasks_run_once():
    done = [0] * 50

    def task(i):
        done[i] += 1

    threads.run([lambda i=i: task(i) for i in range(50)])
    assert done == [1] * 50


@pytest.mark.parametrize("number", [1, 2, 5])
def test_all_tasks_run_whatever_the_threads(monkeypatch, number):
    """One thread, as without threadpoolctl, once ran the first task alone."""
    monkeypatch.setattr(threads, "count", lambda: number)
    for tasks in (0, 1, 2, 7):
        done = []
        threads.run(partial(done.append, i) for i in range(tasks))
        assert sorted(done) == list(range(tasks))


@pytest.mark.parametrize("algo", ["direct", "im2col", "winograd", "fft"])
def test_one_thread_computes_the_same(algo):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 8, 150, 151))
    w = rng.standard_normal((8, 8, 3, 3))
    want = cuconv.conv2d(x, w, algo=algo)
    with threadpoolctl.threadpool_limits(1):
        got = cuconv.conv2d(x, w, algo=algo)
    np.testing.assert_allclose(got, want, atol=1e-11)


def test_blas_is_held_and_let_go():
    before = blas_threads()
    inside = []
    threads.run([lambda: inside.append(blas_threads())] * 4)
    assert blas_threads() == before
    if threads.count() > 1:
        assert all(set(counts) == {1} for counts in inside)


def test_blas_is_held_by_any_thread():
    inside = []

    def caller():
        threads.run([lambda: inside.append(blas_threads())] * 4)

    for _ in range(3):
        one = threading.Thread(target=caller)
        one.start()
        one.join()
    if threads.count() > 1:
        assert all(set(counts) == {1} for counts in inside)


def test_an_error_comes_out_and_lets_go():
    before = blas_threads()

    def fails():
        raise RuntimeError("a task failed")

    with pytest.raises(RuntimeError, match="a task failed"):
        threads.run([fails] + [lambda: None] * 20)
    assert blas_threads() == before
    threads.run([lambda: None] * 3)


def test_limits_of_the_caller_are_honoured():
    with threadpoolctl.threadpool_limits(1):
        assert threads.count() == 1
    if os.cpu_count() > 1 and "OPENBLAS_NUM_THREADS" not in os.environ:
        assert threads.count() >= 1


def test_callers_may_be_threads():
    rng = np.random.default_rng(0)
    before = blas_threads()
    xs = [rng.standard_normal((2, 8, 60, 61)).astype("f4") for _ in range(6)]
    w = rng.standard_normal((8, 8, 3, 3)).astype("f4")
    plan = cuconv.Conv2dPlan(xs[0].shape, w.shape, "f4", padding=1, algo="im2col", device="cpu")
    want = [plan(x, w) for x in xs]
    found = [None] * 6

    def caller(i):
        for _ in range(5):
            found[i] = plan(xs[i], w)

    callers = [threading.Thread(target=caller, args=(i,)) for i in range(6)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert [f.tobytes() for f in found] == [y.tobytes() for y in want]
    assert blas_threads() == before


@pytest.mark.parametrize("algo", ["direct", "im2col", "winograd"])
def test_bits_do_not_depend_on_who_else_computes(algo):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 64, 14, 14)).astype("f4")
    w = rng.standard_normal((64, 64, 3, 3)).astype("f4")
    want = cuconv.conv2d(x, w, padding=1, algo=algo).tobytes()
    stop = threading.Event()
    big = rng.standard_normal((4, 16, 60, 60)).astype("f4")

    def other():
        while not stop.is_set():
            cuconv.conv2d(big, w[:16, :16], algo="im2col")

    one = threading.Thread(target=other)
    one.start()
    try:
        for _ in range(30):
            assert cuconv.conv2d(x, w, padding=1, algo=algo).tobytes() == want
    finally:
        stop.set()
        one.join()


@pytest.mark.parametrize("algo", ["direct", "im2col"])
@pytest.mark.parametrize("size", [5, 14, 40])
def test_bits_do_not_depend_on_the_batch(algo, size):
    rng = np.random.default_rng(size)
    x = rng.standard_normal((3, 64, size, size)).astype("f4")
    w = rng.standard_normal((64, 64, 3, 3)).astype("f4")
    whole = cuconv.conv2d(x, w, padding=1, algo=algo)
    gradient = cuconv.conv2d_input_grad(whole, w, x.shape, padding=1, algo=algo)
    for n in range(3):
        one = cuconv.conv2d(x[n : n + 1], w, padding=1, algo=algo)
        assert one.tobytes() == whole[n].tobytes()
        got = cuconv.conv2d_input_grad(one, w, (1, *x.shape[1:]), padding=1, algo=algo)
        assert got.tobytes() == gradient[n].tobytes()


def test_infinities_warn_in_no_thread():
    x, w = np.full((4, 16, 60, 60), 60000, "f2"), np.ones((16, 16, 3, 3), "f2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for algo in ("direct", "im2col", "winograd", "fft"):
            assert cuconv.conv2d(x, w, algo=algo).shape == (4, 16, 58, 58)


INTERRUPTED = """
import os, signal, threading, time
from cuconv._backends._cpu import threads
done = []
def slow():
    time.sleep(1.0)
    done.append(1)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    threads.run([lambda: None, slow])
except KeyboardInterrupt:
    print("interrupted", len(done))
"""


def test_control_c_waits_for_the_workers():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # Whoever took the slow task: it has ended, or it was the main thread's own and was broken off.
    assert done.stdout in ("interrupted 1\n", "interrupted 0\n")


AT_EXIT = """
import atexit, numpy as np, cuconv
x, w = np.ones((4, 16, 56, 56), "f4"), np.ones((16, 16, 3, 3), "f4")
atexit.register(lambda: print(cuconv.conv2d(x, w, algo="im2col").shape))
"""


def test_computes_while_the_interpreter_ends():
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(4, 16, 54, 54)\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking with threads alive
def test_a_forked_child_computes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 60, 61)).astype("f4")
    w = rng.standard_normal((8, 8, 5, 5)).astype("f4")
    want = cuconv.conv2d(x, w).tobytes()  # the parent's threads exist by now
    child = os.fork()
    if child == 0:
        os._exit(0 if cuconv.conv2d(x, w).tobytes() == want else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_plan_sees_that_filters_changed():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 16, 40, 40)).astype("f4")
    w = rng.standard_normal((16, 16, 3, 3)).astype("f4")
    for algo in ("direct", "im2col", "winograd", "fft"):
        plan = cuconv.Conv2dPlan(x.shape, w.shape, "f4", algo=algo, device="cpu")
        for step in range(4):
            w[0, 0, 0, 0] += step
            for filters in (w, np.ascontiguousarray(w[:, :, ::-1])[:, :, ::-1]):
                want = cuconv.conv2d(x, filters, algo=algo).tobytes()
                for _ in range(3):
                    assert plan(x, filters).tobytes() == want
