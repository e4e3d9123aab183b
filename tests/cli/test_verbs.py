"""The command ``zipasr`` and its verbs: help, dispatch, messages in the words that are typed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest

from tests import tones
from tests.cli.test_help import HEAVY, LINES
from zipasr import __version__
from zipasr.base.errors import UserError
from zipasr.cli import main as zipasr
from zipasr.cli.command_flags import COMMANDS
from zipasr.cli.entry import guarded
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.train import resume_command
from zipasr.cli.verbs import VERBS, as_typed, in_verbs, is_zipasr, program_words
from zipasr.training.config import TrainConfig

INSTALLED = "/home/someone/.venv/bin/zipasr"
MODULE = "/usr/lib/python3/site-packages/zipasr/__main__.py"


def test_every_script_has_a_verb_and_a_line_in_the_help() -> None:
    scripts = {command.name for command in COMMANDS if command.name.endswith(".py")}
    assert {*VERBS.values()} == scripts | {"prepare.sh", "validate_data"}
    assert zipasr.ABOUT.keys() == VERBS.keys()
    stages = {one.name for one in (*COMMANDS, IMPORT) if not one.name.endswith(".py")}
    assert {*zipasr.STAGES} == stages


def test_help_waits_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert zipasr.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(VERBS)
    program = (
        "import sys; from zipasr.cli.main import main; main(['--help']); main(['--version'])\n"
        f"print(sorted(({HEAVY!r} | {{'zipasr.cli.command_flags'}}) & {{*sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tones.ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-2:] == [f"zipasr {__version__}", "[]"]


def test_without_a_command_the_help_is_shown_as_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert zipasr.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: zipasr COMMAND")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("trian", "did you mean 'train'?"),
        ("streaming_decod", "did you mean 'streaming-decode'?"),
        ("zzz", "zipasr --help lists the commands."),
        ("finetune", "zipasr train --do-finetune 1 --finetune-ckpt FILE"),
    ],
)
def test_an_unknown_command_names_the_nearest(
    name: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert zipasr.main([name]) == 2
    assert capsys.readouterr().err == f"error: zipasr has no command {name!r}. Fix: {fix}\n"


@pytest.mark.parametrize("name", ["ctc-decode", "ctc_decode", "prepare", "compute_fbank"])
def test_names_may_be_spelt_with_either_stroke(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with suppress(SystemExit):
        assert zipasr.main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: ")


@pytest.mark.parametrize(
    ("program", "is_it"),
    [
        (INSTALLED, True),
        (MODULE, True),
        ("zipasr.exe", True),
        ("train.py", False),
        ("./train.py", False),
        ("/x/pytest/__main__.py", False),
        ("", False),
    ],
)
def test_which_program_was_started(program: str, is_it: bool) -> None:
    assert is_zipasr(program) is is_it
    assert program_words(program) == (["zipasr", "train"] if is_it else [program])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("run ./prepare.sh --stage 1 first", "run zipasr prepare --stage 1 first"),
        ("prepare.sh: no recipe", "zipasr prepare: no recipe"),
        ("train.py: unrecognized arguments: --x", "zipasr train: unrecognized arguments: --x"),
        ("make one with ./train_lm.py.", "make one with zipasr train-lm."),
        ("ctc_decode.py and decode.py", "zipasr ctc-decode and zipasr decode"),
        ("my/train.py and ../decode.py", "my/train.py and ../decode.py"),
        ("my_train.py, train.pyc", "my_train.py, train.pyc"),
        ("python3 -m local.validate_data --x", "zipasr validate --x"),
        ("python -m local.compute_fbank --x", "python -m zipasr compute_fbank --x"),
        ("pip install -r export-requirements.txt", 'pip install "zipasr[export]"'),
        (
            "local/install.sh requirements.txt egs/gigaspeech/requirements.txt",
            'pip install "zipasr[gigaspeech]"',
        ),
        (
            "Fix: local/install.sh requirements.txt && source .venv/bin/activate",
            "Fix: pip install zipasr",
        ),
    ],
)
def test_messages_in_the_words_of_zipasr(text: str, wanted: str) -> None:
    assert in_verbs(text) == wanted


def test_a_message_is_in_the_words_that_were_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @guarded
    def main(_: object) -> int:
        raise UserError("nothing is there.", "./prepare.sh --stage 1")

    for program, said in (
        ("./train.py", "./prepare.sh --recipe ./mine --stage 1"),
        (INSTALLED, "zipasr prepare --recipe ./mine --stage 1"),
    ):
        monkeypatch.setattr(sys, "argv", [program, "--zzz"])
        assert main(["--recipe", "./mine"]) == 2
        assert capsys.readouterr().err == f"error: nothing is there. Fix: {said}\n"
        assert as_typed("./train.py") == ("zipasr train" if is_zipasr(program) else "./train.py")


def test_the_command_that_goes_on_is_the_one_that_was_typed() -> None:
    words = [INSTALLED, "--exp-dir", "my exp"]
    assert resume_command(words, TrainConfig(), {}) == "zipasr train --exp-dir 'my exp'"
    launched = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
    command = resume_command([MODULE, "--seed", "1"], TrainConfig(), launched)
    assert command == "torchrun --nproc-per-node 2 -m zipasr train --seed 1"
