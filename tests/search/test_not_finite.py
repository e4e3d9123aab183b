"""Scores that are no numbers: every method ends in one sentence, none in a traceback or nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from zipasr.base.errors import NumericError
from zipasr.search.components import ModelParts
from zipasr.search.config import DecodingConfig
from zipasr.search.methods import METHODS
from zipasr.search.protocol import ScoredNbest
from zipasr.search.registry import build_search

from .test_method_outputs import VOCAB_SIZE, AttentionDecoder, resources
from .tiny import ENCODER_DIM, tiny_batch, tiny_steps

# What a method reads beside the frames.
HEADS = {"transducer": "joiner", "ctc": "head"}


def scored(name: str, place: str, value: float) -> list[ScoredNbest]:
    """Search with a value that is no number at one place of the model."""
    steps = tiny_steps(11, VOCAB_SIZE, blank_bias=1.0)
    frames, lens = tiny_batch(11, [14, 9, 1])
    weight = torch.randn(ENCODER_DIM, VOCAB_SIZE, generator=torch.Generator().manual_seed(12))
    if place == "frames":
        frames[0, 3, 2] = value
    elif place == "beyond":
        frames[1, 9:] = value
    elif place == "joiner":
        with torch.no_grad():
            steps.joiner.output_linear.bias[1] = value
    weight[0, 1] = value if place == "head" else weight[0, 1]

    def head(x: Tensor) -> Tensor:
        return (x @ weight).log_softmax(dim=-1)

    parts = ModelParts(steps.decoder, steps.joiner, head, AttentionDecoder())
    search = build_search(DecodingConfig(decoding_method=name), parts, resources(name))
    return search.scored(search.whole(frames, lens))


PLACES = [(name, place) for name, of in METHODS.items() for place in ("frames", HEADS[of.head])]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_a_value_that_is_no_number_is_refused(name: str, place: str, value: float) -> None:
    with pytest.raises(NumericError, match="scores that are not finite numbers"):
        scored(name, place, value)


@pytest.mark.parametrize("name", ["greedy_search", "1best", "fast_beam_search"])
def test_what_is_beyond_an_utterance_is_not_looked_at(name: str) -> None:
    assert scored(name, "beyond", math.nan)
