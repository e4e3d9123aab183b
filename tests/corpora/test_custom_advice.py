"""What is said about the settings of a recipe, and how exactly small sets tell error rates."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.corpora.custom.advice import (
    BANDS,
    band_of,
    expectation,
    half_width,
    models_to_begin_with,
    precision,
    reasons,
)
from zipasr.corpora.custom.recipe_file import Sizes, flags_for


def said(hours: float, unit: str = "bpe") -> list[str]:
    sizes = Sizes(hours, 30, 1.0, 10.0, unit)  # type: ignore[arg-type]
    return [*reasons(sizes, flags_for("my", sizes))]


@pytest.mark.parametrize(
    ("hours", "parts"),
    [
        (0.3, ["2.7 M", "60 pieces", "at three speeds", "CTC first", "SpecAugment from epoch"]),
        (5, ["2.7 M", "200 pieces", "at three speeds", "CTC first", "SpecAugment from epoch"]),
        (50, ["23 M", "500 pieces", "at three speeds", "CTC beside", "SpecAugment, speed"]),
        (900, ["published size", "500 pieces", "epochs: 40, so", "no CTC", "SpecAugment;"]),
    ],
)
def test_every_choice_has_a_reason(hours: float, parts: list[str]) -> None:
    lines = said(hours)
    assert [line.split(":")[0].split()[0] for line in lines] == [
        "model", "tokens", "epochs", lines[3].split()[0], "augmentation", "checkpoints",
    ]  # fmt: skip
    for line, part in zip(lines, parts, strict=False):
        assert part in line


def test_characters_are_counted_as_such() -> None:
    assert "30 characters: the script" in said(1.0, "char")[1]


@given(st.floats(0.001, 20000))
def test_every_number_of_hours_is_in_one_band(hours: float) -> None:
    band = band_of(hours)
    before = [other.most for other in BANDS if other.most < band.most]
    assert max(before, default=0.0) < hours <= band.most


def test_a_model_that_is_there_is_proposed(tmp_path: Path) -> None:
    sizes = Sizes(0.3, 30, 1.0, 10.0)
    expect, command, _ = expectation(sizes, "my", [])
    assert expect.startswith("expect: from nothing")
    assert "--finetune-ckpt CHECKPOINT --exp-dir exp/my-fine" in command
    for n, name in enumerate(("old/best-wer.pt", "new/best-dev-wer.pt", "my/best-dev-wer.pt")):
        path = tmp_path / name
        path.parent.mkdir()
        path.touch()
        os.utime(path, (1000 + n, 1000 + n))
    models = models_to_begin_with(tmp_path, "my")
    assert [path.parent.name for path in models] == ["new", "old"]
    assert f"--finetune-ckpt {models[0]} " in [*expectation(sizes, "my", models)][1]
    assert len([*expectation(Sizes(5000.0, 30, 1.0, 10.0), "my", models)]) == 1


@pytest.mark.parametrize("words", [50, 300, 2000])
def test_the_width_is_that_of_drawn_errors(words: int) -> None:
    """Oracle: rates of many test sets of so many words, of which each is wrong by chance."""
    rates = np.random.default_rng(words).binomial(words, 0.2, 200_000) / words
    low, high = np.percentile(rates, [2.5, 97.5])
    assert half_width(words) == pytest.approx((high - low) / 2, rel=0.08)


def test_what_three_hundred_words_tell() -> None:
    assert precision("test", 300) == (
        "test: 300 words; a rate of 20 % is known to about +-4.5 points"
    )
    assert precision("dev", 12) == (
        "dev: 12 words, too few to tell one model from another: add speech"
    )
