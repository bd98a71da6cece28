"""Runs of the benchmark that take a moment: tiny layers, no pauses, limits of paper."""

import contextlib
import importlib

import pytest

from cuconv._bench import cases, devices, roofline
from cuconv._bench.cases import Choice
from cuconv._bench.layers import Layer
from cuconv._bench.settings import Settings

# Asymmetric in everything that can be mixed up.
TINY = {
    "plain": Layer(2, 3, 9, 7, 4, 3, 2, (1, 1), (1, 0)),
    "grouped": Layer(2, 4, 8, 11, 6, 3, 3, (2, 1), (2, 1), (1, 2), groups=2),
    "depthwise": Layer(1, 5, 6, 7, 5, 3, 3, (1, 1), (1, 1), groups=5),
    "overhang": Layer(1, 2, 3, 4, 3, 1, 1, (2, 3), (2, 2)),
}
PAPER = {"bytes_per_s": 1e15, "multiply_adds_per_s": {"float32": 1e18}}


@pytest.fixture
def tiny(monkeypatch):
    """The group "mixed" is TINY, and nothing else takes time."""
    monkeypatch.setattr(cases, "MIXED", TINY)
    monkeypatch.setattr(devices, "last_cache", lambda: 1 << 12)
    monkeypatch.setattr(devices.CpuDevice, "pause_s", 0)
    monkeypatch.setattr(devices.CpuDevice, "turn_ms", 0.01)
    monkeypatch.setattr(roofline, "measure", lambda device, kinds, times: PAPER)


def settings(**changes):
    how = {"peers": (), "seconds": 1e-4, "rounds": 3, "device": "cpu"} | changes
    choice = {
        name: how.pop(name)
        for name in ("groups", "kinds", "directions", "layouts", "batches", "limit")
        if name in how
    }
    return Settings(Choice(**{"groups": ("mixed",)} | choice), **how)


def tiny_cases(**choice):
    return cases.cases_of(Choice(**{"groups": ("mixed",)} | choice))


def has(name):
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None
