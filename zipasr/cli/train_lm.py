"""Train a recurrent language model on the text of a recipe, over the tokens of its models."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from zipasr.base.errors import DataError
from zipasr.base.log import setup_logging
from zipasr.cli.commands import TRAIN_LM, read
from zipasr.cli.flags import data_dir, guarded
from zipasr.lm.rnn import RnnLmConfig
from zipasr.text.tokenizer import Tokenizer, TokenizerConfig
from zipasr.training.language_model import LmTrainConfig, train_rnn_lm


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-N.pt`` to --exp-dir, and print the perplexity on the dev text."""
    run = read(TRAIN_LM, argv)
    config = run[LmTrainConfig]
    tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    folder = data_dir(run.recipe) / "lm"
    train = _sentences(config.lm_data or folder / "train.txt", tokenizer)
    valid = _sentences(config.lm_data_valid or folder / "valid.txt", tokenizer)
    setup_logging(config.exp_dir / "log-train-lm")
    logging.info("%d sentences to train on, %d to validate", len(train), len(valid))
    about = {"vocab_size": tokenizer.vocab_size, "token_table": tokenizer.table_hash()}
    value = train_rnn_lm(config, run[RnnLmConfig], train, valid, about)
    sys.stdout.write(f"perplexity on dev: {value:.3f}\n")
    return 0


def _sentences(path: Path, tokenizer: Tokenizer) -> list[list[int]]:
    if not path.is_file():
        raise DataError(f"there is no text at {path}.", "run ./prepare.sh --stage 5 first")
    lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
    sentences = tokenizer.encode([line for line in lines if line])
    if not sentences:
        raise DataError(f"{path} has no text.")
    return sentences
