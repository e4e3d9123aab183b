"""Parts of the driver of the preparation; the stages themselves are in ``test_prepare``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from tests import tones
from zipasr.base.errors import ResourceError, UserError
from zipasr.base.recipe import load_recipe
from zipasr.cli import stages
from zipasr.cli.prepare_options import read_options


class Stage:
    """A process that is told to stop while it works, and ends after that."""

    def __init__(self) -> None:
        self.waited = 0

    def wait(self) -> int:
        self.waited += 1
        if self.waited == 1:
            raise KeyboardInterrupt
        return 130


def test_a_stage_ends_by_itself_after_ctrl_c() -> None:
    process = Stage()
    assert stages._wait(cast("stages.subprocess.Popen[bytes]", process)) == 130
    assert process.waited == 2


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_options_are_read(value: str) -> None:
    options = read_options(["--mini-libri", value, "--from=x", "--vocab-size", "90", "--force"])
    assert options.subset == "mini-libri"
    assert (options.name, options.source, options.force) == ("my", Path("x"), True)
    assert (read_options([]).name, read_options([]).subset) == ("espeak", None)
    with pytest.raises(UserError, match=r"unknown option --stag\. Fix: \./prepare\.sh --help"):
        read_options(["--stag", "1"])
    assert read_options(["--from=x", "--normalise", "upper,no-punctuation"]).normalise is not None
    with pytest.raises(UserError, match="--normalise is about the transcripts of --from PATH"):
        read_options(["--normalise", "upper"])


def test_flags_and_marks_of_the_stages() -> None:
    words = "--mini-libri 1 --vocab-size 90 --num-jobs 2 --mirror URL --keep-archives 0"
    options = read_options(words.split())
    found = stages.stages_of(load_recipe("librispeech").subset(options.subset), options)
    marks = Path("data/librispeech/.done-mini-libri")
    names = ["0", "1", "2", "3-90", "4-90", "5"]
    assert [stage.mark for stage in found] == [marks / name for name in names]
    archives = "--dl-dir download --keep-archives 0 --mirror URL"
    assert found[0].words == tuple(archives.split())
    lang = "data/librispeech/lang_bpe_90-mini-libri"
    assert found[3].words[2:] == ("--vocab-size", "90", "--lang-dir", lang)
    assert found[4].words == ("--bpe-model", f"{lang}/bpe.model")
    assert found[5].output == Path("data/librispeech/lm-mini-libri")


@pytest.mark.parametrize(
    ("words", "mark", "lang", "flags"),
    [
        ("--unit char", "3-char", "lang_char", "--vocab-size 500 --unit char"),
        ("--unit bpe", "3-bpe-500", "lang_bpe_500", "--vocab-size 500 --unit bpe"),
        (
            "--unit byte-bpe --vocab-size 900",
            "3-byte-bpe-900",
            "lang_bbpe_900",
            "--vocab-size 900 --unit byte-bpe",
        ),
    ],
)
def test_another_unit_has_a_folder_and_a_mark_of_its_own(
    words: str, mark: str, lang: str, flags: str
) -> None:
    options = read_options(words.split())
    found = stages.stages_of(load_recipe("librispeech"), options)
    assert found[3].mark.name == mark
    folder = f"data/librispeech/{lang}"
    assert found[3].words[2:] == (*flags.split(), "--lang-dir", folder)
    assert found[4].words == ("--bpe-model", f"{folder}/bpe.model")
    # An import writes the unit into the recipe.
    options = read_options([*words.split()[:2], "--from", "x"])
    assert stages.stages_of(load_recipe("librispeech"), options)[3].mark.name == "3"


@pytest.mark.parametrize(
    ("program", "first"),
    [("./prepare.sh", "./train.py --recipe my"), ("bin/zipasr", "zipasr train --recipe my")],
)
def test_what_comes_next_in_the_words_that_were_typed(
    program: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    lines = stages._next_commands("my").splitlines()
    assert lines[0].startswith(f"next: {first} --dry-run 1   ")
    assert len({line.rindex("   ") for line in lines}) == 1


def test_sizes_of_folders(tmp_path: Path) -> None:
    for size, shown in ((1536, "1.5K"), (15_000, "15K"), (3_000_000, "2.9M")):
        (tmp_path / "file").write_bytes(bytes(size))
        assert stages._size(tmp_path) == shown


HOLD = """
import sys
from pathlib import Path
from zipasr.base.lock import only_run_in
with only_run_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_preparations_of_a_recipe_do_not_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tones.make_recipe(tmp_path, train=1, evaluation=1)
    monkeypatch.chdir(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "data" / "tones")],
        cwd=tones.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert stages.main(["--recipe", "./tones"]) == ResourceError.exit_code
    said = capsys.readouterr().err
    assert said.startswith(
        f"prepare.sh: data/tones is in use by another preparation (process {other.pid}"
    )
    assert said.endswith("; two would write over one another. Fix: wait for it.\n")
    # Looking changes nothing, and needs no lock.
    assert stages.main(["--recipe", "./tones", "--status"]) == 0
    other.communicate("")
    assert stages.main(["--recipe", "./tones", "--stage", "3"]) == UserError.exit_code
    assert not (tmp_path / "data" / "tones").exists()


def test_force_is_told_to_the_stages_that_keep_what_is_there() -> None:
    recipe = load_recipe("espeak")
    usual, forced = (stages.stages_of(recipe, read_options(w)) for w in ([], ["--force"]))
    changed = [new.words for old, new in zip(usual, forced, strict=True) if new != old]
    assert changed == [(*usual[stage].words, "--force", "1") for stage in (1, 2)]
