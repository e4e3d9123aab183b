"""Stage 3: learn the vocabulary from the training transcripts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zipasr.base.log import setup_logging
from zipasr.cli.commands import BPE, read
from zipasr.cli.corpora import corpus_of, transcripts, words_of
from zipasr.cli.entry import guarded
from zipasr.cli.recipes import data_dir
from zipasr.corpora.config import PlaceConfig
from zipasr.corpora.published import WithText
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``bpe.model`` and ``tokens.txt`` from the texts of the recipe's training splits."""
    setup_logging()
    run = read(BPE, argv)
    texts = transcripts(
        data_dir(run.recipe) / "manifests", run.recipe.corpus, run.recipe.parts(["train"])
    )
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir)
    lexicon = corpus.lexicon() if isinstance(corpus, WithText) else None
    more = () if lexicon is None else words_of(lexicon)
    tokenizer = train_bpe(texts, run[BpeConfig], more)
    logging.info("%d tokens in %s", tokenizer.vocab_size, run[BpeConfig].lang_dir)
    return 0
