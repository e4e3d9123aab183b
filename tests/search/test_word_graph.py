import math
from itertools import groupby, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.lm.arpa import read_arpa
from zipasr.search.ctc import CtcHead
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.word_graph import WordGraph, WordScorer

from .tiny import log_add

HEAD = CtcHead(lambda x: x)
# One word begins another, two are said alike, one is said in two ways, [1, 2] is read twice.
LEXICON = [("a", [1]), ("b", [2]), ("ab", [1, 2]), ("bee", [2]), ("ab", [3, 3]), ("cab", [3, 1])]
ARPA = """\\data\\
ngram 1=7
ngram 2=3

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-0.7 a -0.2
-1.1 b -0.1
-0.6 ab
-1.0 bee -0.4
-0.8 cab

\\2-grams:
-0.2 <s> a
-0.1 a bee
-0.5 bee </s>

\\end\\
"""


@pytest.fixture(scope="module")
def grammar(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "3gram.arpa"
    path.write_text(ARPA)
    return read_arpa(path)


def every_reading(num_tokens, grammar, scale):
    """Words and score of each token sequence of up to some length, by writing all sentences."""
    best = {}
    for num_words in range(num_tokens + 1):
        for chosen in product(LEXICON, repeat=num_words):
            tokens = tuple(token for _, spelling in chosen for token in spelling)
            words = tuple(word for word, _ in chosen)
            score = scale * grammar.sentence(words) if grammar else 0.0
            if len(tokens) <= num_tokens and score > best.get(tokens, (-math.inf, ()))[0]:
                best[tokens] = score, words
    return best


@pytest.mark.parametrize("scale", [None, 0.0, 0.6, 2.0])
def test_readings_are_those_of_all_sentences_written_down(grammar, scale):
    used = None if scale is None else grammar
    graph, want = WordGraph(LEXICON, used, scale or 0.0), every_reading(4, used, scale or 0.0)
    for length in range(5):
        for tokens in product(range(1, 5), repeat=length):
            got = graph.read(tokens)
            assert (got is None) == (tokens not in want)
            if got is not None:
                assert math.isclose(got.score, want[tokens][0], abs_tol=1e-9)
                assert scale in (None, 0.0) or got.words == want[tokens][1]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), num_frames=st.integers(1, 4), scale=st.sampled_from([0.6, 2.0]))
def test_beam_of_everything_is_enumeration(grammar, seed, num_frames, scale):
    noise = torch.randn(num_frames, 5, generator=torch.Generator().manual_seed(seed))
    log_probs = (2 * noise).log_softmax(-1)
    totals = {}
    for path in product(range(5), repeat=num_frames):
        tokens = tuple(symbol for symbol, _ in groupby(path) if symbol != 0)
        score = sum(log_probs[t, symbol].item() for t, symbol in enumerate(path))
        totals[tokens] = log_add(totals.get(tokens, -math.inf), score)
    readings = every_reading(num_frames, grammar, scale)
    want = {tokens: totals[tokens] + readings[tokens][0] for tokens in totals.keys() & readings}
    graph = WordGraph(LEXICON, grammar, scale)
    search = CtcPrefixBeamSearch(HEAD, 5**num_frames, WordScorer(graph))
    (nbest,) = search.search(log_probs[None], torch.tensor([num_frames]))
    assert {tuple(one.tokens) for one in nbest} == set(want)
    for one in nbest:
        assert abs(one.log_prob - want[tuple(one.tokens)]) < 1e-4
    assert tuple(nbest[0].tokens) == max(want, key=want.get)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), beam_size=st.integers(1, 6))
def test_without_limits_the_search_is_the_one_without_words(seed, beam_size):
    frames = 2 * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed))
    lens = torch.tensor([6, 4])
    every = WordScorer(WordGraph([(str(token), [token]) for token in range(1, 4)]))
    free = CtcPrefixBeamSearch(HEAD, beam_size).search(frames, lens)
    assert CtcPrefixBeamSearch(HEAD, beam_size, every).search(frames, lens) == free


def test_a_word_without_tokens_is_refused():
    with pytest.raises(ValueError, match="'x' has no tokens"):
        WordGraph([("x", [])])
