"""From the flags of a command to the settings of recognition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zipasr.checkpoint.config import ChooseCheckpoint, ExpConfig
from zipasr.cli.flags import Run
from zipasr.cli.recipes import data_dir, lm_dir
from zipasr.data.config import DataConfig
from zipasr.lm.config import LM_SIZES, GrammarConfig, LmConfig
from zipasr.recognition.config import (
    ConfidenceConfig,
    EvaluationData,
    ModelFileConfig,
    RecognitionConfig,
    StreamingConfig,
    SweepConfig,
    TestSetsConfig,
    TokenSource,
)
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig
from zipasr.text.config import TokenizerConfig, TokenTableConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def recognition_config(run: Run, device: str | None = None) -> RecognitionConfig:
    """Collect the settings of a run; flags that the command does not have are at their defaults.

    Args:
        run: a parsed command line.
        device: where the model computes; ``None``: on the first GPU, if there is one.
    """
    return RecognitionConfig(
        exp_dir=_of(run, ExpConfig).exp_dir,
        checkpoint=_of(run, ChooseCheckpoint),
        is_avg_typed=run.is_typed("avg"),
        model_flags=run.typed,
        tokens=token_source(run),
        decoding=_decoding(run),
        lattice=_of(run, LatticeConfig),
        hot_words=_of(run, HotWordsConfig),
        lm=_of(run, LmConfig),
        lm_sizes={name: run[cls] for name, cls in LM_SIZES.items() if cls in run.values},
        grammar=_of(run, GrammarConfig),
        grammar_folders=(lm_dir(run.recipe), data_dir(run.recipe) / "lm", Path("download/lm")),
        recipe=run.recipe.name,
        evaluation=evaluation_data(run),
        sweep=_of(run, SweepConfig),
        streaming=_of(run, StreamingConfig),
        confidence=_of(run, ConfidenceConfig),
        device=device,
    )


def _decoding(run: Run) -> DecodingConfig:
    config = _of(run, DecodingConfig)
    # A recipe says how its checkpoints compute; exported files have their precision inside.
    if _of(run, ModelFileConfig).is_given and not run.is_typed("use_bf16"):
        return replace(config, use_bf16=False)
    return config


def token_source(run: Run) -> TokenSource:
    """Return the files that say what the tokens of a model are."""
    return TokenSource(
        bpe_model=_of(run, TokenizerConfig).bpe_model,
        is_bpe_model_given=run.is_typed("bpe_model"),
        tokens=_of(run, TokenTableConfig).tokens,
    )


def evaluation_data(run: Run) -> EvaluationData | None:
    """Return the prepared sets of the recipe; ``None`` for a command that reads none."""
    if DataConfig not in run.values:
        return None
    sets = _of(run, TestSetsConfig)
    return EvaluationData(
        corpus=run.recipe.corpus,
        splits=run.recipe.splits,
        loading=run[DataConfig],
        test_sets=sets.test_sets,
        score_normalised=sets.score_normalised,
    )


def _of(run: Run, cls: type[C]) -> C:
    return run[cls] if cls in run.values else cls()
