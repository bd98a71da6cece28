"""Bytes that an Inception module moves: counted by the emulator, and by the benchmark's model."""

import numpy as np
import pytest

import cuconv
import problems
from emulated_traffic import benchmark, traffic
from test_inception import last


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", problems.REAL, ids=str)
def test_the_emulator_counts_no_byte_more_than_the_least(emulated, layout, dtype):
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    rng = np.random.default_rng(0)
    place = last if layout == "NHWC" else np.asarray
    c, one, reduce3, three, reduce5, five, project = 24, 16, 8, 16, 8, 8, 8
    shapes = [(one, c, 1), (reduce3, c, 1), (three, reduce3, 3)]
    shapes += [(reduce5, c, 1), (five, reduce5, 5), (project, c, 1)]
    weights = []
    for k, taken, size in shapes:
        weights.append(place(problems.integers(rng, (k, taken, size, size), dtype)))
        weights.append(problems.integers(rng, (k,), dtype))
    x = place(problems.integers(rng, (2, c, 7, 6), dtype))
    module = cuconv.Inception(cuconv.InceptionWeights(*weights), layout=layout)
    with emulated.select():
        launches = traffic(module, x)
    positions = 2 * 7 * 6 * dtype.itemsize
    sizes = [sum(w.nbytes for w in weights), positions * c]
    y = positions * (one + three + five + project)
    reduced = positions * (reduce3 + reduce5)
    first, second = launches
    assert first[2] == positions * (one + project) + reduced
    assert second[2] == positions * (three + five)
    read, written = first[1] + second[1], first[2] + second[2]
    assert written == y + reduced
    assert read == sum(sizes) + reduced


def test_max_pool_project_reads_x_alone(emulated):
    if emulated.options()["flavour"] != "race":
        pytest.skip("only the race flavour sees accesses")
    rng = np.random.default_rng(0)
    x, w = (problems.integers(rng, s, np.dtype("f4")) for s in [(2, 8, 9, 7), (4, 8, 1, 1)])
    with emulated.select():
        ((_, read, written),) = traffic(cuconv.max_pool_project, x, w)
    assert read == x.nbytes + w.nbytes
    assert written == 2 * 4 * 9 * 7 * 4


@pytest.mark.parametrize("name", ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"])
def test_the_model_of_whole_modules(emulated, name):
    """The same at full size: two launches, within a tenth of the least."""
    plan = benchmark("inception_bytes").plan(name, batch=32)
    assert len(plan.launches) == 2
    assert sum(plan.launches) <= 1.1 * plan.least
