"""The command ``zipasr`` where the wheel is installed: from any folder, without the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zipasr
from tests import tones
from tests.package.wheel import InstalledWheel
from zipasr.cli.verbs import VERBS


def test_the_package_is_that_of_the_wheel(installed_wheel: InstalledWheel, tmp_path: Path) -> None:
    done = installed_wheel.program(tmp_path, "import zipasr; print(zipasr.__file__)")
    tones.check(done)
    assert Path(done.stdout.strip()).is_relative_to(installed_wheel.folder)


def test_help_and_version_from_an_empty_folder(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    done = installed_wheel.zipasr(tmp_path, "--help")
    tones.check(done)
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)
    done = installed_wheel.zipasr(tmp_path, "--version")
    assert done.stdout == f"zipasr {zipasr.__version__}\n"
    done = installed_wheel.zipasr(tmp_path, "trian")
    assert done.returncode == 2
    assert done.stderr == "error: zipasr has no command 'trian'. Fix: did you mean 'train'?\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_in_its_own_words(
    verb: str, installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    done = installed_wheel.zipasr(tmp_path, verb, "--help")
    tones.check(done)
    assert done.stdout.startswith(f"usage: zipasr {verb} ")
    assert not [script for script in VERBS.values() if script in done.stdout]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_what_has_to_be_done_first_is_told_in_the_same_words(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    done = installed_wheel.zipasr(tmp_path, "decode", "--recipe", "librispeech")
    assert done.returncode == 3
    assert "run zipasr prepare --recipe librispeech --stage " in done.stderr
    done = installed_wheel.zipasr(tmp_path, "prepare", "--stage", "3")
    assert done.returncode == 2
    assert done.stderr == (
        "zipasr prepare: stage 3 needs what stage 2 makes. "
        "Fix: begin with stage 1: zipasr prepare --stage 1\n"
    )


@pytest.mark.parametrize(("recipe", "first"), [("espeak", 1), ("librispeech", 0)])
def test_built_in_recipes_are_found_from_an_empty_folder(
    recipe: str, first: int, installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    done = installed_wheel.zipasr(tmp_path, "prepare", "--recipe", recipe, "--dry-run")
    tones.check(done)
    assert done.stdout.startswith(f"stage {first}: would do: ")
    assert list(tmp_path.iterdir()) == []


def test_files_beside_a_built_in_recipe_are_found(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    program = """
from pathlib import Path
from zipasr.base.recipe import load_recipe
from zipasr.cli.prepare import corpus_of
recipe = load_recipe("espeak")
corpus = corpus_of(recipe, Path("download"))
print(*sorted(path.name for path in recipe.folder.iterdir()))
"""
    done = installed_wheel.program(tmp_path, program)
    tones.check(done)
    names = "README.md grammar.toml recipe.toml reference-causal.jsonl reference.jsonl "
    names += "requirements.txt voices.toml"
    assert done.stdout.split() == names.split()


def test_stages_training_and_decoding_of_a_recipe_of_ones_own(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    tones.make_recipe(tmp_path)
    recipe = ("--recipe", "./tones")
    done = installed_wheel.zipasr(tmp_path, "prepare", *recipe, "--num-jobs", "1")
    tones.check(done)
    assert sorted(path.name for path in (tmp_path / "data/tones/.done").iterdir()) == [*"1234"]
    done = installed_wheel.zipasr(tmp_path, "train", *recipe, "--seed", "7")
    tones.check(done)
    session = json.loads((tmp_path / "exp" / "run.json").read_text())["sessions"][0]
    assert session["command"] == ["zipasr", "train", *recipe, "--seed", "7"]
    done = installed_wheel.zipasr(tmp_path, "decode", *recipe)
    tones.check(done)
    assert (tmp_path / "exp" / "report.html").is_file()


def test_an_import_writes_a_recipe_here(installed_wheel: InstalledWheel, tmp_path: Path) -> None:
    from tests.corpora.own import table_of

    table_of(tmp_path / "speech", 12)
    words = ("--recipe", "mine", "--from", "speech", "--stop-stage", "1", "--num-jobs", "1")
    done = installed_wheel.zipasr(tmp_path, "prepare", *words)
    tones.check(done)
    assert (tmp_path / "egs" / "mine" / "recipe.toml").is_file()
    done = installed_wheel.zipasr(tmp_path, "prepare", "--recipe", "mine", "--status")
    assert done.stdout.startswith("stage 1: done ")
