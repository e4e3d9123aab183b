"""What --optimizer says about other flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipasr.cli.command_flags import read
from zipasr.cli.training_commands import TRAIN
from zipasr.optim.config import EdenConfig, OptimizerConfig


def rates(words: str) -> EdenConfig:
    config: EdenConfig = read(TRAIN, words.split())[EdenConfig]
    return config


@pytest.mark.parametrize("recipe", ["librispeech", "digits"])
def test_rubik_has_its_learning_rate_and_no_warm_up_where_none_are_typed(recipe: str) -> None:
    run = read(TRAIN, ["--recipe", recipe, "--optimizer", "rubik"])
    assert run[OptimizerConfig].optimizer == "rubik"
    assert (run[EdenConfig].base_lr, run[EdenConfig].warmup_batches) == (0.02, 0.0)
    assert run.settings["base_lr"].source == "--optimizer rubik"
    typed = rates(f"--recipe {recipe} --optimizer rubik --base-lr 0.023 --warmup-batches 9")
    assert (typed.base_lr, typed.warmup_batches) == (0.023, 9.0)
    assert rates(f"--recipe {recipe}").base_lr == 0.045


def test_a_recipe_may_have_a_rate_for_an_encoder_and_the_optimizer_that_goes_with_it(
    tmp_path: Path,
) -> None:
    splits = '[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    text = f'corpus = "x"\n{splits}[flags]\nbase-lr = 0.045\nwarmup-batches = 80\n'
    (tmp_path / "recipe.toml").write_text(f"{text}[encoders.zapformer]\nbase-lr = 0.05\n")
    own = rates(f"--recipe {tmp_path} --encoder-type zapformer")
    assert (own.base_lr, own.warmup_batches) == (0.05, 0.0)
    words = "--recipe espeak --encoder-type zapformer"
    run = read(TRAIN, words.split())
    assert run[OptimizerConfig].optimizer == "rubik"
    assert (run[EdenConfig].base_lr, run[EdenConfig].warmup_batches) == (0.12, 0.0)
    assert run.settings["base_lr"].source == "recipe espeak"
    assert rates(f"{words} --base-lr 0.03").base_lr == 0.03
    assert rates("--recipe librispeech --encoder-type zapformer").base_lr == 0.02
    assert rates("--recipe espeak --encoder-type zipformer1").warmup_batches == 80.0


@pytest.mark.parametrize("other", ["scaled_adam", "scaled_adam_v1"])
def test_the_rate_of_a_recipe_is_of_its_optimizer(other: str) -> None:
    for words in ("--recipe espeak", "--recipe espeak --optimizer rubik"):
        assert (rates(words).base_lr, rates(words).warmup_batches) == (0.12, 0.0)
    changed = rates(f"--recipe espeak --optimizer {other}")
    assert (changed.base_lr, changed.warmup_batches) == (0.045, 500.0)
    assert rates(f"--recipe espeak --optimizer {other} --warmup-batches 80").warmup_batches == 80.0
    named = rates("--recipe espeak --encoder-type zipformer1 --optimizer scaled_adam")
    assert (named.base_lr, named.warmup_batches) == (0.045, 80.0)


def test_the_rate_of_a_recipe_for_a_zapformer_is_of_the_optimizer_that_goes_with_it(
    tmp_path: Path,
) -> None:
    splits = '[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    flags = '[flags]\nencoder-type = "zapformer"\nbase-lr = 0.03\n'
    (tmp_path / "recipe.toml").write_text(f'corpus = "x"\n{splits}{flags}')
    assert rates(f"--recipe {tmp_path}").base_lr == 0.03
    assert rates(f"--recipe {tmp_path} --optimizer rubik").base_lr == 0.03
    assert rates(f"--recipe {tmp_path} --optimizer scaled_adam").base_lr == 0.045


def test_a_fine_tuning_takes_a_tenth() -> None:
    words = "--recipe librispeech --do-finetune 1 --finetune-ckpt x.pt --optimizer rubik"
    assert rates(words).base_lr == 0.002
    of_recipe = read(TRAIN, ["--recipe", "espeak", "--do-finetune", "1", "--finetune-ckpt", "x.pt"])
    assert of_recipe[OptimizerConfig].optimizer == "scaled_adam"
    assert of_recipe[EdenConfig].base_lr == 0.0045


def test_flags_of_the_other_schedule_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--recipe librispeech --optimizer rubik --batches-per-epoch 2400 --lr-batches 17500"
    assert rates(words).batches_per_epoch == 2400
    said = capsys.readouterr().err
    assert "--lr-batches has no effect: the learning rate of --optimizer rubik falls" in said
    assert "--batches-per-epoch" not in said
    rates("--recipe librispeech --batches-per-epoch 2400")
    assert "--batches-per-epoch has no effect: only the schedule" in capsys.readouterr().err
