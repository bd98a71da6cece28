"""Ratios, their intervals, when one is refused, and exponents: on data whose truth is known."""

import math

import numpy as np
import pytest

from cuconv._bench.statistics import (
    Ratio,
    geometric_mean,
    growth,
    paired_ratio,
    quotient,
    unpaired_ratio,
)


def noisy(value, spread, count, seed):
    return value * np.exp(spread * np.random.default_rng(seed).standard_normal(count))


def test_what_disturbs_both_sides_of_a_round_cancels():
    machine = noisy(1, 0.5, 25, 1)
    ratio = paired_ratio(3 * machine, 2 * machine)
    assert ratio.value == pytest.approx(1.5)
    assert (ratio.low, ratio.high) == pytest.approx((1.5, 1.5))
    assert unpaired_ratio(3 * machine, 2 * machine).noisy


def test_intervals_hold_the_truth_nineteen_times_of_twenty():
    held = 0
    for seed in range(200):
        ours, theirs = noisy(2, 0.1, 15, seed), noisy(3, 0.1, 15, 10_000 + seed)
        ratio = paired_ratio(theirs, ours)
        held += ratio.low <= 1.5 <= ratio.high
        assert ratio.low <= ratio.value <= ratio.high
    assert held >= 180


def test_rounds_that_one_side_missed_do_not_count():
    assert paired_ratio([4.0, 4.0, 4.0], [2.0, 2.0, 2.0, 100.0]).value == 2


def test_the_same_times_give_the_same_interval():
    a, b = noisy(2, 0.2, 9, 1), noisy(1, 0.2, 9, 2)
    assert paired_ratio(a, b) == paired_ratio(a, b)


@pytest.mark.parametrize(
    ("low", "high", "refused"), [(0.8, 1.6, True), (1.0, 1.49, False), (0, 1, True)]
)
def test_a_wide_interval_is_told_instead_of_its_ratio(low, high, refused):
    ratio = Ratio(1.23, low, high)
    assert ratio.noisy == refused
    assert ("1.23" in str(ratio)) != refused
    assert str(Ratio(1.23, 0.8, 1.6)) == "too noisy: 0.80 to 1.60"


def test_nan_is_too_noisy():
    assert Ratio(math.nan, math.nan, math.nan).noisy


def test_more_seconds_are_advised_for_wider_intervals():
    narrow, wide = Ratio(1.1, 0.8, 1.6), Ratio(1.1, 0.4, 3.2)
    assert narrow.seconds_needed(1) == 3
    assert wide.seconds_needed(1) == 30
    assert Ratio(1.2, 1, 1.51).seconds_needed(0.1) == pytest.approx(0.2)


def test_a_geometric_mean_s_interval_is_the_noise_of_its_rows():
    ratio = Ratio(2, 2 / 1.1, 2 * 1.1)
    alone, many = geometric_mean([ratio]), geometric_mean([ratio] * 16)
    assert (alone.low, alone.high) == pytest.approx((ratio.low, ratio.high))
    assert many.value == pytest.approx(2)
    assert math.log(many.high / 2) == pytest.approx(math.log(1.1) / 4)
    assert geometric_mean([Ratio(4, 4, 4), Ratio(0.25, 0.25, 0.25)]).value == pytest.approx(1)


def test_a_quotient_is_wider_than_both():
    a, b = Ratio(2, 1.8, 2.2), Ratio(1, 0.95, 1.05)
    found = quotient(a, b)
    assert found.value == pytest.approx(2)
    assert found.low < a.low
    assert found.high > a.high


@pytest.mark.parametrize("exponent", [-1.0, 1.0, 2.5])
def test_an_exponent_is_found_again(exponent):
    sizes = [1, 2, 4, 8, 16]
    exact = growth(sizes, [3 * n**exponent for n in sizes])
    assert exact.exponent == pytest.approx(exponent)
    assert exact.factor == pytest.approx(3)
    assert (exact.low, exact.high) == pytest.approx((exponent, exponent))


def test_an_exponent_s_interval_holds_the_truth():
    sizes = np.array([8, 16, 32, 64, 128, 256])
    fits = [growth(sizes, noisy(1, 0.1, 6, seed) * sizes**2.0) for seed in range(200)]
    held = sum(fit.low <= 2 <= fit.high for fit in fits)
    assert 180 <= held < 200
    bend = growth(sizes, 100 + sizes**2.0)  # a fixed cost is no power: the interval says so
    assert bend.high - bend.low > 0.3


def test_an_exponent_that_might_be_another_is_not_told():
    fit = growth([1, 2, 4], [1, 3, 2])
    assert fit.noisy
    assert str(fit).startswith("(too noisy: ")
    assert f"{fit.exponent:.2f}" not in str(fit)
    assert str(growth([1, 2, 4], [1, 4, 16])) == "2.00 (2.00 to 2.00)"


def test_two_sizes_have_no_exponent():
    assert growth([1, 2], [1, 2]) is None
    assert growth([2, 2, 2], [1, 2, 3]) is None
