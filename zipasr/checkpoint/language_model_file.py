"""Checkpoints of language models: recurrent (ours and icefall's) and transformer."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from zipasr.base.config import flag_name, from_dict
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import mean_of
from zipasr.checkpoint.checkpoint_file import epoch_checkpoint, load_checkpoint
from zipasr.checkpoint.weights import StateDict, load_model, model_state
from zipasr.lm.config import LM_SIZES, LmSizes, RnnLmConfig
from zipasr.lm.neural import NeuralLm, build_lm
from zipasr.text.config import SENTENCE_ENDS_ID


class StoredLm(NamedTuple):
    """A language model in files.

    Attributes:
        path: of the newest one.
        config: sizes.
        vocab_size: V.
        token_table: hash of the table of tokens; ``None`` where the file does not say it.
        weights: state dict.
    """

    path: Path
    config: LmSizes
    vocab_size: int
    token_table: str | None
    weights: StateDict

    def build(self) -> NeuralLm:
        """Return the model with its weights, in training mode on the CPU.

        Raises:
            CheckpointError: the weights do not fit to the settings.
        """
        model = build_lm(self.vocab_size, self.config, SENTENCE_ENDS_ID)
        load_model(model, self.weights, self.path)
        return model

    def check_sizes(self, asked: LmSizes, vocab_size: int) -> None:
        """Refuse sizes that were asked for and are not those of the model.

        Raises:
            CheckpointError: one that is not at its default contradicts the file.
        """
        usual = type(asked)()
        pairs = {
            flag_name(f.name): [getattr(one, f.name) for one in (asked, usual, self.config)]
            for f in fields(usual)
        }
        pairs["--lm-vocab-size"] = [vocab_size, 500, self.vocab_size]
        for name, (wanted, default, found) in pairs.items():
            if wanted not in (default, found):
                raise CheckpointError(
                    f"{name} {wanted} was asked for, but {self.path} has {found}.",
                    f"leave {name} out.",
                )


def read_lm(folder: Path, lm_type: str, epoch: int, avg: int) -> StoredLm:
    """Read the mean of the last ``avg`` checkpoints of a language model up to ``epoch``.

    Raises:
        CheckpointError: one is missing or damaged, or holds no language model of the type.
    """
    epochs = range(max(1, epoch - avg + 1), epoch + 1)
    try:
        paths = [epoch_checkpoint(folder, n) for n in epochs]
    except CheckpointError as error:
        fix = "choose --lm-epoch and --lm-avg among these, or train one with ./train_lm.py."
        raise CheckpointError(error.what, fix) from error
    checkpoints = [load_checkpoint(path) for path in paths]
    last = checkpoints[-1]
    weights = mean_of(model_state(one) for one in checkpoints)
    found = type_of(weights)
    if found != lm_type:
        what = f"holds a language model of the type {found}" if found else "holds no language model"
        raise CheckpointError(
            f"{paths[-1]} {what}, not one of the type {lm_type} that can be read.",
            f"give --lm-type {found}." if found in LM_SIZES else "train one with ./train_lm.py.",
        )
    if "lm_config" in last:
        config: LmSizes = from_dict(LM_SIZES[lm_type], last["lm_config"])
    else:
        config = sizes_of(weights)
    table = last.get("token_table")
    return StoredLm(paths[-1], config, weights["input_embedding.weight"].size(0), table, weights)


def type_of(weights: StateDict) -> str | None:
    """Return the ``--lm-type`` of weights; ``None`` if they are of no language model we know."""
    if "input_embedding.weight" in weights and "rnn.weight_ih_l0" in weights:
        return "rnn"
    if "input_embedding.weight" in weights and "layers.0.attention_in.weight" in weights:
        return "transformer"
    return None


def sizes_of(weights: StateDict) -> RnnLmConfig:
    """Read the sizes of a recurrent language model off its weights."""
    embedding, output = weights["input_embedding.weight"], weights["output_linear.weight"]
    return RnnLmConfig(
        rnn_lm_embedding_dim=embedding.size(1),
        rnn_lm_hidden_dim=weights["rnn.weight_hh_l0"].size(1),
        rnn_lm_num_layers=sum(name.startswith("rnn.weight_ih_l") for name in weights),
        rnn_lm_tie_weights=bool(embedding.shape == output.shape and embedding.equal(output)),
    )
