"""Calibration of confidence, and how reliable it is, against plain definitions."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.scoring.decoded import decoding
from zipasr.scoring.calibration import (
    Calibration,
    fitted,
    reliability,
    share_interval,
    word_outcomes,
)
from zipasr.scoring.decodings import UtteranceRecord

outcomes_of_words = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=300)


def drawn(num: int, scale: float, offset: float, seed: int = 1) -> tuple[list[float], list[bool]]:
    """Return confidences, and outcomes whose probability is a known map of them."""
    draws, true = random.Random(seed), Calibration(scale=scale, offset=offset)
    confidences = [draws.uniform(0.05, 0.999) for _ in range(num)]
    return confidences, [draws.random() < true.of(one) for one in confidences]


def test_a_known_map_is_found_again() -> None:
    found = fitted(*drawn(40_000, 0.6, 1.5), "dev")
    assert found.scale == pytest.approx(0.6, abs=0.05)
    assert found.offset == pytest.approx(1.5, abs=0.05)
    assert found.words == 40_000
    assert f"on dev: 40000 words, {found.wrong} wrong" in found.about


@pytest.mark.parametrize(("scale", "offset"), [(0.6, 2.5), (1.5, -1.0), (1.0, 0.0)])
def test_the_fit_is_that_of_another_optimiser(scale: float, offset: float) -> None:
    confidences, outcomes = drawn(500, scale, offset)
    right = sum(outcomes)
    targets = torch.tensor(
        [(right + 1) / (right + 2) if one else 1 / (500 - right + 2) for one in outcomes]
    ).double()
    inputs = torch.tensor([math.log(one / (1 - one)) for one in confidences]).double()
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = weights[0] * inputs + weights[1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        value.backward()
        return value

    optimiser.step(loss)
    found = fitted(confidences, outcomes, "dev")
    assert [found.scale, found.offset] == pytest.approx(weights.tolist(), abs=1e-4)


@given(outcomes_of_words)
def test_a_fit_keeps_the_order_and_is_a_probability(words: list[tuple[float, bool]]) -> None:
    confidences, outcomes = map(list, zip(*words, strict=True))
    found = fitted(confidences, outcomes, "dev")
    mapped = [found.of(one) for one in sorted(confidences)]
    assert all(0 <= one <= 1 for one in mapped)
    assert mapped == sorted(mapped)
    assert found.wrong == outcomes.count(False)


def test_a_set_without_errors_gives_no_certainty() -> None:
    found = fitted([0.9, 0.95, 0.99] * 30, [True] * 90, "dev")
    assert 0.97 < found.of(0.95) < 1


def test_confidence_that_says_the_opposite_gives_all_words_one_probability() -> None:
    found = fitted([0.1] * 50 + [0.9] * 50, [True] * 50 + [False] * 50, "dev")
    assert found.of(0.1) == found.of(0.9) == pytest.approx(0.5)


@given(outcomes_of_words)
def test_the_error_is_its_definition(words: list[tuple[float, bool]]) -> None:
    found = reliability(*zip(*words, strict=True))
    ordered = sorted(words, key=lambda one: one[0])
    off, at = 0.0, 0
    for one in found.bins:
        members = ordered[at : at + one.words]
        at += one.words
        assert (one.low, one.high) == (members[0][0], members[-1][0])
        assert one.interval.low - 1e-12 <= one.right <= one.interval.high + 1e-12
        off += abs(sum(c for c, _ in members) - sum(right for _, right in members))
    assert at == found.words == len(words)
    assert found.error == pytest.approx(100 * off / len(words))
    sizes = [one.words for one in found.bins]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == 1 or min(sizes) >= 49


def test_errors_of_confidence_that_is_known() -> None:
    assert reliability([0.5] * 100, [True, False] * 50).error == pytest.approx(0)
    assert reliability([0.9] * 40, [True, False] * 20).error == pytest.approx(40)
    assert reliability([], []) == ([], 0, 0.0)
    confidences, outcomes = drawn(30_000, 0.5, 2.0)
    fit = fitted(confidences, outcomes, "dev")
    assert reliability(confidences, outcomes).error > 15
    assert reliability([fit.of(one) for one in confidences], outcomes).error < 1


def test_the_interval_of_a_share_is_where_the_normal_test_does_not_refuse_it() -> None:
    low, high = share_interval(7, 20)
    for edge in (low, high):
        assert abs(0.35 - edge) == pytest.approx(1.96 * math.sqrt(edge * (1 - edge) / 20))
    assert share_interval(0, 5).low == 0
    assert share_interval(5, 5).high == 1


def test_words_without_a_known_confidence_do_not_count() -> None:
    known = UtteranceRecord(
        id="a", ref=["A", "B"], hyp=["A", "X", "B"], confidences=[0.9, 0.2, 0.8]
    )
    unknown = UtteranceRecord(id="b", ref=["A"], hyp=["A"])
    assert word_outcomes([known, unknown]) == ([0.9, 0.2, 0.8], [True, False, True])
    assert word_outcomes(decoding("greedy_search", 0.2, 1).records) == ([], [])
