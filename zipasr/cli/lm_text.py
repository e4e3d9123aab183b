"""Stage 5: the text that a language model is trained and checked on."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from zipasr.base.log import setup_logging
from zipasr.cli.commands import LM_TEXT, read
from zipasr.cli.corpora import corpus_of, transcripts
from zipasr.cli.entry import guarded
from zipasr.cli.lm_sources import lm_dir
from zipasr.cli.recipes import data_dir
from zipasr.corpora.config import PlaceConfig
from zipasr.corpora.published import WithText
from zipasr.text.text_io import write_lines


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``train.txt``, ``valid.txt`` and ``test.txt`` to ``data/RECIPE/lm``.

    For training it is the text that the corpus comes with, else the training transcripts. A subset
    of a recipe has a folder of its own, ``lm-SUBSET``.
    """
    setup_logging()
    run = read(LM_TEXT, argv)
    recipe, folder = run.recipe, data_dir(run.recipe)
    corpus = corpus_of(recipe, run[PlaceConfig].dl_dir)
    given = corpus.lm_text() if isinstance(corpus, WithText) else None
    for purpose in ("valid", "test", "train"):
        texts = transcripts(folder / "manifests", recipe.corpus, recipe.parts([purpose]))
        if purpose == "train" and given is not None:
            texts = _lines_of(given)
        path = lm_dir(recipe) / f"{purpose}.txt"
        logging.info("%s: %d lines", path, write_lines(path, texts))
    return 0


def _lines_of(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from lines
