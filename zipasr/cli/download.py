"""Stage 0: download a published corpus, check and unpack it."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.base.errors import UserError
from zipasr.base.log import setup_logging
from zipasr.cli.commands import DOWNLOAD, read
from zipasr.cli.corpora import corpus_of
from zipasr.cli.entry import guarded
from zipasr.corpora.config import DownloadConfig, PlaceConfig
from zipasr.corpora.published import PublishedCorpus, fetch_corpus


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Fill ``--dl-dir``; what is there already is kept, what has arrived in part is resumed."""
    setup_logging()
    run = read(DOWNLOAD, argv)
    corpus = corpus_of(run.recipe, run[PlaceConfig].dl_dir)
    if not isinstance(corpus, PublishedCorpus):
        raise UserError(
            f"recipe {run.recipe.name!r} has nothing to download.",
            f"begin with ./prepare.sh --recipe {run.recipe.name} --stage 1.",
        )
    fetch_corpus(corpus.downloads(), run[DownloadConfig])
    return 0
