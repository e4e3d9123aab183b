"""Stage 2: from manifests to features on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zipasr.audio.quarantine import Quarantine, write_quarantine
from zipasr.base.log import setup_logging
from zipasr.cli.commands import FBANK, read
from zipasr.cli.corpora import check_recipe
from zipasr.cli.entry import guarded
from zipasr.cli.recipes import data_dir
from zipasr.data.config import FbankConfig
from zipasr.data.fbank import compute_and_store
from zipasr.data.fbank_pieces import compute_and_store_pieces, join_splits
from zipasr.data.noise_features import compute_and_store_noise


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``data/RECIPE/fbank``: cuts and features of every split and of noise."""
    setup_logging()
    run = read(FBANK, argv)
    folder, recipe = data_dir(run.recipe), run.recipe
    manifests, features = folder / "manifests", folder / "fbank"
    if run[FbankConfig].check_audio:
        report = check_recipe(recipe, run[FbankConfig].jobs)
        logging.info("%s", report.text())
        report.stop_when_too_many()
    write_quarantine(features, Quarantine.read(manifests).rows, "preparation")
    for split in recipe.parts():
        where = (recipe.corpus, split, manifests, features)
        if split in recipe.pieces:
            compute_and_store_pieces(*where, recipe.pieces[split], run[FbankConfig])
        else:
            compute_and_store(*where, run[FbankConfig])
    for name, parts in recipe.joined.items():
        if name in recipe.splits["train"]:
            join_splits(recipe.corpus, name, parts, features)
    compute_and_store_noise(manifests, features, run[FbankConfig])
    return 0
