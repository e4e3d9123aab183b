"""Stage 1: make or find the audio of a corpus and write its manifests."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zipasr.base.log import setup_logging
from zipasr.cli.commands import CORPUS, read
from zipasr.cli.corpora import corpus_of
from zipasr.cli.entry import guarded
from zipasr.cli.recipes import data_dir
from zipasr.corpora.config import CorpusConfig, PlaceConfig


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``data/RECIPE/manifests``; what is there already is kept."""
    setup_logging()
    run = read(CORPUS, argv)
    config, folder = run[CorpusConfig], data_dir(run.recipe)
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir, config.audio_dir, config.giga_dir)
    for split, count in corpus.prepare(folder / "manifests", config.num_jobs).items():
        logging.info("%s: %d utterances", split, count)
    return 0
