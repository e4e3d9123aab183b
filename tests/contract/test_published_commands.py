"""The published training commands are taken as they are, and give the published models."""

from __future__ import annotations

import shlex

import pytest
import torch

from zipasr.base.errors import UserError
from zipasr.cli.command_flags import encoder_config, read
from zipasr.cli.train import train_configs
from zipasr.cli.training_commands import TRAIN
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.optim.config import EdenConfig, OptimizerConfig
from zipasr.text.config import TokenizerConfig
from zipasr.training.config import LossConfig, TrainConfig
from zipasr.training.update import loss_scales

SMALL = """--num-encoder-layers 2,2,2,2,2,2 --feedforward-dim 512,768,768,768,768,768
--encoder-dim 192,256,256,256,256,256 --encoder-unmasked-dim 192,192,192,192,192,192"""
LARGE = """--num-encoder-layers 2,2,4,5,4,2 --feedforward-dim 512,768,1536,2048,1536,768
--encoder-dim 192,256,512,768,512,256 --encoder-unmasked-dim 192,192,256,320,256,192"""
AED = """--use-ctc 1 --use-transducer 0 --use-attention-decoder 1 --ctc-loss-scale 0.1
--attention-decoder-loss-scale 0.9 --master-port 12345"""
CR = """--use-cr-ctc 1 --use-ctc 1 --use-transducer 0 --use-attention-decoder 0
--enable-spec-aug 0 --cr-loss-scale 0.2 --time-mask-ratio 2.5 --master-port 12345"""
CR_AED = """--use-cr-ctc 1 --use-ctc 1 --use-transducer 0 --use-attention-decoder 1
--ctc-loss-scale 0.1 --attention-decoder-loss-scale 0.9 --enable-spec-aug 0
--cr-loss-scale 0.02 --time-mask-ratio 2.5 --master-port 12345"""
CR_RNNT = """--use-cr-ctc 1 --use-ctc 1 --use-transducer 1 --use-attention-decoder 0
--ctc-loss-scale 0.1 --enable-spec-aug 0 --cr-loss-scale 0.02 --time-mask-ratio 2.5
--master-port 12345"""
RNNT_CTC = "--use-transducer 1 --use-ctc 1 --ctc-loss-scale 0.2"

# Processes, epochs, folder, seconds, other words, parameters (where they are published).
Row = tuple[int, int, str, int, str, int | None]
COMMANDS: dict[str, Row] = {
    "S": (2, 50, "exp-small", 1500, f"--causal 0 --base-lr 0.04 {SMALL}", 23_285_615),
    "M": (4, 50, "exp", 1000, "--causal 0", 65_549_011),
    "M bf16": (
        4,
        50,
        "exp_amp_bf16",
        1000,
        "--causal 0 --use-fp16 0 --use-bf16 1",
        65_549_011,
    ),
    "L": (4, 50, "exp-large", 1000, f"--causal 0 {LARGE}", 148_439_574),
    "L on 8": (8, 174, "exp-large", 2200, f"--causal 0 {LARGE}", 148_439_574),
    "M streaming": (4, 40, "exp-causal", 1000, "--causal 1", 66_110_931),
    "M and CTC": (4, 40, "exp-ctc-rnnt", 1000, f"--causal 0 {RNNT_CTC}", 65_805_511),
    "S CTC AED": (2, 50, "exp-small", 1700, f"--base-lr 0.04 {AED} {SMALL}", 46_282_107),
    "M CTC AED": (4, 50, "exp", 1200, AED, 89_987_295),
    "L CTC AED": (4, 50, "exp-large", 1200, f"{AED} {LARGE}", 174_319_650),
    "S CR-CTC": (2, 50, "exp-small/", 850, f"--base-lr 0.04 {CR} {SMALL}", 22_118_279),
    "M CR-CTC": (4, 50, "exp", 700, CR, 64_250_603),
    "L CR-CTC": (2, 50, "exp-large", 1400, f"{CR} {LARGE}", 147_010_094),
    "L CR-CTC AED": (2, 50, "exp-large-cr-ctc-aed", 1200, f"{CR_AED} {LARGE}", None),
    "L and CR-CTC": (2, 50, "exp-large-cr-ctc-rnnt", 1400, f"{CR_RNNT} {LARGE}", 148_824_074),
}


def words_of(name: str) -> list[str]:
    """The command as it is printed, behind the name of the script."""
    processes, epochs, folder, seconds, others, _ = COMMANDS[name]
    first = f"--world-size {processes} --num-epochs {epochs} --start-epoch 1"
    fp16 = "" if "--use-bf16" in others else "--use-fp16 1"
    last = f"--exp-dir zipformer/{folder} --full-libri 1 --max-duration {seconds}"
    return shlex.split(f"{first} {fp16} {last} {others}")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_published_command_means_what_it_meant(name: str) -> None:
    processes, epochs, folder, seconds, others, parameters = COMMANDS[name]
    run = read(TRAIN, words_of(name))
    assert run.recipe.name == "librispeech"
    train = run[TrainConfig]
    assert (train.world_size, train.num_epochs, train.start_epoch) == (processes, epochs, 1)
    assert (train.use_fp16, bool(train.use_bf16)) == ("bf16" not in name, "bf16" in name)
    assert str(train.exp_dir) == f"zipformer/{folder}".rstrip("/")
    assert train.master_port == (12345 if "12345" in others else 12354)
    assert run[DataConfig].max_duration == seconds
    assert run[EdenConfig].base_lr == (0.04 if name.startswith("S") else 0.045)
    assert run[AugmentConfig].enable_spec_aug == ("CR-CTC" not in name)
    assert run[TokenizerConfig].bpe_model.name == "bpe.model"
    if parameters is not None:
        with torch.device("meta"):
            model = build_model(encoder_config(run), run[ModelConfig], 500)
        assert sum(p.numel() for p in model.parameters()) == parameters
    assert train_configs(run).train is train


ZAPFORMER = """--world-size 4 --min-copies 1 --max-copies 8 --num-real-epochs 40 --base-lr 0.023
--batches-per-epoch 2400 --start-epoch 1 --use-fp16 1 --exp-dir zapformer/exp --use-ctc 1
--use-transducer 1 --base-dim 64 --ctc-loss-scale 0.2 --full-libri 1 --max-duration 1200"""


def test_the_command_of_the_zapformer_implies_what_its_program_has() -> None:
    run = read(TRAIN, ZAPFORMER.split())
    assert run.notes == ()
    assert encoder_config(run).name == "zapformer"
    assert run[OptimizerConfig].optimizer == "rubik"
    assert (run[EdenConfig].base_lr, run[EdenConfig].warmup_batches) == (0.023, 0)
    assert run[AugmentConfig].spec_augment == "alternating"
    assert run[TrainConfig].epochs.copies == (1, 1, 1, 1, 1, 2, 2, 3, 4, 4, 5, 7, 8)
    with torch.device("meta"):
        model = build_model(encoder_config(run), run[ModelConfig], 500)
    assert sum(p.numel() for p in model.parameters()) == 265_072_558


def test_what_an_optimizer_implies_gives_way_with_it() -> None:
    words = ["--recipe", "gigaspeech", "--encoder-type", "zapformer"]
    assert read(TRAIN, words)[EdenConfig].base_lr == 0.02
    adam = read(TRAIN, [*words, "--optimizer", "scaled_adam"])
    assert (adam[EdenConfig].base_lr, adam[EdenConfig].warmup_batches) == (0.045, 500)
    # The rate of a recipe is that of its own optimizer.
    assert read(TRAIN, ["--recipe", "digits", "--optimizer", "rubik"])[EdenConfig].base_lr == 0.02


@pytest.mark.parametrize(
    ("name", "final"),
    [
        ("M", (0.5, 1.0, 0.2, 0.8, 0.2)),
        ("M CR-CTC", (0.5, 1.0, 1.0, 0.8, 0.2)),
        ("M CTC AED", (0.5, 1.0, 0.1, 0.9, 0.2)),
        ("L CR-CTC AED", (0.5, 1.0, 0.1, 0.9, 0.02)),
        ("L and CR-CTC", (0.5, 1.0, 0.1, 0.8, 0.02)),
    ],
)
def test_the_losses_have_the_published_weights(name: str, final: tuple[float, ...]) -> None:
    run = read(TRAIN, words_of(name))
    assert tuple(loss_scales(run[LossConfig], run[ModelConfig], 2000)) == final


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("M", "--use-transducer 0", "leave no head: turn one on"),
        ("M", "--use-cr-ctc 1 --enable-spec-aug 0", "--use-cr-ctc 1 needs --use-ctc 1"),
        ("M CR-CTC", "--enable-spec-aug 1", "add --enable-spec-aug 0"),
        ("M CTC AED", "--ctc-loss-scale 0.2", "must add up to 1"),
    ],
)
def test_what_the_heads_ask_for_is_asked_before_anything_runs(
    name: str, words: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(TRAIN, [*words_of(name), *words.split()])


def test_the_embedded_recipe_is_the_one_without_a_word() -> None:
    assert read(TRAIN, []).recipe.name == "espeak"
    assert read(TRAIN, ["--recipe", "espeak", "--full-libri", "1"]).recipe.name == "espeak"
    assert read(TRAIN, ["--mini-libri=1"]).recipe.name == "librispeech"
