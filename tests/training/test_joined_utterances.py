"""A training with pauses goes on as if it had not stopped, and says what sound it has heard."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut

from tests.training.short import train
from zipasr.audio.sound_profile import SoundProfile, read_profile
from zipasr.base.errors import UserError
from zipasr.data.config import AugmentConfig
from zipasr.training.config import TrainConfig, check_pauses
from zipasr.training.data_setup import training_sound

FLAGS = "--join-prob 0.7 --silence-prob 0.7 --longest-pause 0.5"


@pytest.mark.usefixtures("here")
def test_a_training_with_pauses_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", f"{FLAGS} --num-epochs 2")
    train(tmp_path / "parts", FLAGS)
    resumed = train(tmp_path / "parts", f"{FLAGS} --num-epochs 2")
    for name, value in whole["model"].items():
        assert torch.equal(value, resumed["model"][name]), name
    profile = read_profile(tmp_path / "whole")
    assert profile != SoundProfile()
    assert profile == read_profile(tmp_path / "parts")


@pytest.mark.usefixtures("here")
def test_a_training_without_pauses_says_what_it_has_heard(tmp_path: Path) -> None:
    train(tmp_path, "")
    profile = read_profile(tmp_path)
    assert 0.0 < profile.usual < 10.0
    assert profile.quietest < profile.loudest


def test_sound_that_is_gone_has_no_profile() -> None:
    cuts = list(CutSet.from_cuts(dummy_cut(number) for number in range(3)))
    assert training_sound(cuts.__getitem__, len(cuts)) is None


@pytest.mark.parametrize("values", [{"join_prob": 0.5}, {"silence_prob": 0.5}])
def test_pauses_do_not_go_with_several_copies(values: dict[str, float]) -> None:
    augment = AugmentConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--max-copies 2 does not go with"):
        check_pauses(TrainConfig(max_copies=2), augment)
    check_pauses(TrainConfig(), augment)
    check_pauses(TrainConfig(max_copies=2), AugmentConfig())
