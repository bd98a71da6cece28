"""The CPU's worker threads: callers that are threads, forks, errors, limits."""

import os
import threading

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
