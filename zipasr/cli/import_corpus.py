"""Before stage 1: look at a corpus of one's own and write a recipe for it."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zipasr.base.errors import UserError
from zipasr.base.files import write_text
from zipasr.base.log import setup_logging
from zipasr.base.progress import clock
from zipasr.base.recipe import RECIPES, load_recipe
from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.preparation_commands import IMPORT
from zipasr.corpora.config import ImportConfig
from zipasr.corpora.custom.advice import (
    expectation,
    models_to_begin_with,
    precision,
    reasons,
)
from zipasr.corpora.custom.checks import ScannedCorpus
from zipasr.corpora.custom.own_corpus import OwnCorpus
from zipasr.corpora.custom.recipe_file import Sizes, flags_for, recipe_text
from zipasr.corpora.custom.utterances import purpose_of
from zipasr.text.characters import count_characters
from zipasr.text.config import UnitChoice
from zipasr.text.scripts import choose_unit, units_of

logger = logging.getLogger(__name__)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write ``egs/NAME/recipe.toml``; one that is there is kept if it is about the same corpus."""
    setup_logging()
    run = read(IMPORT, argv)
    config, source = run[ImportConfig], run.settings["from"].value
    if source is None:
        raise UserError(f"{IMPORT.name}: the following arguments are required: --from.")
    name = str(run.settings["recipe"].value)
    folder = Path(name) if "/" in name else RECIPES / name
    options = {"from": str(source)} | _typed(config)
    if (folder / "recipe.toml").is_file():
        _check_same(name, options, config.unit)
        return 0
    data = Path("data") / folder.name
    corpus = OwnCorpus.from_settings(data / "audio", options)
    seen = corpus.survey(data / "manifests", config.num_jobs)
    sizes = sizes_of(seen, config.unit)
    flags = flags_for(folder.name, sizes)
    why = [*reasons(sizes, flags)]
    about = [f"{seen.found.kind}: {clock(sizes.hours * 3600)} of training speech.", *why]
    write_text(folder / "recipe.toml", recipe_text(options, splits_of(seen), flags, about))
    model = flags.get("preset", "model of the embedded recipe")
    sys.stdout.write(
        f"wrote {folder / 'recipe.toml'}: {clock(sizes.hours * 3600)} of training speech, {model}, "
        f"{_tokens(sizes, flags)}, {flags['num-epochs']} epochs\n"
    )
    models = models_to_begin_with(Path("exp"), folder.name)
    lines = (*why, *precisions(seen), *expectation(sizes, name, models))
    sys.stdout.write("".join(f"  {line}\n" for line in lines))
    return 0


def precisions(seen: ScannedCorpus) -> list[str]:
    """Return a line for each split that error rates are measured on."""
    words: Counter[str] = Counter()
    for utterance in seen.utterances:
        if purpose_of(str(utterance.split)) != "train":
            words[str(utterance.split)] += len(units_of(utterance.text))
    return [precision(split, count) for split, count in sorted(words.items())]


def _tokens(sizes: Sizes, flags: Mapping[str, Any]) -> str:
    if sizes.unit == "char":
        return f"{sizes.characters} different characters as tokens (--unit char)"
    return f"{flags['vocab-size']} tokens (--unit {sizes.unit})"


def sizes_of(seen: ScannedCorpus, unit: UnitChoice = "auto") -> Sizes:
    """Return what the settings of the recipe depend on.

    Args:
        seen: the corpus.
        unit: of the tokens; auto: by the script of the training transcripts, which is told.
    """
    training = [u for u in seen.utterances if purpose_of(str(u.split)) == "train"]
    seconds = np.array([seen.seconds(utterance) for utterance in training])
    shortest = np.percentile(seconds, 1)
    ordered = np.sort(seconds)
    longest = ordered[np.searchsorted(np.cumsum(ordered), 0.99 * seconds.sum())]
    characters = len(count_characters(utterance.text for utterance in training))
    if unit == "auto":
        unit, reason = choose_unit(utterance.text for utterance in training)
        logger.info("--unit %s: %s", unit, reason)
    return Sizes(float(seconds.sum()) / 3600, characters, float(shortest), float(longest), unit)


def splits_of(seen: ScannedCorpus) -> dict[str, list[str]]:
    """Return purpose -> names of splits."""
    names = sorted(seen.splits())
    return {
        purpose: [name for name in names if purpose_of(name) == purpose]
        for purpose in ("train", "valid", "test")
    }


def _typed(config: ImportConfig) -> dict[str, Any]:
    """Return the options that are not at their defaults; the recipe says no more than it must."""
    usual = ImportConfig()
    names = ("encoding", "seed", "normalise", "max_bad", "strict_rate")
    typed = (name for name in names if getattr(config, name) != getattr(usual, name))
    return {name.replace("_", "-"): getattr(config, name) for name in typed}


def _check_same(name: str, options: dict[str, Any], unit: UnitChoice) -> None:
    """Refuse a recipe of the same name that is about something else.

    Raises:
        UserError: its corpus or an option that was typed differs.
    """
    recipe = load_recipe(name)
    path = recipe.folder / "recipe.toml"
    if recipe.corpus != "own":
        raise UserError(
            f"{path} is a recipe for the corpus {recipe.corpus!r}, not for --from.",
            "choose another name: --recipe NAME.",
        )
    known = recipe.corpus_options | {"unit": recipe.flags.get("unit")}
    for key, value in (options if unit == "auto" else options | {"unit": unit}).items():
        said = known.get(key)
        if said != value:
            raise UserError(
                f"{path} says {key} = {said!r}, but {value!r} was given.",
                "leave it out, change the recipe, or choose another name: --recipe NAME.",
            )
