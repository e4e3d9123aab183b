"""Every published command is read: each of its flags acts, or it is said why it has no effect."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests import tones
from zipasr.base.config import flag_name, parse_bool, shown
from zipasr.base.errors import UserError
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.cli.flags import Command, Run
from zipasr.cli.model_commands import AVERAGE, EXPORT
from zipasr.cli.recipes import RECIPE_FLAGS
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE
from zipasr.cli.train import read_training
from zipasr.cli.training_commands import FINETUNE, TRAIN
from zipasr.exporting.config import ExportConfig
from zipasr.optim.config import EdenConfig
from zipasr.training.config import TrainConfig

TABLE = tones.ROOT / "tests" / "golden" / "contract" / "published_commands.txt"
# Program of the published recipe -> the command that does the same, and the words that the name of
# the program stands for.
PROGRAMS = {
    "train.py": (TRAIN, ""),
    "finetune.py": (FINETUNE, ""),
    "decode.py": (DECODE, ""),
    "ctc_decode.py": (CTC_DECODE, ""),
    "streaming_decode.py": (STREAMING_DECODE, ""),
    "generate_averaged_model.py": (AVERAGE, ""),
    "export.py": (EXPORT, ""),
    "export-onnx.py": (EXPORT, "--format onnx"),
    "export-onnx-ctc.py": (EXPORT, "--format onnx"),
    "export-onnx-streaming.py": (EXPORT, "--format onnx"),
    "export-onnx-streaming-ctc.py": (EXPORT, "--format onnx"),
    "export-streaming-as-non-streaming-onnx.py": (EXPORT, "--format onnx"),
}
# Folder of the published recipe -> what it stands for when a model is trained.
MODELS = {
    "zipformer": "",
    "pruned_transducer_stateless7": "--encoder-type zipformer1",
    "pruned_transducer_stateless7_ctc": "--encoder-type zipformer1 --use-ctc 1",
    "pruned_transducer_stateless7_streaming": "--encoder-type zipformer1 --causal 1",
    "pruned_transducer_stateless8": "--encoder-type zipformer1",
    "zapformer": "--encoder-type zapformer",
}


def published() -> list[tuple[str, str]]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines if line and line[0] != "#"]  # type: ignore[misc]


def command_of(program: str) -> tuple[Command, list[str]]:
    folder, name = program.split("/")
    command, words = PROGRAMS[name]
    return command, f"{words} {MODELS[folder] if command is TRAIN else ''}".split()


def read_as(command: Command, words: Sequence[str]) -> Run:
    return read(TRAIN if command is FINETUNE else command, words)


def pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    assert all(word.startswith("--") for word in words[::2])
    return list(zip(words[::2], words[1::2], strict=True))


def value_of(run: Run, name: str) -> Any:
    """Return what became of a flag; an ``AssertionError`` if nothing did."""
    field = name.removeprefix("--").replace("-", "_")
    if field in run.typed:
        return run.typed[field]
    found = [
        getattr(value, field)
        for cls, value in run.values.items()
        if field in {one.name for one in fields(cls)}
    ]
    assert found, f"{name} has not become anything"
    return found[0]


def same(typed: str, value: Any) -> bool:
    readers: tuple[Callable[[str], object], ...] = (str, float, parse_bool, lambda w: Path(w))
    for reader in readers:
        try:
            if reader(typed) == reader(shown(value)):
                return True
        except (ValueError, argparse.ArgumentTypeError):
            continue
    return False


def test_the_table_is_whole() -> None:
    assert len(published()) == 138
    assert {program.split("/")[1] for program, _ in published()} == PROGRAMS.keys()


@pytest.mark.parametrize(("program", "line"), published(), ids=[p for p, _ in published()])
def test_every_flag_acts_or_says_why_not(
    program: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, implied = command_of(program)
    words = shlex.split(line)
    run = read_as(command, [*implied, *words])
    said = capsys.readouterr().err.splitlines()
    without_effect = {line.split(" ")[0]: line for line in said}
    assert all(" has no effect: " in line and line.endswith(".") for line in said)
    assert len(without_effect) == len(said)
    for name, value in pairs(words):
        if name in RECIPE_FLAGS:
            assert run.recipe.name == ("gigaspeech" if name == "--subset" else "librispeech")
        elif name in without_effect:
            assert name in command.without_effect
        else:
            assert same(value, value_of(run, command.spellings.get(name, name))), name
    assert not without_effect.keys() - {*words}


def test_the_part_of_gigaspeech_is_trained_on() -> None:
    (line,) = [line for program, line in published() if "--subset S" in line]
    for subset in ("S", "XS"):
        words = shlex.split(line.replace("--subset S", f"--subset {subset}"))
        assert read(TRAIN, words).recipe.splits["train"] == [subset]
    assert read(TRAIN, ["--subset", "M"]).recipe.splits["train"] == ["M"]
    with pytest.raises(UserError, match="--subset S is a part of GigaSpeech, and the recipe espea"):
        read(TRAIN, ["--subset", "S", "--recipe", "espeak"])
    with pytest.raises(UserError, match=r"--subset T is unknown\. Known: XS, S, M, L, XL"):
        read(TRAIN, ["--subset", "T"])


def test_more_corpora_are_named() -> None:
    words = ["--use-multidataset", "1"]
    with pytest.raises(UserError, match=r"no other corpus: none is named\. Fix: name them, for "):
        read_training(words)
    read_training([*words, "--extra-manifest", "giga=cuts.jsonl.gz:0.5"])


def test_a_typed_precision_takes_the_place_of_that_of_the_recipe(tmp_path: Path) -> None:
    text = 'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n[flags]\n'
    (tmp_path / "recipe.toml").write_text(f"{text}use-bf16 = 1\n")

    def precision(*words: str) -> tuple[bool, bool | None]:
        train = read(TRAIN, ["--recipe", str(tmp_path), *words])[TrainConfig]
        return train.use_fp16, train.use_bf16

    assert precision() == (False, True)
    assert precision("--use-fp16", "1") == (True, False)
    assert precision("--use-fp16", "0") == (False, True)
    with pytest.raises(UserError, match="exclude each other"):
        precision("--use-fp16", "1", "--use-bf16", "1")


FINE = ["--do-finetune", "1", "--finetune-ckpt", "pretrained.pt"]


def rates(words: Sequence[str]) -> tuple[float, float, float]:
    eden = read(TRAIN, words)[EdenConfig]
    return eden.base_lr, eden.lr_batches, eden.lr_epochs


def test_a_finetuning_has_its_own_rates(tmp_path: Path) -> None:
    assert rates(FINE) == (0.0045, 100_000, 100)
    assert rates([*FINE, "--base-lr", "0.01", "--lr-epochs", "7"]) == (0.01, 100_000, 7)
    text = 'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n[flags]\n'
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"{text}base-lr = 0.03\nlr-batches = 500\n")
    # That of a training from the beginning, ten times too high.
    assert rates(["--recipe", str(tmp_path), *FINE]) == (0.0045, 100_000, 100)
    recipe.write_text(f"{text}base-lr = 0.002\nlr-batches = 500\ndo-finetune = 1\n")
    assert rates(["--recipe", str(tmp_path), *FINE]) == (0.002, 500, 100)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_what_has_no_effect_is_a_flag_of_the_command(command: Command) -> None:
    known = {
        flag_name(field.name)
        for cls in (*command.configs, *command.stored)
        for field in fields(cls)
    }
    assert command.without_effect.keys() <= known
    for name, why in command.without_effect.items():
        assert why[0] == why[0].lower()
        assert not why.endswith(".")
        assert name not in command.refused


@pytest.mark.parametrize("command", [DECODE, CTC_DECODE, STREAMING_DECODE], ids=lambda c: c.name)
def test_flags_of_training_are_read_and_said_to_do_nothing(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--enable-musan 0 --enable-spec-aug 0 --spec-aug-time-warp-factor 80 --max-len 100"
    read(command, words.split())
    said = capsys.readouterr().err.splitlines()
    assert sorted(line.split(" has no effect: ")[0] for line in said) == sorted(words.split()[::2])
    read(command, [])
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="a boolean such as 1 or 0, got 'maybe'"):
        read(command, ["--enable-musan", "maybe"])


def test_flags_of_a_search_are_said_once_where_the_average_is_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    read(AVERAGE, ["--auto-avg", "1", "--enable-musan", "0"])
    assert len(capsys.readouterr().err.splitlines()) == 1
    # What means something else there keeps its meaning.
    run = read(EXPORT, ["--auto-avg", "1", "--max-len", "500"])
    assert run[ExportConfig].max_len == 500
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("--use-whisper-features", "1", "log-mel features of 80 bands"),
        ("--dynamic-batch", "0", "any number of streams"),
        ("--use-external-data", "1", "save_as_external_data"),
    ],
)
def test_what_an_export_lacks_names_what_there_is(name: str, value: str, instead: str) -> None:
    with pytest.raises(UserError, match=f"{name} {value} is not built yet; leave it .*{instead}"):
        read(EXPORT, [name, value])
