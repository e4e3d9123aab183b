import math
import os

import pytest
import torch

from tests.lm import test_transformer
from tests.training.short import ALONE
from zipasr.base.distributed import launch
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import find_checkpoints, load_checkpoint
from zipasr.checkpoint.language_model_file import read_lm, sizes_of
from zipasr.lm import transformer
from zipasr.lm.config import RnnLmConfig
from zipasr.lm.ngram_estimation import Sentences
from zipasr.lm.rnn import RnnLm
from zipasr.nn.numerics import has_bfloat16
from zipasr.training import language_model
from zipasr.training.config import LmTrainConfig
from zipasr.training.language_model import perplexity, train_lm

SIZES = {
    "rnn": RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=8, rnn_lm_num_layers=1),
    "transformer": test_transformer.SIZES,
}
ABOUT = {"vocab_size": 6, "token_table": "abc"}
LINES = [[2, 3, 4], [2, 3], [], [5, 3, 4]] * 4
TEXT = Sentences.of(LINES)


def train(folder, kind, num_epochs, world=ALONE, **flags):
    config = LmTrainConfig(
        lm_type=kind, exp_dir=folder, num_epochs=num_epochs, batch_size=4, lr=0.05, **flags
    )
    return train_lm(config, SIZES[kind], TEXT, TEXT, ABOUT, world)


def test_perplexity_is_that_of_the_definition():
    torch.manual_seed(0)
    model = RnnLm(6, SIZES["rnn"], 1)
    total, count = 0.0, 0
    for ids in LINES:
        log_probs, hidden, cell = model.start(1, torch.device("cpu"))
        for token in [*ids, 1]:
            total, count = total - log_probs[0, token].item(), count + 1
            log_probs, hidden, cell = model.step(torch.tensor([token]), hidden, cell)
    assert perplexity(model, TEXT, 3, ALONE) == pytest.approx(math.exp(total / count), rel=1e-4)


@pytest.mark.parametrize("kind", SIZES)
def test_it_learns_and_goes_on_where_it_was(kind, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", kind, 6)
    assert whole < 3.0
    assert not find_checkpoints(tmp_path / "whole")
    parts = tmp_path / "parts"
    train(parts, kind, 3)

    # The fourth epoch ends in the middle; two updates of it are kept.
    updates = iter(range(3))
    update = language_model._Training._update

    def some(self, batch, number):
        if next(updates, None) is None:
            raise KeyboardInterrupt
        return update(self, batch, number)

    monkeypatch.setattr(language_model._Training, "_update", some)
    with pytest.raises(KeyboardInterrupt):
        train(parts, kind, 6, save_every_n=2)
    monkeypatch.undo()
    assert [path.name for path in find_checkpoints(parts)] == ["checkpoint-14.pt"]

    assert train(parts, kind, 6) == whole
    stored = read_lm(parts, kind, 6, 1)
    assert (stored.config, stored.vocab_size, stored.token_table) == (SIZES[kind], 6, "abc")
    assert perplexity(stored.build().eval(), TEXT, 4, ALONE) == pytest.approx(whole, rel=1e-6)
    values = [load_checkpoint(parts / f"epoch-{n}.pt")["valid_perplexity"] for n in range(1, 7)]
    # The best one may have been within an epoch.
    assert load_checkpoint(parts / "best-valid-loss.pt")["valid_perplexity"] <= min(values)


def test_a_folder_of_another_model_is_refused(tmp_path):
    train(tmp_path, "rnn", 1)
    assert sizes_of(read_lm(tmp_path, "rnn", 1, 1).weights) == SIZES["rnn"]
    with pytest.raises(CheckpointError, match=r"epoch-1.pt"):
        train(tmp_path, "transformer", 2)
    with pytest.raises(CheckpointError, match=r"of the type rnn.*Fix: give --lm-type rnn"):
        read_lm(tmp_path, "transformer", 1, 1)
    with pytest.raises(CheckpointError, match="--rnn-lm-hidden-dim 16 was asked for"):
        read_lm(tmp_path, "rnn", 1, 1).check_sizes(
            RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=16, rnn_lm_tie_weights=False),
            500,
        )
    config = LmTrainConfig(exp_dir=tmp_path, num_epochs=2)
    with pytest.raises(CheckpointError, match="is a language model of other tokens"):
        train_lm(config, SIZES["rnn"], TEXT, TEXT, ABOUT | {"token_table": "xyz"}, ALONE)


def trains_both_kinds(world, folder):
    transformer.DROPOUT = 0.0  # each process draws its own
    torch.set_default_dtype(torch.float64)
    for kind in SIZES:
        train(folder / kind, kind, 2, world, save_every_n=2)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two processes need two cores")
def test_two_processes_train_as_one_does(tmp_path, monkeypatch):
    launch(trains_both_kinds, 2, 12371, tmp_path / "two")
    monkeypatch.setattr(transformer, "DROPOUT", 0.0)
    try:
        trains_both_kinds(ALONE, tmp_path / "one")
    finally:
        torch.set_default_dtype(torch.float32)
    for kind in SIZES:
        one, two = (load_checkpoint(tmp_path / n / kind / "epoch-2.pt") for n in ("one", "two"))
        assert two["valid_perplexity"] == pytest.approx(one["valid_perplexity"], rel=1e-9)
        for name, value in one["model"].items():
            torch.testing.assert_close(two["model"][name], value, rtol=1e-7, atol=1e-7)


@pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")),
    reason="this processor multiplies no bfloat16 matrices",
)
def test_in_bfloat16_it_learns_as_in_float32(tmp_path):
    values = [train(tmp_path / str(half), "rnn", 3, use_bf16=half) for half in (False, True)]
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert values[1] != values[0]
