"""Help and settings of every command: on a screen, whole, and without waiting for torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests import tones
from tests.cli.conftest import Call
from zipasr.base.config import flag
from zipasr.base.recipe import NO_RECIPE
from zipasr.cli import decode, train
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.cli.flags import Command, resolve, settings_of
from zipasr.cli.help import WIDTH, config_text, long_help
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.recognition_commands import DECODE
from zipasr.cli.training_commands import TRAIN
from zipasr.search.methods import MEANINGS, METHODS

HEAVY = {"torch", "lhotse", "numba", "numpy", "matplotlib", "sentencepiece"}
LINES = 25
ALL = (*COMMANDS, IMPORT)
SCRIPTS = [
    tones.ROOT / (one.name if one.name.endswith(".py") else f"local/{one.name}.py") for one in ALL
]


@pytest.mark.parametrize("recipe", [(), ("--recipe", "espeak")], ids=["", "recipe"])
@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_help_fits_a_screen(
    command: Command,
    recipe: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tones.ROOT)
    with pytest.raises(SystemExit) as end:
        read(command, [*recipe, "--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("  ./") or "-m local" in line for line in lines) <= 3
    assert len(command.basic) <= 12
    for name in command.basic:
        assert any(line.startswith(f"  --{name.replace('_', '-')} ") for line in lines), name
    assert any("--help-all" in line for line in lines)


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_headings_are_nouns_and_no_line_is_too_long(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(command, ["--help-all"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert all(len(heading.split()) <= 5 for heading in headings), headings


def test_help_has_the_defaults_of_the_recipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tones.ROOT)
    for words, shown in (
        (["--recipe", "librispeech", "--help"], "(default: 30)"),
        # What the command does without flags: espeak is the usual recipe.
        (["--help"], "(default: 5)"),
        (["--recipe", "espeak", "--help"], "(default: 5)"),
        (["--recipe", "espeak", "--help-all"], "(default: 5)"),
    ):
        with pytest.raises(SystemExit):
            read(TRAIN, words)
        said = " ".join(capsys.readouterr().out.split())
        assert f"--num-epochs INT number of the last epoch {shown}" in said


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Group of flags."""

    rate: float = flag(0.5, "share, 10 % of nothing", unit="s")
    name: str = flag("", "empty by default", group="Names")


def test_help_shows_percent_signs_units_and_defaults() -> None:
    command = Command("x.py", "About.", (Example,), "x:main", spellings={"--speed": "--rate"})
    text = long_help(command, settings_of(command, {}, NO_RECIPE, [command]), None)
    assert "  --rate FLOAT                share, 10 % of nothing (default: 0.5 s)\n" in text
    assert "\nGroup of flags:\n" in text
    assert "\nNames:\n" in text
    assert "(default: empty)" in text
    assert "the same as --rate" in text


def test_every_value_has_a_source() -> None:
    base = Command("x.py", "About.", (Example,), "x:main", defaults={"name": "of the command"})
    command = dataclasses.replace(base, presets={"fast": {"rate": 2.0}})
    recipe = dataclasses.replace(NO_RECIPE, name="mine", flags={"rate": 1, "name": "x"})
    layers = (
        ({}, NO_RECIPE, ("0.5 s", "default"), ("of the command", "x.py")),
        ({}, recipe, ("1.0 s", "recipe mine"), ("x", "recipe mine")),
        ({"preset": "fast"}, recipe, ("2.0 s", "--preset fast"), ("x", "recipe mine")),
        ({"preset": "fast", "rate": 3.0}, recipe, ("3.0 s", "typed"), ("x", "recipe mine")),
    )
    for typed, of, rate, name in layers:
        lines = config_text(resolve(command, typed, of, [command])).splitlines()
        found = {line.split()[0]: line for line in lines if line.startswith("  ")}
        assert found["--rate"].split() == ["--rate", *rate[0].split(), *rate[1].split()]
        assert found["--name"].split() == ["--name", *name[0].split(), *name[1].split()]


def test_settings_are_printed_and_nothing_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tones.ROOT)
    with pytest.raises(SystemExit) as end:
        decode.main(["--recipe", "espeak", "--beam-size", "7", "--print-config"])
    assert end.value.code == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["--beam-size", "7", "typed"] in rows
    assert ["--exp-dir", "exp/espeak", "recipe", "espeak"] in rows
    assert ["--iter", "0", "default"] in rows
    assert ["--encoder-dim", "checkpoint"] in rows


@pytest.mark.parametrize("name", ["zipformer", "zipformer1", "zapformer"])
def test_the_embedded_recipe_has_a_small_model_of_each_encoder(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tones.ROOT)
    with pytest.raises(SystemExit) as end:
        train.main(["--recipe", "espeak", "--encoder-type", name, "--print-config"])
    assert end.value.code == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["--num-encoder-layers", "1,2,1", "recipe", "espeak"] in rows
    sizes = read(TRAIN, ["--recipe", "espeak", "--encoder-type", name])[TRAIN.encoders[name]]
    assert max(sizes.num_encoder_layers) == 2


def test_the_methods_are_listed_with_their_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    assert MEANINGS.keys() == METHODS.keys()
    with pytest.raises(SystemExit) as end:
        read(DECODE, ["--decoding-method", "help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name}" in said for name in MEANINGS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rnnt-type", "modifed"], "Fix: did you mean 'modified'?"),
        (["--preset", "smal"], "Fix: did you mean 'small'?"),
        (["--encoder-type", "zipformr"], "Fix: did you mean 'zipformer'?"),
        (["--optimizer", "scaled_adma"], "Fix: did you mean 'scaled_adam'?"),
    ],
)
def test_a_misspelt_value_names_the_nearest(words: list[str], message: str, call: Call) -> None:
    assert message in call(train.main, tones.ROOT, *words).error


QUICK = [
    (["--help"], 0),
    (["--recipe", "espeak", "--help-all"], 0),
    (["--recipe", "espeak", "--print-config"], 0),
    (["--recipo", "espeak"], 2),
    (["--full-libri", "maybe"], 2),
]


def test_help_and_mistakes_wait_for_nothing_heavy() -> None:
    """All commands in one process: a module that one of them imports would be seen at the end."""
    program = f"""
import runpy, sys
sys.path.insert(0, {str(tones.ROOT)!r})
for script in {[str(path) for path in SCRIPTS]!r}:
    for words in {[words for words, _ in QUICK]!r}:
        sys.argv = [script, *words]
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            print("ended", script, words[-2:], end.code)
        assert not {HEAVY!r} & {{*sys.modules}}, (script, words, {HEAVY!r} & {{*sys.modules}})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tones.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ended = [line for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert ended == [
        f"ended {script} {words[-2:]} {status}" for script in SCRIPTS for words, status in QUICK
    ]


def test_a_misspelt_method_waits_for_nothing_heavy() -> None:
    program = (
        "import sys; from zipasr.cli.entry import start\n"
        "sys.argv = ['decode.py', '--decoding-method', 'gredy_search']\n"
        f"status = start('decode.py'); print(status, sorted({HEAVY!r} & {{*sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tones.ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 []\n"
    assert "did you mean 'greedy_search'?" in done.stderr
