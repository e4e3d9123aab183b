"""Probabilities of recognised tokens, against the log-probability of the whole path."""

from __future__ import annotations

import pytest
import torch

from zipasr.model.decoder import Decoder
from zipasr.model.joiner import Joiner
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.forced_alignment import ctc_token_log_probs, transducer_token_log_probs
from zipasr.search.greedy import GreedySearch
from zipasr.search.transducer_step import TransducerSteps

FRAMES, CHANNELS, TOKENS = 30, 8, 6


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_tokens_and_blanks_make_up_the_path_of_greedy_search(seed: int) -> None:
    torch.manual_seed(seed)
    decoder = Decoder(TOKENS, CHANNELS, blank_id=0, context_size=2).eval()
    joiner = Joiner(CHANNELS, CHANNELS, CHANNELS, TOKENS).eval()
    steps = TransducerSteps(decoder, joiner)
    frames = 4 * torch.randn(1, FRAMES, CHANNELS)
    (found,) = GreedySearch(steps, 1)(frames, torch.tensor([FRAMES]))
    assert found.tokens
    scores = transducer_token_log_probs(frames[0], found.tokens, found.frames, steps)
    # What the blanks of the other frames have, one by one.
    blanks, history, emitted = 0.0, [-1, 0], dict(zip(found.frames, found.tokens, strict=True))
    for t in range(FRAMES):
        prediction = steps.predict(torch.tensor([history[-2:]]))
        log_probs = steps.next_scores(steps.project(frames[:, t]), prediction)[0]
        if t in emitted:
            history.append(emitted[t])
        else:
            blanks += float(log_probs[0])
    assert sum(scores) + blanks == pytest.approx(found.log_prob, abs=1e-4)
    assert transducer_token_log_probs(frames[0], [], [], steps) == []


def test_tokens_of_the_ctc_head() -> None:
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(FRAMES, TOKENS)).log_softmax(-1)
    search = CtcGreedySearch(CtcHead(torch.nn.Identity()))
    (found,) = search(log_probs[None], torch.tensor([FRAMES]))
    scores = ctc_token_log_probs(log_probs, found.tokens, found.frames)
    assert scores == pytest.approx([float(log_probs[f].max()) for f in found.frames])
    assert ctc_token_log_probs(log_probs, [], []) == []
