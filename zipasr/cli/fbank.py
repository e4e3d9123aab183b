"""Stage 2: from manifests to features on disk."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.base.log import setup_logging
from zipasr.cli.commands import FBANK, read
from zipasr.cli.flags import data_dir, guarded
from zipasr.data.fbank import FbankConfig, compute_and_store


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``data/RECIPE/fbank``: cuts and features of every split; complete ones are kept."""
    setup_logging()
    run = read(FBANK, argv)
    folder = data_dir(run.recipe)
    for split in dict.fromkeys(name for names in run.recipe.splits.values() for name in names):
        compute_and_store(
            run.recipe.corpus, split, folder / "manifests", folder / "fbank", run[FbankConfig]
        )
    return 0
