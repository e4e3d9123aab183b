import math
from itertools import groupby, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.hot_words import ContextGraph, HotWords

from . import golden
from .tiny import assert_same, log_add

HEAD = CtcHead(lambda x: x)


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("run", golden.runs("ctc_prefix_beam_search"), ids=lambda run: run["id"])
def test_reference_results(run):
    options = run["options"]
    scorer = golden.hot_words(options, strict=True)
    search = CtcPrefixBeamSearch(HEAD, options["beam"], scorer)
    nbest = search.search(golden.arrays()[options["input"]], golden.arrays()["lens"])
    golden.check([hypotheses[0] for hypotheses in nbest], run)
    if "num_hyps" in run:
        assert [len(hypotheses) for hypotheses in nbest] == run["num_hyps"]


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), vocab_size=st.integers(2, 4), num_frames=st.integers(1, 4))
def test_beam_of_everything_is_enumeration(seed, vocab_size, num_frames):
    log_probs = logits(seed, num_frames, vocab_size).log_softmax(-1)
    totals: dict[tuple[int, ...], float] = {}
    for path in product(range(vocab_size), repeat=num_frames):
        tokens = tuple(symbol for symbol, _ in groupby(path) if symbol != 0)
        score = sum(log_probs[t, symbol].item() for t, symbol in enumerate(path))
        totals[tokens] = log_add(totals.get(tokens, -math.inf), score)
    search = CtcPrefixBeamSearch(HEAD, vocab_size**num_frames)
    (nbest,) = search.search(log_probs[None], torch.tensor([num_frames]))
    assert {tuple(one.tokens) for one in nbest} == set(totals)
    for one in nbest:
        assert abs(one.log_prob - totals[tuple(one.tokens)]) < 1e-4
    assert nbest[0].log_prob == max(one.log_prob for one in nbest)
    total = torch.tensor([one.log_prob for one in nbest]).logsumexp(0)
    assert abs(total.item()) < 1e-4


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    lens=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    beam_size=st.integers(1, 8),
    hot=st.booleans(),
)
def test_batch_equals_one_by_one(seed, lens, beam_size, hot):
    scorer = HotWords(ContextGraph([[1, 2], [2, 2, 3]], 1.0), strict=True) if hot else None
    frames = logits(seed, len(lens), max(lens), 5)
    settings = {"head": HEAD, "beam_size": beam_size, "scorer": scorer}
    got = CtcPrefixBeamSearch(**settings)(frames, torch.tensor(lens))
    want = [
        CtcPrefixBeamSearch(**settings)(frames[n : n + 1, :num], torch.tensor([num]))[0]
        for n, num in enumerate(lens)
    ]
    assert_same(got, want)


def test_frames_of_tokens_are_those_of_greedy_search_where_all_is_clear():
    path = [0, 3, 3, 0, 3, 2, 0, 0, 1]
    frames = torch.zeros(1, len(path), 4)
    frames[0, range(len(path)), path] = 20.0
    lens = torch.tensor([len(path)])
    got = CtcPrefixBeamSearch(HEAD)(frames, lens)
    assert got[0].tokens == [3, 3, 2, 1]
    assert got[0].frames == CtcGreedySearch(CtcHead(lambda x: x))(frames, lens)[0].frames


def test_an_empty_batch():
    assert CtcPrefixBeamSearch(HEAD)(torch.zeros(0, 3, 4), torch.zeros(0).long()) == []
