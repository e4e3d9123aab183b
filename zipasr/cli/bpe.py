"""Stage 3: learn the vocabulary from the training transcripts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from lhotse import SupervisionSet

from zipasr.base.errors import DataError
from zipasr.base.log import setup_logging
from zipasr.cli.commands import BPE, read
from zipasr.cli.flags import data_dir, guarded
from zipasr.text.bpe import BpeConfig, train_bpe


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``bpe.model`` and ``tokens.txt`` from the texts of the recipe's training splits."""
    setup_logging()
    run = read(BPE, argv)
    manifests = data_dir(run.recipe) / "manifests"
    prefix = f"{run.recipe.corpus}_supervisions_"
    paths = [manifests / f"{prefix}{split}.jsonl.gz" for split in run.recipe.splits["train"]]
    tokenizer = train_bpe(_texts(paths), run[BpeConfig])
    logging.info("%d tokens in %s", tokenizer.vocab_size, run[BpeConfig].lang_dir)
    return 0


def _texts(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist.", "run stage 1 first: ./prepare.sh --stage 1")
        for supervision in SupervisionSet.from_jsonl_lazy(path):
            yield supervision.text or ""
