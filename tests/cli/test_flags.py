"""What the commands take, and one clear line for what they do not."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests import tones
from tests.cli.conftest import Call
from zipasr.base.config import flags_of
from zipasr.base.errors import UserError
from zipasr.base.recipe import load_recipe
from zipasr.checkpoint.config import ChooseCheckpoint, ExpConfig
from zipasr.cli import (
    average,
    decode,
    doctor,
    export,
    info,
    prepare,
    report,
    train,
    train_lm,
    transcribe,
)
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.cli.flags import Command
from zipasr.cli.model_commands import AVERAGE, DOCTOR, EXPORT, INFO, REPORT
from zipasr.cli.preparation_commands import BPE, CORPUS, DOWNLOAD, FBANK, LM_TEXT, VALIDATE
from zipasr.cli.recipes import prepare_command
from zipasr.cli.recognition_commands import (
    CTC_DECODE,
    DECODE,
    STREAMING_DECODE,
    TRANSCRIBE,
    recognition_config,
)
from zipasr.cli.training_commands import TRAIN, TRAIN_LM
from zipasr.data.config import DataConfig
from zipasr.encoder.zipformer.config import PRESETS, ZipformerConfig
from zipasr.model.config import TransducerConfig
from zipasr.optim.config import EdenConfig
from zipasr.text.config import BpeConfig
from zipasr.training.config import LmTrainConfig, TrainConfig

WithFlags = Callable[[str], Path]
MAINS = (
    (train.main, TRAIN),
    (train_lm.main, TRAIN_LM),
    (decode.main, DECODE),
    (decode.ctc, CTC_DECODE),
    (decode.streaming, STREAMING_DECODE),
    (export.main, EXPORT),
    (average.main, AVERAGE),
    (prepare.download, DOWNLOAD),
    (prepare.make_manifests, CORPUS),
    (prepare.compute_features, FBANK),
    (prepare.train_tokenizer, BPE),
    (prepare.validate, VALIDATE),
    (prepare.write_lm_text, LM_TEXT),
    (report.main, REPORT),
    (transcribe.main, TRANSCRIBE),
    (doctor.main, DOCTOR),
    (info.main, INFO),
)
BOOLEANS = {"0": ["0", "false", "No", "n", "F"], "1": ["1", "True", "yes", "Y", "t"]}
REFUSED = [(command, name) for command in COMMANDS for name in command.refused]


def operands(command: Command) -> list[str]:
    """Return words without a flag that the command cannot do without."""
    return ["speech.wav"] if command in (INFO, TRANSCRIBE) else []


def spellings(default: str) -> list[str]:
    if default in BOOLEANS:
        return BOOLEANS[default]
    return [default, f"{default}0"] if "." in default else [default]


def something_else(default: str) -> str:
    return {"0": "1", "1": "0"}.get(default, f"{default}9")


def test_the_table_of_commands_is_complete() -> None:
    assert {command.name for command in COMMANDS} == {command.name for _, command in MAINS}


@pytest.mark.parametrize(
    ("main", "command"),
    MAINS,
    ids=[command.name for _, command in MAINS],
)
def test_help_lists_the_groups_wherever_it_is_asked(
    main: Callable[[list[str]], int],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["--recipe", "nosuch", "--help-all"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert command.about in " ".join(said.split())
    for one in (flag for cls in (*command.configs, *command.stored) for flag in flags_of(cls)):
        assert f"\n{one.group}:\n" in said
        assert f"\n  {one.name} {one.kind}" in said
    assert not any(f"{name} " in said for name in command.refused)


@pytest.mark.parametrize("name", ["train", "decode", "average"])
def test_the_scripts_are_the_commands(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(tones.ROOT / f"{name}.py"), run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name}.py ")


@pytest.mark.parametrize("name", ["prepare_corpus", "compute_fbank", "train_bpe", "validate_data"])
def test_the_stages_are_the_commands(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"local.{name}", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_a_script_works_from_another_folder_and_hands_its_status_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(tones.ROOT / "average.py"), "--recipe", "nosuch"],
        cwd=tmp_path,
        env=tones.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: no recipe 'nosuch'")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_the_default(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with("base-lr = 0.1\nnum-epochs = 7"))
    run = read(TRAIN, ["--recipe", "./tones", "--num-epochs", "9"])
    assert run[TrainConfig].num_epochs == 9
    assert run[EdenConfig].base_lr == 0.1
    assert run[EdenConfig].lr_epochs == EdenConfig().lr_epochs
    assert run.recipe.name == "tones"


@pytest.mark.parametrize("command", [DECODE, TRANSCRIBE], ids=lambda command: command.name)
@pytest.mark.parametrize(
    ("of_run", "typed", "name"),
    [
        (["--recipe", "./tones", "--num-epochs", "2"], [], "tones"),
        (["--recipe=./tones"], [], "tones"),
        (["--recipe", "./tones"], ["--recipe", "librispeech"], "librispeech"),
        (["--full-libri", "1"], [], "librispeech"),
        ([], [], "espeak"),
    ],
)
def test_a_run_is_decoded_for_the_recipe_it_was_trained_for(
    command: Command,
    of_run: list[str],
    typed: list[str],
    name: str,
    recipe_with: WithFlags,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = recipe_with("")
    for known in ("espeak", "librispeech"):
        shutil.copytree(Path("egs") / known, folder / "egs" / known)
    monkeypatch.chdir(folder)
    sessions = [{"command": ["train.py"]}, {"command": ["train.py", "--exp-dir", "exp", *of_run]}]
    (folder / "exp").mkdir()
    (folder / "exp" / "run.json").write_text(json.dumps({"sessions": sessions}))
    words = ["a.wav"] if command is TRANSCRIBE else []
    assert read(command, ["--exp-dir", "exp", *typed, *words]).recipe.name == name
    (folder / "exp" / "run.json").write_text("{")
    assert read(command, ["--exp-dir", "exp", *words]).recipe.name == "espeak"


@pytest.mark.parametrize("words", [[], ["--recipe", "espeak"]])
def test_a_run_is_of_its_recipe_in_a_folder_without_recipes(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read(TRANSCRIBE, ["--exp-dir", "exp", "a.wav"]).recipe.name == ""
    (tmp_path / "exp").mkdir()
    session = {"command": ["train.py", *words], "recipe": "espeak"}
    (tmp_path / "exp" / "run.json").write_text(json.dumps({"sessions": [session]}))
    run = read(TRANSCRIBE, ["--exp-dir", "exp", "a.wav"])
    assert run.recipe.name == "espeak"
    assert run[ChooseCheckpoint].avg == run.recipe.flags["avg"]


def test_a_run_of_a_recipe_that_is_gone_is_not_taken_for_one_of_another(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recipe_with("")
    monkeypatch.chdir(folder)
    (folder / "exp").mkdir()
    sessions = [{"command": ["train.py", "--recipe", "./not-here"]}]
    (folder / "exp" / "run.json").write_text(json.dumps({"sessions": sessions}))
    with pytest.raises(UserError, match=r"takes the folder of that file: exp$"):
        read(DECODE, ["--recipe", "exp/run.json"])
    # What needs no recipe does without; the test sets of another one are not decoded.
    assert read(TRANSCRIBE, ["--exp-dir", "exp", "a.wav"]).recipe.name == ""
    with pytest.raises(UserError, match=r"no recipe './not-here': not-here/recipe.toml does not"):
        read(DECODE, ["--exp-dir", "exp"])


def test_a_recipe_may_write_values_in_toml_or_as_words(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recipe_with('use-bf16 = true\nnum-heads = [2, 4, 2, 2, 2, 2]\ndropout = "0.1"')
    monkeypatch.chdir(folder)
    run = read(TRAIN, ["--recipe", "./tones"])
    assert run[TrainConfig].use_bf16 is True
    assert run[ZipformerConfig].num_heads == (2, 4, 2, 2, 2, 2)
    assert run[ZipformerConfig].dropout == 0.1


def test_the_precision_of_a_recipe_is_not_that_of_exported_files(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with("use-bf16 = 1"))
    words = ["--recipe", "./tones", "a.wav"]

    def is_mixed(*more: str) -> bool:
        return recognition_config(read(TRANSCRIBE, [*words, *more])).decoding.use_bf16

    assert is_mixed()
    assert not is_mixed("--model", "exported")
    assert is_mixed("--model", "exported", "--use-bf16", "1")  # typed: refused when it is loaded


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_keys_of_other_commands_disturb_none(
    command: Command, recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = """
lang-dir = "data/tones/lang"
exp-dir = "exp/tones"
lm-scale = 0.5
save-every-n = 7
vocab-size = 33
encoder-dim = "32"
encoder-unmasked-dim = "24"
use-ctc = 1
context-size = 1
beam-size = 9
max-duration = 11.5
"""
    monkeypatch.chdir(recipe_with(keys))
    run = read(command, ["--recipe", "./tones", *operands(command)])
    expected = {
        TRAIN.name: (TransducerConfig, "lm_scale", 0.5),
        TRAIN_LM.name: (LmTrainConfig, "save_every_n", LmTrainConfig().save_every_n),
        DECODE.name: (ExpConfig, "exp_dir", Path("exp/tones")),
        AVERAGE.name: (ExpConfig, "exp_dir", Path("exp/tones")),
        BPE.name: (BpeConfig, "lang_dir", Path("data/tones/lang")),
        VALIDATE.name: (DataConfig, "max_duration", 11.5),
    }
    if command.name in expected:
        cls, name, value = expected[command.name]
        assert getattr(run[cls], name) == value
    # The checkpoint says what the model is, not the recipe.
    assert run.typed == {}


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (train.main, ["--num-epoch", "3"], "--num-epoch 3. Fix: did you mean '--num-epochs'?"),
        (train.main, ["--num-epoch=3"], "did you mean '--num-epochs'?"),
        (train.main, ["--world", "2"], "--world 2. Fix: did you mean '--world-size'?"),
        (decode.main, ["--beam-sise", "2"], "did you mean '--beam-size'?"),
        (decode.main, ["--preset", "small"], "Fix: the checkpoint knows its model: leave it out."),
        (average.main, ["--preset=small"], "Fix: the checkpoint knows its model: leave it out."),
        (average.main, ["--zzz"], "average.py --help lists the flags."),
        (train.main, ["now"], "now. Fix: every value has a flag, as in --recipe now"),
        (train.main, ["exp/now"], "Fix: every value has a flag, as in --exp-dir exp/now"),
        (train.main, ["--use-ctc", "1", "0"], "0. Fix: train.py --help lists the flags."),
        (train.main, ["--num-epochs", "x"], "--num-epochs: invalid int value: 'x'"),
        (train.main, ["--num-epochs"], "--num-epochs: expected one argument"),
        (train.main, ["--encoder-dim", "1,x"], "--encoder-dim: invalid comma list value: '1,x'"),
        (train.main, ["--use-fp16", "maybe"], "a boolean such as 1 or 0, got 'maybe'"),
        (decode.main, ["--context-score", "nan"], "expected a finite number, got 'nan'"),
        (decode.main, ["--blank-penalty", "much"], "invalid float value: 'much'"),
        (train.main, ["--rnnt-type", "modifed"], "--rnnt-type: invalid choice: 'modifed'"),
        (train.main, ["--causal", "1", "--chunk-size", "12"], "--chunk-size 12 must be a multiple"),
        (train.main, ["--use-fp16", "1", "--use-bf16", "1"], "exclude each other"),
        (train.main, ["--keep-last-k", "0"], "--keep-last-k must be at least 1"),
        (train.main, ["--world-size", "0"], "--world-size 0 must be at least 1"),
        (train.main, ["--use-transducer", "0"], "leave no head"),
        (decode.main, ["--avg", "0"], "--avg must be at least 1"),
        (decode.main, ["--beam-size", "0"], "--beam-size must be at least 1"),
        (prepare.make_manifests, ["--num-jobs", "0"], "--num-jobs must be at least 1"),
    ],
)
def test_a_slip_of_the_pen_costs_one_line(
    main: Callable[[list[str]], int],
    words: list[str],
    message: str,
    recipe_with: WithFlags,
    call: Call,
) -> None:
    said = call(main, recipe_with(""), *words)
    assert said.status == 2
    assert message in said.error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "espaek"], "no recipe 'espaek'"),
        (["--recipe", "espaek"], "Fix: did you mean 'espeak'?"),
        (["--recipe", "./nosuch"], "nosuch/recipe.toml does not exist; egs has digits, espeak"),
        (["--recipe"], "train.py: argument --recipe: expected one argument"),
    ],
)
def test_an_unknown_recipe_is_one_line(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tones.ROOT)
    assert train.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "num-epoch = 3",
            "unknown flag in the recipe: 'num-epoch'. Fix: did you mean 'num-epochs'?",
        ),
        ('num-epochs = "x"', "the recipe says num-epochs = 'x'"),
        ("num-epochs = 0", "--num-epochs must be at least 1"),
        ('rnnt-type = "modifed"', "did you mean 'modified'?"),
        ('use-fp16 = "maybe"', "the recipe says use-fp16 = 'maybe': expected a boolean"),
        ('causal = true\nchunk-size = "12"', "--chunk-size 12 must be a multiple"),
        ("[corpus]", "recipe.toml is not valid TOML"),
        ("[expcted]", "has an unknown entry 'expcted'"),
    ],
)
def test_a_recipe_is_held_to_the_same(
    flags: str, message: str, recipe_with: WithFlags, call: Call
) -> None:
    said = call(train.main, recipe_with(flags))
    assert said.status == 2
    assert message in said.error


def test_a_recipe_may_repeat_the_default_of_what_is_refused(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with("use-cr-ctc = false\nfull-libri = 1\ncr-loss-scale = 0.2"))
    for command in (TRAIN, DECODE):
        read(command, ["--recipe", "./tones"])


@pytest.mark.parametrize(
    ("command", "name"), REFUSED, ids=lambda value: getattr(value, "name", value)
)
def test_what_is_not_built_yet_is_accepted_at_its_default_alone(
    command: Command, name: str, recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with(""))
    default = command.refused[name][0]
    words = ["--recipe", "./tones", *(["a.wav"] if command.operands else [])]
    for word in spellings(default):
        read(command, [*words, name, word])
    other = something_else(default)
    with pytest.raises(UserError) as refusal:
        read(command, [*words, name, other])
    message = str(refusal.value)
    assert command.refused[name][1].format(flag=f"{name} {other}", default=default) in message
    assert message.endswith(".")
    assert refusal.value.exit_code == 2


def test_the_stage_of_a_recipe_as_it_is_typed() -> None:
    recipes = {name: load_recipe(name) for name in ("espeak", "librispeech")}
    recipes["mini"] = recipes["librispeech"].subset("mini-libri")
    typed = {name: prepare_command(recipe, 5) for name, recipe in recipes.items()}
    assert typed == {
        "espeak": "./prepare.sh --stage 5",
        "librispeech": "./prepare.sh --recipe librispeech --stage 5",
        "mini": "./prepare.sh --recipe librispeech --mini-libri 1 --stage 5",
    }


def test_a_preset_gives_the_sizes_and_typed_sizes_win(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with('num-encoder-layers = "1"\nbase-lr = 0.02\ndropout = 0.1'))
    words = ["--recipe", "./tones"]
    sizes = read(TRAIN, [*words, "--preset", "small", "--pos-dim", "32"])[ZipformerConfig]
    assert sizes == replace(PRESETS["small"], pos_dim=32, dropout=0.1)
    assert read(TRAIN, words)[ZipformerConfig].num_encoder_layers == (1,)


def test_a_recipe_can_begin_with_a_preset(
    recipe_with: WithFlags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe_with('preset = "large"\npos-dim = 32'))
    words = ["--recipe", "./tones"]
    assert read(TRAIN, words)[ZipformerConfig] == replace(PRESETS["large"], pos_dim=32)
    small = read(TRAIN, [*words, "--preset", "small"])[ZipformerConfig]
    assert small == PRESETS["small"]
    for command in COMMANDS:
        read(command, [*words, *operands(command)])


def test_an_unknown_preset_is_one_line(recipe_with: WithFlags, call: Call) -> None:
    said = call(train.main, recipe_with(""), "--preset", "huge")
    assert said.status == 2
    assert "invalid choice: 'huge'" in said.error
