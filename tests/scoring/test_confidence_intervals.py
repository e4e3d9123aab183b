"""Intervals and tests of significance against plain counting and known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.scoring.confidence_intervals import compare, matched_pairs, rate_interval

ERRORS = st.lists(st.integers(0, 5), min_size=1, max_size=30)


def test_interval_of_independent_errors_is_that_of_the_binomial() -> None:
    draws = np.random.default_rng(0).random(2000) < 0.1
    low, high = rate_interval(draws.astype(int).tolist(), [1] * 2000)
    rate = 100 * draws.mean()
    half = 1.96 * 100 * math.sqrt(draws.mean() * (1 - draws.mean()) / 2000)
    assert low == pytest.approx(rate - half, abs=0.1)
    assert high == pytest.approx(rate + half, abs=0.1)


@given(errors=ERRORS)
def test_interval_holds_the_rate_and_is_repeatable(errors: list[int]) -> None:
    words = [5] * len(errors)
    low, high = rate_interval(errors, words)
    assert low <= 100 * sum(errors) / sum(words) <= high
    assert rate_interval(errors, words) == (low, high)


def test_interval_of_nothing() -> None:
    assert rate_interval([], []) == (0.0, 0.0)
    assert rate_interval([0, 0], [0, 0]) == (0.0, 0.0)
    assert rate_interval([1, 1, 1], [2, 2, 2]) == (50.0, 50.0)


def test_matched_pairs_against_the_formula() -> None:
    difference = np.array([1.0, 0.0, -2.0, 1.0, 3.0, 0.0, 1.0, 0.0])
    z = difference.mean() / (difference.std(ddof=1) / math.sqrt(8))
    expected = 2 * (1 - 0.5 * (1 + math.erf(abs(z) / math.sqrt(2))))
    assert matched_pairs(difference) == pytest.approx(expected)
    assert matched_pairs(np.zeros(5)) == 1.0
    assert matched_pairs(np.ones(5)) == 0.0


def test_chance_is_called_significant_in_one_of_twenty_cases() -> None:
    draws = np.random.default_rng(1)
    found = 0
    for _ in range(2000):
        first, second = draws.poisson(1.0, (2, 200))
        found += matched_pairs((second - first).astype(float)) < 0.05
    assert 70 <= found <= 130


def test_comparison_counts_utterances() -> None:
    found = compare([2, 0, 1, 4], [1, 0, 2, 0], [10, 10, 10, 10])
    assert (found.better, found.worse, found.equal) == (2, 1, 1)
    assert found.difference == pytest.approx(-10.0)
    assert found.interval.low <= -10.0 <= found.interval.high
    assert not found.is_significant
    with pytest.raises(ValueError, match="the same utterances"):
        compare([1], [1, 2], [3, 4])


@given(errors=ERRORS)
def test_nothing_is_better_than_itself(errors: list[int]) -> None:
    found = compare(errors, errors, [3] * len(errors))
    assert (found.difference, found.p_value, found.equal) == (0.0, 1.0, len(errors))
