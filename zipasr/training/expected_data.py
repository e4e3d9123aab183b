"""Training set as the statistics of its corpus describe it, for estimates before it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lhotse import CutSet
from numpy.typing import NDArray

from zipasr.base.recipe import Recipe
from zipasr.data.cuts import TrainCuts
from zipasr.data.epoch_plan import CutLengths
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import BLANK, SENTENCE_ENDS, PieceTokenizer, Tokenizer
from zipasr.training.data_setup import TrainData
from zipasr.training.session import TrainConfigs

#: Copies of an utterance that is also heard slower and faster.
SPEEDS = (0.9, 1.0, 1.1)


def has_statistics(recipe: Recipe) -> bool:
    """Say whether a recipe tells how much training speech there will be."""
    parts = recipe.statistics.get("parts", {})
    return bool(parts) and {*recipe.parts(["train"])} <= {*parts}


def expected_data(recipe: Recipe, configs: TrainConfigs) -> TrainData:
    """Return a training set of the lengths that the recipe tells, without cuts.

    Args:
        recipe: with statistics; flags of its preparation say whether speeds are varied.
        configs: of the run, with the longest and the shortest utterance that it takes.
    """
    seconds = np.concatenate([_seconds(recipe.statistics, p) for p in recipe.parts(["train"])])
    if recipe.flags.get("perturb-speed"):
        seconds = np.concatenate([seconds / speed for speed in SPEEDS])
    data = configs.data
    kept = seconds[(seconds >= data.min_cut_duration) & (seconds <= data.max_cut_duration)]
    tokens = np.rint(kept * recipe.statistics["tokens-per-second"]).astype(np.int64)
    nothing: Sequence[Any] = ()
    return TrainData(TrainCuts(nothing, CutLengths(kept, tokens), names=""), CutSet.from_cuts([]))


def _seconds(statistics: Mapping[str, Any], part: str) -> NDArray[np.float64]:
    """Return a duration for each utterance of a part, by its hours and the percentiles."""
    utterances, hours = (statistics["parts"][part][name] for name in ("utterances", "hours"))
    places = (np.arange(utterances) + 0.5) / utterances
    shares, values = zip(*statistics["percentiles"], strict=True)
    seconds = np.interp(100 * places, shares, values)
    return np.asarray(seconds * (3600 * hours / seconds.sum()), np.float64)


def stand_in(recipe: Recipe) -> Tokenizer:
    """Return a table of as many tokens as the recipe's tokenizer will have."""
    size = recipe.flags.get("vocab-size", BpeConfig().vocab_size)
    return PieceTokenizer([BLANK, SENTENCE_ENDS, "<unk>", *(f"token{n}" for n in range(3, size))])


def preparation_lines(recipe: Recipe) -> list[str]:
    """Say what the stages of the preparation take, as the recipe tells."""
    needs = [(stage, recipe.needs_of(stage)) for stage in range(recipe.stages[1] + 1)]
    return [f"stage {stage}    {said}" for stage, said in needs if said]
