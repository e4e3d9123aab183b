"""Stage 4: check manifests and features, say what training would drop and why."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from zipasr.base.errors import DataError
from zipasr.base.log import setup_logging
from zipasr.base.recipe import Recipe
from zipasr.cli.commands import VALIDATE, read
from zipasr.cli.corpora import check_recipe, transcripts
from zipasr.cli.entry import guarded
from zipasr.cli.recipes import data_dir
from zipasr.data.config import DataConfig
from zipasr.data.filters import TrainFilter
from zipasr.data.validate import report_text, validate_split
from zipasr.encoder.protocol import Geometry
from zipasr.model.config import ModelConfig
from zipasr.text.character_table import count_characters
from zipasr.text.config import TokenizerConfig
from zipasr.text.tokenizer import Tokenizer


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Print a report of every split; faults end with exit status 3."""
    setup_logging()
    run = read(VALIDATE, argv)
    data = run[DataConfig]
    wanted = TrainFilter(
        encode=Tokenizer.from_file(run[TokenizerConfig].bpe_model).encode,
        output_lens=Geometry().output_lens,
        use_ctc=run[ModelConfig].use_ctc,
        min_duration=data.min_cut_duration,
        max_duration=data.max_cut_duration,
    )
    reports = [
        validate_split(data.manifest_dir, run.recipe.corpus, split, wanted)
        for split in run.recipe.parts()
    ]
    sys.stdout.write(report_text(reports))
    if (data_dir(run.recipe) / "manifests").is_dir():
        sys.stdout.write("\n" + check_recipe(run.recipe, _threads()).text())
        sys.stdout.write(unseen_characters(run.recipe))
    faulty = [report.name for report in reports if not report.is_sound]
    if faulty:
        raise DataError(
            f"{', '.join(faulty)}: the manifests have faults (see the report above).",
            "mend the corpus, then ./prepare.sh --stage 1 --force.",
        )
    return 0


def unseen_characters(recipe: Recipe) -> str:
    """Name the characters of test and validation that training never sees; empty without any."""
    manifests = data_dir(recipe) / "manifests"
    known, others = (
        count_characters(transcripts(manifests, recipe.corpus, recipe.parts(purposes)))
        for purposes in (["train"], ["valid", "test"])
    )
    never = sorted(set(others) - set(known))
    if not never:
        return ""
    shown = ", ".join(f"{char!r} ({others[char]} times)" for char in never[:10])
    return f"characters that training never sees: {len(never)}, e.g. {shown}\n"


def _threads() -> int:
    return os.cpu_count() or 1
