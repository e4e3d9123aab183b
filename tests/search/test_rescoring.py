import torch

from zipasr.search.protocol import ScaleSetting, Utterance
from zipasr.search.rescoring import (
    WholeUtteranceSearch,
    attention_scorer,
    attention_settings,
    language_model_scorer,
    lm_settings,
    lodr_settings,
)

NBEST = [
    [Utterance([1], [0], -1.0), Utterance([2, 3], [0, 1], -1.5), Utterance([], [], -4.0)],
    [Utterance([2], [0], -0.5)],
]


class Lengths:
    """A language model that likes long sequences."""

    def scorer(self, scale):
        raise NotImplementedError

    def log_probs(self, sequences):
        return [float(len(ids)) for ids in sequences]


class Attention:
    def nll(self, memory, memory_lens, token_ids):
        assert memory.shape[:2] == (len(token_ids), int(memory_lens[0]))
        return torch.tensor([[0.0 if ids == [1] else 2.0] for ids in token_ids])


def search(*rescorers, settings):
    return WholeUtteranceSearch(lambda frames, lens: NBEST, rescorers, settings, settings[0])


def test_weights_decide():
    settings = (
        ScaleSetting("_a", (1.0, 0.1)),
        ScaleSetting("_b", (1.0, 1.0)),
        ScaleSetting("_c", (1.0, -9.0)),
    )
    rescoring = search(language_model_scorer(Lengths()), settings=settings)
    frames, lens = torch.zeros(2, 3, 4), torch.tensor([3, 2])
    scored = rescoring.scored(rescoring.whole(frames, lens))
    found = {name: [one.best(weights) for one in scored] for name, weights in settings}
    assert {name: [u.tokens for u in those] for name, those in found.items()} == {
        "_a": [[1], [2]],
        "_b": [[2, 3], [2]],
        "_c": [[], [2]],
    }
    assert rescoring(frames, lens) == found["_a"]


def test_the_attention_decoder_sees_the_valid_frames_of_each_utterance():
    rescoring = search(attention_scorer(Attention()), settings=attention_settings())
    frames, lens = torch.zeros(2, 3, 4), torch.tensor([3, 2])
    assert [u.tokens for u in rescoring(frames, lens)] == [[1], [2]]


def test_published_weights():
    assert [one.name for one in lm_settings()][:2] == ["_nnlm_scale_0.10", "_nnlm_scale_0.11"]
    assert len(lm_settings()) == 40
    assert len(lodr_settings()) == 28 * 19
    by_name = {one.name: one.weights for one in lodr_settings()}
    assert by_name["_nnlm_scale_0.04_lodr_scale_0.05"] == (1.0, 0.04, -0.04 * 0.05)
