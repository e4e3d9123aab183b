"""Train a language model on the text of a recipe, over the tokens of its models or over words."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipasr.base.log import setup_logging
from zipasr.cli.commands import TRAIN_LM, read
from zipasr.cli.entry import guarded
from zipasr.cli.lm_sources import lm_dir, token_ids
from zipasr.cli.ngram_lm import train_ngram
from zipasr.lm.config import LM_SIZES
from zipasr.text.config import TokenizerConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.config import LmTrainConfig
from zipasr.training.language_model import train_lm


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``epoch-N.pt`` to --exp-dir, or an ARPA file; print the perplexity on the dev text."""
    run = read(TRAIN_LM, argv)
    config = run[LmTrainConfig]
    if config.lm_type == "ngram":
        setup_logging()
        return train_ngram(run)
    tokenizer = Tokenizer.from_file(run[TokenizerConfig].bpe_model)
    setup_logging(config.folder / "log-train-lm")
    train = token_ids(config.lm_data or lm_dir(run.recipe) / "train.txt", tokenizer)
    valid = token_ids(config.lm_data_valid or lm_dir(run.recipe) / "valid.txt", tokenizer)
    about = {"vocab_size": tokenizer.vocab_size, "token_table": tokenizer.table_hash()}
    value = train_lm(config, run[LM_SIZES[config.lm_type]], train, valid, about)
    sys.stdout.write(f"perplexity on dev: {value:.3f}\n")
    return 0
