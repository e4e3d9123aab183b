"""What every decoding method finds with one small seeded model, as recorded.

Record anew, after a change that is meant to change results:
``python -m tests.search.test_method_outputs``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.lm.dictionary import lm_of
from zipasr.lm.config import RnnLmConfig
from zipasr.lm.rnn import RnnLm
from zipasr.search.components import DecodingResources, ModelParts, Vocabulary
from zipasr.search.config import DecodingConfig, LatticeConfig
from zipasr.search.hot_words import ContextGraph
from zipasr.search.language_models import NeuralTokens, NgramTokens
from zipasr.search.lexicon_graph import word_graph
from zipasr.search.methods import METHODS, Need
from zipasr.search.protocol import Utterance
from zipasr.search.registry import build_search

from .tiny import ENCODER_DIM, tiny_batch, tiny_steps
from .words import GRAMMAR, LEXICON, OTHER

FILE = Path(__file__).resolve().parents[1] / "golden" / "search" / "methods.json"
VOCAB_SIZE = 5
PIECES = ["<blk>", "x", "y", "z", "w"]
TOKEN_NGRAM = lm_of(
    {
        ("<s>",): -99.0, ("</s>",): -0.8, ("x",): -0.5, ("y",): -0.7, ("z",): -0.9, ("w",): -1.2,
        ("<unk>",): -2.0, ("<s>", "x"): -0.3, ("x", "y"): -0.2, ("z", "z"): -0.4,
    },
    {("<s>",): -0.2, ("x",): -0.3, ("z",): -0.1},
    2,
)  # fmt: skip
#: For which settings of a rescoring the results are stored: as many, evenly spread.
NUM_SETTINGS = 6


class AttentionDecoder:
    """Hypotheses judged by a fixed function of their tokens and of the frames."""

    def nll(
        self, memory: Tensor, memory_lens: Tensor, token_ids: Sequence[Sequence[int]]
    ) -> Tensor:
        width = 1 + max(map(len, token_ids))
        losses = torch.zeros(len(token_ids), width)
        for row, (ids, num) in enumerate(zip(token_ids, memory_lens.tolist(), strict=True)):
            mean = memory[row, :num].mean(dim=0)
            for place, token in enumerate([*ids, 0]):
                losses[row, place] = 0.3 + (mean[(token + place) % ENCODER_DIM] - token / 4).abs()
        return losses


def language_model() -> NeuralTokens:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        config = RnnLmConfig(rnn_lm_embedding_dim=6, rnn_lm_hidden_dim=6, rnn_lm_num_layers=1)
        model = RnnLm(VOCAB_SIZE, config, sentence_ends_id=0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.5)
    return NeuralTokens(model.eval())


def resources(name: str) -> DecodingResources:
    hot_words = ContextGraph([[1, 2], [3]], 0.5) if METHODS[name].hot_words else None
    low_order = NgramTokens(TOKEN_NGRAM.with_unknown(), PIECES)
    scale = 0.4 if name.endswith("_LG") else -0.2
    limits = LatticeConfig(num_paths=20, max_states=16, max_contexts=6, allow_partial=True)
    vocabulary = Vocabulary(word_graph(LEXICON, GRAMMAR), word_graph(LEXICON, OTHER))
    return DecodingResources(limits, hot_words, language_model(), 0.4, low_order, scale, vocabulary)


@cache
def found(name: str) -> dict[str, list[list[Utterance]]]:
    """By the name of a setting, for each utterance the results that there are to choose from."""
    steps = tiny_steps(11, VOCAB_SIZE, blank_bias=1.0)
    frames, lens = tiny_batch(11, [14, 9, 1])
    weight = torch.randn(ENCODER_DIM, VOCAB_SIZE, generator=torch.Generator().manual_seed(12))
    parts = ModelParts(steps.decoder, steps.joiner, lambda x: x @ weight, AttentionDecoder())
    search = build_search(DecodingConfig(decoding_method=name), parts, resources(name))
    results = {"": [[one] for one in search(frames, lens)]}
    scored = search.scored(search.whole(frames, lens))
    if Need.REFERENCE in METHODS[name].needs:
        results["choices"] = [one.hypotheses for one in scored]
    if len(search.settings) > 1:
        for setting, weights in search.settings[:: len(search.settings) // NUM_SETTINGS]:
            results[setting] = [[one.best(weights)] for one in scored]
    return results


def as_json(results: dict[str, list[list[Utterance]]]) -> dict[str, Any]:
    return {
        setting: [
            [
                [
                    one.tokens,
                    one.frames,
                    round(one.log_prob, 5),
                    None if one.words is None else [*one.words],
                ]
                for one in those
            ]
            for those in utterances
        ]
        for setting, utterances in results.items()
    }


@cache
def stored() -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(FILE.read_text())
    return recorded


def test_every_method_is_recorded() -> None:
    assert stored().keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_finds_what_was_recorded(name: str) -> None:
    now, before = as_json(found(name)), stored()[name]
    assert now.keys() == before.keys()
    for setting, utterances in before.items():
        for those, recorded in zip(now[setting], utterances, strict=True):
            for one, wanted in zip(those, recorded, strict=True):
                assert one[:2] + one[3:] == wanted[:2] + wanted[3:], setting
                assert one[2] == pytest.approx(wanted[2], abs=1e-4), setting


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(as_json(found(name)))}" for name in METHODS]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
