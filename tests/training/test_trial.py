"""Paces that a dry run scales its times from."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests.training.short import new_session
from zipasr.training import feeding, trial
from zipasr.training.feeding import UTTERANCE_SECONDS
from zipasr.training.memory import Size
from zipasr.training.trial import measured_pace, typical_sizes

SIZES = [Size(8, 2.0, 6), Size(4, 4.0, 12), Size(2, 8.0, 24), Size(5, 3.0, 9)]


def test_typical_batches_are_short_usual_and_long() -> None:
    assert typical_sizes(SIZES, 40.0) == [Size(8, 2.0, 6), Size(4, 4.0, 12), Size(2, 8.0, 24)]
    # Rows are left out, but for one.
    assert [size.rows for size in typical_sizes(SIZES, 7.0)] == [3, 1, 1]
    assert {size.seconds for size in typical_sizes([], 7.0)} == {UTTERANCE_SECONDS}
    assert typical_sizes(SIZES[:1], 40.0) == SIZES[:1] * 3


@pytest.mark.usefixtures("here")
def test_paces_are_of_updates_and_of_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that advances with what is computed."""
    now, run = [0.0], trial.weighted_loss

    def loss(*words: object) -> object:
        now[0] += 3.0 if torch.is_grad_enabled() else 1.0
        return run(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "weighted_loss", loss)
    for module in (trial, feeding):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    session = new_session("")
    pace = measured_pace(session.configs, session.tokenizer, SIZES, 1)
    speech = sum(size.rows * size.seconds for size in typical_sizes(SIZES, 25.0))
    assert pace.update == pytest.approx(3 * 3.0 / speech)
    assert pace.validation == pytest.approx(3 * 1.0 / speech)
    assert pace.start == 0.0


@pytest.mark.usefixtures("here")
def test_several_processes_are_measured_together() -> None:
    session = new_session("")
    configs = replace(session.configs, train=replace(session.configs.train, world_size=2))
    pace = measured_pace(configs, session.tokenizer, SIZES, 2)
    assert all(math.isfinite(value) and value > 0 for value in (pace.update, pace.validation))
    assert pace.start > 0
