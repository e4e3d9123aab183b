import math

import pytest
import torch

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.language_model import read_rnn_lm, sizes_of
from zipasr.lm.rnn import RnnLm, RnnLmConfig
from zipasr.lm.text import Sentences
from zipasr.training.language_model import LmTrainConfig, perplexity, train_rnn_lm

SIZES = RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=8, rnn_lm_num_layers=1)
ABOUT = {"vocab_size": 6, "token_table": "abc"}
LINES = [[2, 3, 4], [2, 3], [], [5, 3, 4]] * 4
TEXT = Sentences.of(LINES)


def train(folder, num_epochs):
    config = LmTrainConfig(exp_dir=folder, num_epochs=num_epochs, batch_size=4, lr=0.05)
    return train_rnn_lm(config, SIZES, TEXT, TEXT, ABOUT)


def test_perplexity_is_that_of_the_definition():
    torch.manual_seed(0)
    model = RnnLm(6, SIZES, 1)
    total, count = 0.0, 0
    for ids in LINES:
        log_probs, hidden, cell = model.start(1, torch.device("cpu"))
        for token in [*ids, 1]:
            total, count = total - log_probs[0, token].item(), count + 1
            log_probs, hidden, cell = model.step(torch.tensor([token]), hidden, cell)
    assert perplexity(model, TEXT, 3) == pytest.approx(math.exp(total / count), rel=1e-4)


def test_it_learns_and_goes_on_where_it_was(tmp_path):
    whole = train(tmp_path / "whole", 6)
    assert whole < 3.0
    train(tmp_path / "parts", 3)
    assert train(tmp_path / "parts", 6) == pytest.approx(whole, rel=1e-6)
    stored = read_rnn_lm(tmp_path / "parts", 6, 1)
    assert (stored.config, stored.vocab_size, stored.token_table) == (SIZES, 6, "abc")
    assert sizes_of(stored.weights) == SIZES
    assert perplexity(stored.build(), TEXT, 4) == pytest.approx(whole, rel=1e-6)
    with pytest.raises(CheckpointError, match="--rnn-lm-hidden-dim 16 was asked for"):
        stored.check_sizes(
            RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=16, rnn_lm_tie_weights=False),
            500,
        )
