import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lm import backoff_graph, test_transformer
from tests.lm.test_ngram import GOLDEN
from zipasr.lm.config import RnnLmConfig
from zipasr.lm.ngram_file import open_ngrams
from zipasr.lm.rnn import RnnLm
from zipasr.search.components import DecodingResources, ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.ctc_greedy import CtcHead
from zipasr.search.ctc_prefix import CtcPrefixBeamSearch
from zipasr.search.language_models import NeuralTokens, NgramTokens
from zipasr.search.modified_beam_search import ModifiedBeamSearch
from zipasr.search.registry import build_search
from zipasr.search.scorers import Sum, sum_scorers

from .tiny import Loops, assert_same, tiny_batch, tiny_steps

PIECES = ["<blk>", "<sos/eos>", "<unk>", "a", "b", "c", "x"]


def models(exact_backoff=True):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        sizes = RnnLmConfig(rnn_lm_embedding_dim=6, rnn_lm_hidden_dim=6, rnn_lm_num_layers=2)
        rnn = RnnLm(7, sizes, 1).eval()
    return {
        "ngram": NgramTokens(open_ngrams(GOLDEN / "trigram.arpa"), PIECES, exact_backoff),
        "rnn": NeuralTokens(rnn),
        "transformer": NeuralTokens(test_transformer.tiny()),
    }


@pytest.mark.parametrize("kind", ["ngram", "rnn", "transformer"])
def test_token_by_token_is_the_whole_but_its_end(kind):
    model = models()[kind]
    sequences = [[3, 4, 3, 4, 5], [6, 6, 3, 3, 4]]
    scorer = model.scorer(0.5)
    state, total = scorer.start(2, torch.device("cpu")), torch.zeros(2)
    for column in zip(*sequences, strict=True):
        total += scorer.score(state, torch.tensor(column))
        state = scorer.extend(state, torch.tensor(column))
    if kind == "ngram":
        ends = [
            open_ngrams(GOLDEN / "trigram.arpa").score(c, "</s>") for c in (("b", "c"), ("a", "b"))
        ]
    else:
        ends = state[0][:, 1].tolist()
    for one, whole, end in zip(total.tolist(), model.log_probs(sequences), ends, strict=True):
        assert one / 0.5 + end == pytest.approx(whole, abs=1e-4)
    assert scorer.finish(state).tolist() == [0.0, 0.0]


@settings(max_examples=30)
@given(model=backoff_graph.models(), sequence=st.lists(st.sampled_from("abc"), max_size=5))
def test_an_ngram_scores_by_its_best_path(model, sequence):
    """What LODR and modified_beam_search_ngram_rescoring add, against the graph written down."""
    graph, pieces = backoff_graph.BackoffGraph(model), [*"abc"]
    scorer = NgramTokens(model, pieces).scorer(-0.5)
    state, total = scorer.start(1, torch.device("cpu")), 0.0
    for token in sequence:
        total += scorer.score(state, torch.tensor([pieces.index(token)])).item()
        state = scorer.extend(state, torch.tensor([pieces.index(token)]))
    best = max(score for score, _ in graph.paths(tuple(sequence)))
    assert total == pytest.approx(-0.5 * best, abs=1e-4)


@pytest.mark.parametrize("kind", ["ngram", "rnn", "transformer"])
def test_a_search_with_a_language_model_adds_its_scores(kind):
    """Over a beam of everything: the log-probability is that without it, and what it says."""
    model, steps = models()[kind], tiny_steps(4)
    frames, lens = tiny_batch(4, [3, 2])
    plain = ModifiedBeamSearch(steps, 7**3).search(frames, lens)
    fused = ModifiedBeamSearch(steps, 7**3, model.scorer(0.3)).search(frames, lens)
    for before, after in zip(plain, fused, strict=True):
        known = {tuple(one.tokens): one.log_prob for one in before}
        assert len(after) == len(before)
        for one in after:
            scorer, total = model.scorer(0.3), 0.0
            state = scorer.start(1, torch.device("cpu"))
            for token in one.tokens:
                total += scorer.score(state, torch.tensor([token])).item()
                state = scorer.extend(state, torch.tensor([token]))
            assert math.isclose(one.log_prob, known[tuple(one.tokens)] + total, abs_tol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_an_ngram_that_ranks_is_no_part_of_the_score(seed):
    """modified_beam_search_ngram_rescoring, against the definition one hypothesis at a time."""
    model, steps = models()["ngram"], tiny_steps(seed, blank_bias=0.0)
    frames, lens = tiny_batch(seed, [12, 9])

    def rank(tokens):
        scorer, total = model.scorer(1.5), 0.0
        state = scorer.start(1, torch.device("cpu"))
        for token in tokens:
            total += scorer.score(state, torch.tensor([token])).item()
            state = scorer.extend(state, torch.tensor([token]))
        return total

    config = DecodingConfig(decoding_method="modified_beam_search_ngram_rescoring", beam_size=3)
    aids = DecodingResources(low_order=model, low_order_scale=1.5)
    got = build_search(config, ModelParts(steps.decoder, steps.joiner), aids)(frames, lens)
    want = [Loops(steps).beam(one[:num], 3, rank) for one, num in zip(frames, lens, strict=True)]
    assert_same(got, want)
    plain = [Loops(steps).beam(one[:num], 3) for one, num in zip(frames, lens, strict=True)]
    assert [one.tokens for one in plain] != [one.tokens for one in want]


@pytest.mark.parametrize("kind", ["rnn", "transformer"])
@pytest.mark.parametrize("head", ["transducer", "ctc"])
def test_several_scorers_are_a_sum_and_a_batch_is_one_by_one(kind, head):
    both = models()
    scorer = sum_scorers([both[kind].scorer(0.5), both["ngram"].scorer(-0.2)])
    assert isinstance(scorer, Sum)
    weight = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    search = {
        "transducer": ModifiedBeamSearch(tiny_steps(2), 4, scorer),
        "ctc": CtcPrefixBeamSearch(CtcHead(lambda frames: frames @ weight), 4, scorer),
    }[head]
    frames, lens = tiny_batch(2, [6, 4, 1])
    got = search.search(frames, lens)
    want = [
        search.search(frames[n : n + 1, :num], lens[n : n + 1])[0]
        for n, num in enumerate(lens.tolist())
    ]
    for those, others in zip(got, want, strict=True):
        assert_same(those, others)
    halves = search.start(3, frames.device)
    for start, end in ((0, 3), (3, 6)):
        left = (lens - start).clamp(0, end - start)
        halves = search.advance(halves, frames[:, start:end], left)
    assert_same(search.results(halves), [nbest[0] for nbest in got])
    assert sum_scorers([]) is None
