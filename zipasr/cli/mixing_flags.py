"""Flags that say together which corpora are trained on, and which heads each of them has."""

from __future__ import annotations

from dataclasses import replace

from zipasr.base.errors import UserError
from zipasr.base.recipe import Recipe
from zipasr.cli.flags import Run
from zipasr.cli.recipes import GIGA_FLAG
from zipasr.data.config import GIGA, GIGASPEECH, DataConfig
from zipasr.model.config import ModelConfig

PUBLISHED_GIGA_PROB = 0.5  # of pruned_transducer_stateless8, where nothing else is typed


def with_heads_of_corpora(run: Run) -> Run:
    """Let ``--giga-prob`` and ``--own-heads`` agree.

    The first gives GigaSpeech a transducer of its own; ``--own-heads giga`` alone takes the
    published share of the batches.

    Raises:
        UserError: ``--own-heads`` names no corpus that is trained on.
    """
    data, model = run[DataConfig], run[ModelConfig]
    names = {extra.name for extra in data.extras}
    if model.own_heads == GIGA and GIGA not in names and data.giga_prob is None:
        data = replace(data, giga_prob=PUBLISHED_GIGA_PROB)
    if data.giga_prob is not None:
        names.add(GIGA)
        if model.use_transducer and not model.own_heads:
            model = replace(model, own_heads=GIGA)
    if model.own_heads and model.own_heads not in names:
        raise UserError(
            f"--own-heads {model.own_heads}: no corpus of that name is trained on.",
            f"add it: --extra-manifest {model.own_heads}=PATH:WEIGHT.",
        )
    return run.having(data, model)


def with_subset(run: Run, subset: str | None) -> Run:
    """Let ``--subset`` say which part of GigaSpeech the recipe trains on.

    Raises:
        UserError: the recipe is of another corpus.
    """
    if subset is None:
        return run
    recipe: Recipe = run.recipe
    if recipe.corpus != GIGASPEECH:
        raise UserError(
            f"{GIGA_FLAG} {subset} is a part of GigaSpeech, and the recipe {recipe.name} is of "
            "another corpus.",
            f"leave {GIGA_FLAG} out, or give --recipe gigaspeech; a share of GigaSpeech beside "
            "another corpus is --giga-prob with --giga-subset.",
        )
    return replace(run, recipe=replace(recipe, splits=recipe.splits | {"train": [subset]}))
