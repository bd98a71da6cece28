"""Ratios with intervals, when one is too wide to be told, and how a time grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 2000
# A median of five lies outside all five with a probability of 1/16: no interval within them
# covers 95%. Of six it is 1/32.
FEWEST_ROUNDS = 6
WIDEST = 1.5  # upper end of an interval over its lower one: beyond it a ratio says nothing
WIDEST_EXPONENT = 1.0  # from one end of the interval to the other: linear or quadratic?
# Student's t, two-sided 95%, by degrees of freedom from 1; the last one serves all above.
STUDENT = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Ratio:
    value: float
    low: float
    high: float

    @property
    def noisy(self) -> bool:
        return not self.high <= WIDEST * self.low

    def __str__(self) -> str:
        if self.noisy:
            return f"too noisy: {self.low:.2f} to {self.high:.2f}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def seconds_needed(self, seconds: float) -> float:
        """So much a side would make the interval narrow enough, for its width falls with the root
        of the number of rounds. One significant digit, upwards."""
        width = math.log(max(self.high, 1e-300) / max(self.low, 1e-300))
        need = seconds * max(2.0, (width / math.log(WIDEST)) ** 2)
        unit = 10.0 ** math.floor(math.log10(need))
        return math.ceil(need / unit - 1e-9) * unit

    @classmethod
    def of(cls, row: dict[str, Any]) -> Ratio | None:
        """As a record holds it."""
        if row.get("ratio") is None:
            return None
        return cls(float(row["ratio"]), *map(float, row["interval"]))


def interval_of(samples: np.ndarray) -> tuple[float, float]:
    """95%, of medians that a bootstrap gave."""
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)


def paired_ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """The median over the rounds that both took part in, and a bootstrap of it."""
    both = min(len(theirs), len(ours))
    ratios = np.array(theirs[:both]) / np.array(ours[:both])
    draws = np.random.default_rng(0).integers(0, both, (RESAMPLES, both))
    return Ratio(float(np.median(ratios)), *interval_of(np.median(ratios[draws], axis=1)))


def unpaired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Median of `a` over median of `b`, which were measured apart: each is drawn by itself."""
    rng = np.random.default_rng(0)
    x, y = np.array(a), np.array(b)
    over = np.median(x[rng.integers(0, x.size, (RESAMPLES, x.size))], axis=1)
    under = np.median(y[rng.integers(0, y.size, (RESAMPLES, y.size))], axis=1)
    return Ratio(float(np.median(x) / np.median(y)), *interval_of(over / under))


def quotient(a: Ratio, b: Ratio) -> Ratio:
    """Of two ratios from runs that know nothing of each other: logarithms of widths add up as
    standard deviations do."""
    value = a.value / b.value
    up = math.hypot(math.log(a.high / a.value), math.log(b.value / b.low))
    down = math.hypot(math.log(a.value / a.low), math.log(b.high / b.value))
    return Ratio(value, value * math.exp(-down), value * math.exp(up))


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """The rows are those there are, no sample of others: the interval is that of the noise in each,
    whose logarithms add up as standard deviations do. Noisy rows count, with their widths."""
    n = len(ratios)
    mean = math.exp(sum(math.log(r.value) for r in ratios) / n)
    up = math.sqrt(sum(math.log(r.high / r.value) ** 2 for r in ratios)) / n
    down = math.sqrt(sum(math.log(r.value / r.low) ** 2 for r in ratios)) / n
    return Ratio(mean, mean * math.exp(-down), mean * math.exp(up))


@dataclass(frozen=True)
class Growth:
    """time = factor * size ** exponent, by least squares of logarithms."""

    exponent: float
    low: float
    high: float
    factor: float

    @property
    def noisy(self) -> bool:
        return not self.high - self.low <= WIDEST_EXPONENT

    def __str__(self) -> str:
        if self.noisy:
            return f"(too noisy: {self.low:.1f} to {self.high:.1f})"
        return f"{self.exponent:.2f} ({self.low:.2f} to {self.high:.2f})"


def growth(sizes: Sequence[float], times: Sequence[float]) -> Growth | None:
    """None of fewer than three sizes. The interval is Student's for a slope, so it holds what the
    points depart from a line, be it noise or a bend."""
    x, y = np.log(np.array(sizes, float)), np.log(np.array(times, float))
    if len(set(sizes)) < 3:
        return None
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * (x - x.mean())
    free = x.size - 2
    half = STUDENT[min(free, len(STUDENT)) - 1] * math.sqrt(float((rest**2).sum()) / free / spread)
    factor = math.exp(float(y.mean()) - slope * float(x.mean()))
    return Growth(slope, slope - half, slope + half, factor)
