"""The CPU's table of costs: its rates, what it chooses with the nominal ones, memory kept."""

import json
import tracemalloc

import numpy as np
import pytest

import cuconv
from cuconv._backends import numpy_backend
from cuconv._backends._cpu import cost


@pytest.fixture
def nominal(monkeypatch):
    """The rates that the class has, so that the machine has no say."""
    monkeypatch.setattr(cost, "rates", lambda: cost.Rates())
    forget()
    yield
    forget()


def forget():
    numpy_backend.decide.cache_clear()
    numpy_backend.chosen.cache_clear()


CHOICES = [
    ("3x3 of many channels", (1, 256, 56, 56), (256, 256, 3, 3), {"padding": 1}, "winograd_f4x3"),
    ("1x1", (1, 256, 28, 28), (64, 256, 1, 1), {}, "im2col_first"),
    ("a stem", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}, "im2col_first"),
    ("one channel, 3x3", (1, 1, 2048, 2048), (1, 1, 3, 3), {}, "direct_shifted"),
    ("one channel, 31x31", (1, 1, 2048, 2048), (1, 1, 31, 31), {}, "fft_overlap_save"),
    (
        "depthwise 31x31",
        (1, 64, 64, 64),
        (64, 1, 31, 31),
        {"groups": 64, "padding": 15},
        "fft_overlap_save",
    ),
]


@pytest.mark.parametrize(("name", "x", "w", "options", "variant"), CHOICES, ids=lambda v: str(v))
def test_the_table_chooses(nominal, name, x, w, options, variant):
    plan = cuconv.Conv2dPlan(x, w, "float32", device="cpu", **options)
    assert plan.variant == variant


def test_each_processor_has_rates_of_its_own(monkeypatch):
    names = set()
    for name in ("AMD EPYC 7543", "AMD EPYC 7543P", "x86_64", "/../Ü"):
        monkeypatch.setattr(cost, "processor", lambda name=name: name)
        names.add(cost.rates_file())
    assert len(names) == 4
    assert len({file.parent for file in names}) == 1


def test_rates_are_measured_once_and_kept(monkeypatch):
    cost.rates.cache_clear()
    first = cost.rates()
    kept = json.loads(cost.rates_file().read_text())
    assert kept["flop"] == first.flop
    cost.rates.cache_clear()
    monkeypatch.setattr(cost, "measure", None)  # is not called
    assert cost.rates() == first
    cost.rates.cache_clear()


def test_a_file_that_lacks_a_rate_is_replaced():
    cost.rates.cache_clear()
    cost.rates()
    file = cost.rates_file()
    kept = json.loads(file.read_text())
    del kept["term"]
    file.write_text(json.dumps(kept))
    cost.rates.cache_clear()
    found = cost.rates()
    assert json.loads(file.read_text())["term"] == found.term
    cost.rates.cache_clear()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"flop": 1}', '{"flop": "x"}', '{"a": 1e-9}'])
def test_a_damaged_file_is_replaced(content):
    cost.rates.cache_clear()
    file = cost.rates_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    found = cost.rates()
    assert 0 < found.flop < 1e-6
    assert json.loads(file.read_text())["flop"] == found.flop
    cost.rates.cache_clear()


LARGE = [  # x, w, options
    ((1, 1, 1500, 1500), (1, 1, 15, 15), {}),
    ((1, 16, 300, 300), (16, 16, 3, 3), {"padding": 1}),
    ((2000, 4, 8, 8), (4, 4, 3, 3), {}),
    ((1, 8, 400, 400), (8, 1, 5, 5), {"groups": 8}),
    ((1, 512, 32, 32), (512, 1, 33, 33), {"groups": 512, "padding": 1}),
    ((1, 4, 8000, 64), (4, 4, 1, 3), {"stride": (1000, 1)}),
    ((1, 16, 200, 200), (16, 16, 11, 11), {"padding": 5}),
]


@pytest.mark.parametrize("algo", ["direct", "im2col", "winograd", "fft"])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), LARGE, ids=str)
def test_no_more_memory_than_said(x_shape, w_shape, options, algo):
    limit = 8 << 20
    x, w = np.ones(x_shape, np.float32), np.ones(w_shape, np.float32)
    how = {**options, "workspace_limit": limit, "device": "cpu"}
    found = {c.algo: c for c in cuconv.algorithms(x_shape, w_shape, "f4", **how)}
    if not found[algo].supported:
        assert "workspace_limit" in found[algo].reason or algo in ("winograd", "fft")
        return
    plan = cuconv.Conv2dPlan(x_shape, w_shape, "f4", algo=algo, **how)
    assert plan.workspace_bytes <= limit
    out = plan(x, w)
    cuconv.conv2d(x, w, algo=algo, workspace_limit=limit, out=out, **options)  # caches fill
    tracemalloc.start()
    try:
        cuconv.conv2d(x, w, algo=algo, workspace_limit=limit, out=out, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= plan.workspace_bytes + (512 << 10)


def test_fft_refuses_strides_that_it_would_compute_in_vain():
    x, w = np.ones((1, 2, 50, 40), "f4"), np.ones((3, 2, 3, 3), "f4")
    with pytest.raises(cuconv.UnsupportedError, match="fft does strides"):
        cuconv.conv2d(x, w, stride=10**6, padding=10**6, algo="fft")
