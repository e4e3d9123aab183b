import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zipasr.search.hot_words import ContextGraph, HotWords

from . import golden

CASES = json.loads((golden.FOLDER / "hot_words.json").read_text())
PHRASES = ["S", "HE", "SHE", "SHELL", "HIS", "HERS", "HELLO", "THIS", "THEM"]
TEXTS = ["HEHERSHE", "HERSHE", "HISHE", "SHED", "SHELF", "HELL", "HELLO", "DHRHISQ", "THEN"]


def walk(graph: ContextGraph, tokens: list[int], *, strict: bool) -> tuple[list[float], float]:
    node, bonuses = graph.root, []
    for token in tokens:
        step = graph.step(node, token, strict=strict)
        bonuses.append(step.bonus)
        node = step.node
    return bonuses, graph.finish(node)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("mode", ["strict", "non_strict"])
def test_reference_results(case, mode):
    graph = ContextGraph(case["words"], case["context_score"], case["scores"])
    bonuses, end = walk(graph, case["tokens"], strict=mode == "strict")
    assert bonuses == pytest.approx(case[mode]["bonus"], abs=1e-6)
    assert end == pytest.approx(case[mode]["finalize"], abs=1e-6)


@pytest.mark.parametrize(
    ("strict", "per_phrase", "totals"),
    [
        (True, False, [14, 12, 9, 6, 6, 2, 7, 4, 2]),
        (False, False, [7, 5, 5, 3, 3, 2, 2, 3, 2]),
        (True, True, [35.84, 30.84, 24.18, 18.34, 18.34, 5, 13, 10.84, 5]),
        (False, True, [20, 15, 10.84, 10, 10, 5, 5, 5.84, 5]),
    ],
)
def test_published_totals(strict, per_phrase, totals):
    scores = [round(5 / len(phrase), 2) for phrase in PHRASES] if per_phrase else None
    graph = ContextGraph([[ord(c) for c in phrase] for phrase in PHRASES], 1.0, scores)
    for text, total in zip(TEXTS, totals, strict=True):
        bonuses, end = walk(graph, [ord(c) for c in text], strict=strict)
        assert sum(bonuses) + end == pytest.approx(total, abs=1e-6)


phrases = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=5)


@given(phrases=phrases, tokens=st.lists(st.integers(1, 4), max_size=12))
def test_what_a_broken_match_was_given_is_taken_back(phrases, tokens):
    """In the end only whole phrases count: without overlaps, as many tokens as they have."""
    bonuses, end = walk(ContextGraph(phrases, 1.0), tokens, strict=False)
    total = sum(bonuses) + end
    assert total >= -1e-9
    contained = [
        phrase
        for phrase in phrases
        for start in range(len(tokens))
        if tokens[start : start + len(phrase)] == phrase
    ]
    assert (total > 0) == bool(contained)
    assert total <= len(tokens)


@given(phrases=phrases, tokens=st.lists(st.integers(1, 4), max_size=12), strict=st.booleans())
def test_as_a_search_asks(phrases, tokens, strict):
    graph = ContextGraph(phrases, 1.5)
    scorer = HotWords(graph, strict=strict)
    state, total = scorer.start(2, torch.device("cpu")), torch.zeros(2)
    for token in tokens:
        both = torch.tensor([token, 4])
        total += scorer.score(state, both)
        state = scorer.extend(state, both)
    total += scorer.finish(state)
    bonuses, end = walk(graph, tokens, strict=strict)
    assert math.isclose(total[0].item(), sum(bonuses) + end, abs_tol=1e-5)
    assert total[1].item() == 0.0


def test_an_empty_phrase_has_no_effect():
    assert walk(ContextGraph([[]], 2.0), [1, 2], strict=True) == ([0.0, 0.0], 0.0)
