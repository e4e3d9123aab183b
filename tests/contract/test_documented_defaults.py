"""The defaults of all programs are those that the published recipe documents, but for a few."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests import tones
from tests.contract.test_flags_table import same
from zipasr.base.config import shown
from zipasr.cli.command_flags import read
from zipasr.cli.flags import Command, Run
from zipasr.cli.model_commands import AVERAGE, EXPORT
from zipasr.cli.recipes import RecipeConfig
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE
from zipasr.cli.training_commands import FINETUNE, TRAIN, TRAIN_LM

DOCUMENTED = json.loads(
    (tones.ROOT / "tests" / "golden" / "contract" / "defaults.json").read_text(encoding="utf-8")
)
PROGRAMS: dict[str, tuple[Command, Callable[[list[str]], Run], list[str]]] = {
    "train.py": (TRAIN, lambda words: read(TRAIN, words), []),
    # What is typed to begin with: train.py is both programs.
    "finetune.py": (
        FINETUNE,
        lambda words: read(TRAIN, words),
        ["--do-finetune", "1", "--finetune-ckpt", "pretrained.pt"],
    ),
    "decode.py": (DECODE, lambda words: read(DECODE, words), []),
    "ctc_decode.py": (CTC_DECODE, lambda words: read(CTC_DECODE, words), []),
    "streaming_decode.py": (STREAMING_DECODE, lambda words: read(STREAMING_DECODE, words), []),
    "export.py": (EXPORT, lambda words: read(EXPORT, words), []),
    "generate_averaged_model.py": (AVERAGE, lambda words: read(AVERAGE, words), []),
    "rnn_lm/train.py": (TRAIN_LM, lambda words: read(TRAIN_LM, words), []),
}
# Deliberate differences: program and flag -> our default, and why.
DIFFERENCES = {
    ("train.py", "--use-bf16"): ("none", "on a GPU that has it, mixed precision is the default"),
    ("finetune.py", "--use-bf16"): ("none", "on a GPU that has it, mixed precision is the default"),
    ("finetune.py", "--finetune-ckpt"): ("pretrained.pt", "it is typed: there is no other model"),
    ("rnn_lm/train.py", "--lr"): ("none", "it is 0.001, for a transformer 0.0005"),
    **{
        (program, "--epoch"): ("none", "the last complete epoch of the run; the line says which")
        for program in (
            "decode.py",
            "ctc_decode.py",
            "streaming_decode.py",
            "export.py",
            "generate_averaged_model.py",
        )
    },
}


def documented(program: str) -> dict[str, str]:
    """Return flag -> default; where two groups have a flag, the later one counts."""
    found: dict[str, str] = {}
    for group in DOCUMENTED["programs"][program]:
        found |= DOCUMENTED["groups"][group]["flags"]
    return found


def default_of(command: Command, run: Run, name: str) -> Any:
    if name in command.refused:
        return command.refused[name][0]
    flag = command.spellings.get(name, name)
    field = flag.removeprefix("--").replace("-", "_")
    # A model that is read from a file has its own sizes; the defaults are those of train.py.
    values = [*run.values.values(), RecipeConfig(), *(cls() for cls in command.stored)]
    return next(
        getattr(value, field) for value in values if field in {one.name for one in fields(value)}
    )


def differences(program: str) -> dict[str, str]:
    command, reader, words = PROGRAMS[program]
    run = reader(["--recipe", "./bare", *words])
    ours = {name: shown(default_of(command, run, name)) for name in documented(program)}
    return {
        name: ours[name]
        for name, value in documented(program).items()
        if not same(value, ours[name])
    }


@pytest.fixture(autouse=True)
def bare_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that sets nothing, in the working directory."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.toml").write_text(
        'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    )
    monkeypatch.chdir(tmp_path)


def test_the_table_names_its_source() -> None:
    assert DOCUMENTED["programs"].keys() == PROGRAMS.keys()
    assert all("section" in group["source"] for group in DOCUMENTED["groups"].values())
    assert all(why for _, why in DIFFERENCES.values())


@pytest.mark.parametrize("program", PROGRAMS)
def test_defaults_differ_where_it_is_meant_alone(program: str) -> None:
    meant = {name: value for (of, name), (value, _) in DIFFERENCES.items() if of == program}
    assert differences(program) == meant


@pytest.mark.parametrize(("command", "avg"), [(DECODE, 15), (EXPORT, 9), (AVERAGE, 9)])
def test_help_shows_the_default_of_the_command(
    command: Command, avg: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(command, ["--recipe", "librispeech", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"number of checkpoints to average (default: {avg})" in said
