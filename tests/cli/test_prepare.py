"""The stages of preparation: each once, in order, and clear about what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, SupervisionSet

from tests import tones
from tests.cli.conftest import Call
from tests.cli.test_help import LINES
from zipasr.cli import decode, prepare, train
from zipasr.cli.help import WIDTH
from zipasr.cli.prepare_options import USAGE
from zipasr.text.tokenizer import read_tokens

DAMAGED, WORDY = "train-007", "train-011"
DONE = "data/tones/.done"
needs_no_tomli = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 reads recipes with a package, tomli"
)


def sh(folder: Path, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run prepare.sh of ``folder``, which is a project of its own with the package of this one."""
    return subprocess.run(
        [str(folder / "prepare.sh"), *words],
        env=tones.environment() | {"PYTHON": python, "PYTHONPATH": str(tones.ROOT)},
        cwd="/",  # where it is started from makes no difference
        capture_output=True,
        text=True,
        check=False,
    )


def bare_python(folder: Path) -> str:
    """A Python without packages, but for that of this project."""
    path = folder / "bare-python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def make_project(folder: Path) -> None:
    """Copy what prepare.sh needs: it works where it stands, and that should not be here."""
    folder.mkdir()
    shutil.copy(tones.ROOT / "prepare.sh", folder)
    shutil.copytree(tones.ROOT / "local", folder / "local")
    (folder / "egs" / "espeak").mkdir(parents=True)
    shutil.copy(tones.ROOT / "egs" / "espeak" / "recipe.toml", folder / "egs" / "espeak")
    tones.make_recipe(folder)


def damage_audio(folder: Path, name: str) -> None:
    path = folder / "source" / "train" / f"{name}.flac"
    path.write_bytes(path.read_bytes()[:200])


def make_wordy(folder: Path, name: str) -> None:
    path = folder / "source" / "train_supervisions.jsonl.gz"
    supervisions = SupervisionSet.from_file(path).to_eager()
    supervisions[name].text = "LOW MID HIGH TOP " * 20
    supervisions.to_file(path)


@pytest.fixture(scope="module")
def prepared_by_script(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A project with two flaws in its data, and what prepare.sh said about it."""
    folder = tmp_path_factory.mktemp("script") / "project"
    make_project(folder)
    damage_audio(folder, DAMAGED)
    make_wordy(folder, WORDY)
    return folder, sh(folder, "--recipe", "./tones", "--num-jobs", "2")


@pytest.fixture
def project(
    prepared_by_script: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(prepared_by_script[0], tmp_path / "project"))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A project in which nothing is prepared."""
    make_project(tmp_path / "project")
    return tmp_path / "project"


def test_all_stages_run_in_order_and_say_what_they_wrote(
    prepared_by_script: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = prepared_by_script
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("stage ")]
    assert [line.split()[1] for line in told] == ["1:", "1:", "2:", "2:", "3:", "3:", "4:", "4:"]
    assert all(" s, wrote data/tones" in line for line in told[1::2])
    assert sorted(path.name for path in (folder / DONE).iterdir()) == ["1", "2", "3", "4"]
    assert (folder / "data/tones/lang_bpe/bpe.model").is_file()


def test_flaws_of_the_data_are_counted_and_listed(
    prepared_by_script: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = prepared_by_script
    assert "sound: 76 files read" in done.stderr
    assert f"1: damaged audio, e.g. source/train/{DAMAGED}.flac" in done.stderr.replace(
        f"{folder}/", ""
    )
    for quarantine in ("manifests", "fbank"):
        path = folder / "data/tones" / quarantine / "quarantine.tsv"
        head, *rows = path.read_text().splitlines()
        assert head.split("\t")[:2] == ["path", "reason"]
        assert {Path(row.split("\t")[0]).stem: row.split("\t")[2] for row in rows} == {
            DAMAGED: "",
            WORDY: WORDY,
        }
    # Stage 4 says it again, without reading the files.
    assert "1: damaged audio" in done.stdout
    assert f"1: more text than anyone says in that time, e.g. {WORDY} (" in done.stdout
    assert "kept 58 of 58 cuts" in done.stdout


def test_training_goes_on_without_the_flawed_and_says_so(project: Path) -> None:
    done = tones.run(project, "train.py", "--num-epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "training set: kept 58 of 58 cuts" in done.stderr
    assert (project / "exp" / "epoch-1.pt").is_file()


@needs_no_tomli
def test_a_second_run_does_nothing(
    prepared_by_script: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, _ = prepared_by_script
    files = {path: path.stat().st_mtime_ns for path in (folder / "data").rglob("*")}
    done = sh(folder, "--recipe", "./tones", python=bare_python(tmp_path))
    assert done.returncode == 0
    told = [line.split(",")[0] for line in done.stdout.splitlines()]
    assert told == [f"stage {number}: done before" for number in (1, 2, 3, 4)]
    assert {path: path.stat().st_mtime_ns for path in (folder / "data").rglob("*")} == files


def test_one_stage_done_again_puts_the_later_ones_out_of_date(project: Path) -> None:
    words = ("--stage", "3", "--stop-stage", "3")
    assert sh(project, "--recipe", "./tones", *words).stdout.startswith("stage 3: done before")
    done = sh(project, "--recipe", "./tones", *words, "--force")
    assert done.returncode == 0, done.stderr
    assert "stage 3: training transcripts" in done.stdout
    assert "stage 2" not in done.stdout
    assert sorted(path.name for path in (project / DONE).iterdir()) == ["1", "2", "3"]
    again = sh(project, "--recipe", "./tones").stdout.splitlines()
    assert ["done before" in line for line in again[:4]] == [True, True, True, False]
    assert (project / DONE / "4").exists()


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_a_stage_names_the_one_that_has_to_come_before(stage: int, fresh: Path) -> None:
    done = sh(fresh, "--recipe", "./tones", "--stage", str(stage))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        f"prepare.sh: stage {stage} needs what stage {stage - 1} makes. "
        "Fix: begin with stage 1: ./prepare.sh --recipe ./tones --stage 1"
    )


def test_a_stage_that_fails_ends_the_run_and_is_not_marked(fresh: Path) -> None:
    shutil.rmtree(fresh / "source")
    done = sh(fresh, "--recipe", "./tones")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "source" in line
    assert not list((fresh / DONE).iterdir())
    assert "stage 2" not in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stages", "2"], "unknown option --stages. Fix: ./prepare.sh --help"),
        (["--stage"], "--stage needs a value"),
        (["--stage", "two"], "--stage: expected a whole number, got 'two'"),
        (["--stage", "9"], "nothing to do from stage 9 to stage 9"),
        (["--stage", "3", "--stop-stage", "2"], "nothing to do from stage 3 to stage 2"),
        (["--full-libri", "maybe"], "--full-libri: expected 1 or 0, got 'maybe'"),
        (["--mini-libri", "2"], "--mini-libri: expected 1 or 0, got '2'"),
        (["--num-jobs", "-1"], "--num-jobs: expected a whole number, got '-1'"),
        (["--strict-rate", "1"], "--strict-rate is about the sound files of --from PATH"),
        (["--from", "x", "--max-bad", "few"], "--max-bad: expected a number, got 'few'"),
        (["--recipe", "espaek"], "no recipe 'espaek': egs/espaek/recipe.toml does not exist"),
        (["--recipe", "espaek"], "egs has espeak."),
        (["--recipe", "./nosuch"], "no recipe './nosuch'"),
    ],
)
def test_what_the_script_cannot_do_is_one_line(
    words: list[str], message: str, prepared_by_script: tuple[Path, object]
) -> None:
    done = sh(prepared_by_script[0], *words)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("prepare.sh: ")
    assert message in line


def test_a_python_without_the_packages_is_told_what_to_install(fresh: Path) -> None:
    done = sh(fresh, "--recipe", "./tones", python=bare_python(fresh))
    assert done.returncode == 2
    assert "lacks packages. Fix: local/install.sh requirements.txt" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_python_that_is_none_is_one_line(fresh: Path) -> None:
    done = sh(fresh, "--help", python="no-such-python")
    assert done.returncode == 2
    assert done.stderr == (
        "prepare.sh: no-such-python is no Python 3.10 or newer. "
        "Fix: PYTHON=python3.11 ./prepare.sh\n"
    )


def test_help_fits_a_screen_and_all_of_it_lists_the_stages(fresh: Path) -> None:
    brief = sh(fresh, "--help", python=bare_python(fresh)).stdout.splitlines()
    assert len(brief) <= LINES
    assert max(map(len, brief)) <= WIDTH
    known = {*re.findall(r"--[a-z-]+", USAGE), "--help-all"}
    assert {*re.findall(r"--[a-z-]+", " ".join(brief))} <= known
    done = sh(fresh, "--help-all", python=bare_python(fresh))
    assert done.returncode == 0
    names = ("download", "corpus", "features", "tokenizer", "validate", "lm")
    for number, name in enumerate(names):
        assert f"\n  {number}  {name}" in done.stdout


@pytest.mark.parametrize(
    ("main", "gone", "stage"),
    [
        (prepare.compute_features, "manifests", 1),
        (prepare.train_tokenizer, "manifests", 1),
        (prepare.validate, "fbank", 2),
        (prepare.validate, "lang_bpe", 3),
        (train.main, "fbank", 2),
        (train.main, "lang_bpe", 3),
        (decode.main, "fbank", 2),
    ],
)
def test_what_an_earlier_stage_has_not_made_is_named(
    main: Callable[[list[str]], int], gone: str, stage: int, workdir: Path, call: Call
) -> None:
    shutil.rmtree(workdir / "data" / "tones" / gone)
    said = call(main, workdir)
    assert said.status == 3
    assert f"./prepare.sh --recipe ./tones --stage {stage}" in said.error.split("Fix: run ")[1]
    assert "first" in said.error
    assert not (workdir / "exp").exists()


def test_damaged_features_are_no_fault_of_the_corpus(workdir: Path, call: Call) -> None:
    archives = sorted((workdir / "data/tones/fbank").rglob("*.lca"))
    archives[0].unlink()
    said = call(prepare.validate, workdir)
    assert said.status == 3
    again = "./prepare.sh --recipe ./tones --stage 2 --force"
    assert said.error.endswith(f"Fix: compute the features again: {again}")
    assert call(prepare.compute_features, workdir, "--num-jobs", "1").status == 0
    assert call(prepare.validate, workdir).status == 0


def test_the_check_is_a_verb_of_its_own(workdir: Path) -> None:
    def validate() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zipasr", "validate", "--recipe", "./tones"],
            env=tones.environment() | {"PYTHONPATH": str(tones.ROOT)},
            cwd=workdir,
            capture_output=True,
            text=True,
            check=False,
        )

    before = {path.stat().st_mtime_ns for path in workdir.rglob("*")}
    done = validate()
    tones.check(done)
    cuts = len(CutSet.from_file(workdir / "data/tones/fbank/manifests_cuts_train.jsonl.gz"))
    assert f"manifests train: sound\n  kept {cuts} of {cuts} cuts, " in done.stdout
    assert {path.stat().st_mtime_ns for path in workdir.rglob("*")} == before
    next((workdir / "data/tones/fbank").rglob("*.lca")).unlink()
    done = validate()
    assert done.returncode == 3
    assert "HAS FAULTS" in done.stdout
    again = "zipasr prepare --recipe ./tones --stage 2 --force"
    assert done.stderr.endswith(f"Fix: compute the features again: {again}\n")


def test_many_damaged_files_stop_the_stage(fresh: Path, call: Call) -> None:
    assert call(prepare.make_manifests, fresh).status == 0
    for number in range(4):
        damage_audio(fresh, f"train-{number:03d}")
    said = call(prepare.compute_features, fresh, "--num-jobs", "1")
    assert said.status == 3
    error = said.err.splitlines()[-1]
    assert error.startswith("error: 4 of 76 sound files cannot be used; data/tones/manifests/qu")
    assert "Fix: restore the audio files" in error
    listed = fresh / "data/tones/manifests/quarantine.tsv"
    assert len(listed.read_text().splitlines()) == 1 + 4
    assert not (fresh / "data/tones/fbank/manifests_cuts_train.jsonl.gz").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(fresh: Path, call: Call) -> None:
    (fresh / "data").mkdir(mode=0o500)
    said = call(prepare.make_manifests, fresh)
    assert said.status == 5
    assert "data" in said.error


def test_a_file_where_a_folder_belongs_is_one_line(fresh: Path, call: Call) -> None:
    (fresh / "data").write_text("")
    said = call(prepare.make_manifests, fresh)
    assert said.status == 5
    assert "Not a directory" in said.error


def published(folder: Path) -> None:
    """Make the recipe one whose stages begin with a download, and give it a subset."""
    path = folder / "tones" / "recipe.toml"
    path.write_text(
        "stages = [0, 5]\n"
        + path.read_text()
        + '\n[needs]\n0 = "9 GB"\n3 = "an hour"\n[needs.mini-libri]\n0 = "1 GB"\n'
        + '[subsets.mini-libri.splits]\ntrain = ["train"]\n'
    )


@needs_no_tomli
def test_a_dry_run_says_what_it_would_do_and_does_nothing(fresh: Path) -> None:
    published(fresh)
    words = ("--recipe", "./tones", "--dry-run")
    done = sh(fresh, *words, python=bare_python(fresh))
    assert done.returncode == 0
    told = done.stdout.splitlines()
    assert [line.split()[1] for line in told] == [f"{number}:" for number in range(6)]
    assert all(line.split(":")[1] == " would do" for line in told)
    assert told[0].endswith("; needs 9 GB")
    # What the recipe says takes the place of what holds for most.
    assert told[3].endswith("training transcripts -> tokenizer; needs an hour")
    assert told[4].endswith(" (seconds)")
    assert sh(fresh, *words, "--mini-libri", "1").stdout.splitlines()[0].endswith("; needs 1 GB")
    assert not (fresh / "data").exists()


@needs_no_tomli
def test_the_status_tells_done_from_to_do(project: Path) -> None:
    words = ("--recipe", "./tones", "--status")
    told = sh(project, *words, python=bare_python(project)).stdout.splitlines()
    assert [line.split()[2] for line in told] == ["done"] * 4
    (project / DONE / "4").unlink()
    told = sh(project, *words).stdout.splitlines()
    assert told[3].startswith("stage 4: to do: check everything")
    # Another subset, and another vocabulary, are other work.
    published(project)
    told = sh(project, *words, "--mini-libri", "1").stdout.splitlines()
    assert [line.split(":")[1] for line in told] == [" to do"] * 6
    told = sh(project, *words, "--vocab-size", "30").stdout.splitlines()
    assert [line.split(":")[1].split()[0] for line in told] == [
        "to",
        "done",
        "done",
        "to",
        "to",
        "to",
    ]


def test_another_vocabulary_has_a_folder_of_its_own(project: Path) -> None:
    words = ("--recipe", "./tones", "--stage", "3", "--stop-stage", "3", "--vocab-size", "15")
    done = sh(project, *words)
    assert done.returncode == 0, done.stderr
    assert len(read_tokens(project / "data/tones/lang_bpe_15/tokens.txt")) <= 15
    assert len(read_tokens(project / "data/tones/lang_bpe/tokens.txt")) > 15
    assert (project / DONE / "3").exists()
    assert (project / DONE / "3-15").exists()


def test_noise_of_any_folder_rooms_and_telephones_are_trained_with(
    project: Path, call: Call
) -> None:
    noise = project / "street"
    noise.mkdir()
    draws = np.random.default_rng(1)
    soundfile.write(noise / "hiss.wav", draws.uniform(-0.1, 0.1, 2 * tones.RATE), tones.RATE)
    words = ("--recipe", str(project / "tones"), "--stage", "2", "--stop-stage", "2")
    done = sh(project, *words, "--noise-dir", str(noise))
    assert done.returncode == 0, done.stderr
    assert "noise: 1 files of" in done.stderr
    assert (project / "data/tones/fbank/musan_cuts.jsonl.gz").is_file()
    missing = sh(project, *words, "--noise-dir", str(project / "nowhere"), "--force")
    assert missing.returncode == 3
    assert "nowhere is no folder." in missing.stderr.splitlines()[-1]

    flags = ["--exp-dir", "noisy", "--num-epochs", "1", "--enable-musan", "1", "--num-workers", "0"]
    effects = ["--enable-rir", "1", "--enable-codec", "1"]
    said = call(train.main, project, *flags, *effects)
    assert said.status == 2
    assert "--enable-rir 1 changes sound, and stored features have none. Fix: add --on-the" in (
        said.error
    )
    said = call(train.main, project, *flags, *effects, "--on-the-fly-feats", "1")
    assert said.status == 0, said.err
    assert (project / "noisy" / "epoch-1.pt").is_file()


def test_a_stage_that_a_recipe_does_not_have_is_said_to_be_none(fresh: Path) -> None:
    done = sh(fresh, "--recipe", "./tones", "--stage", "0", "--stop-stage", "0")
    assert done.returncode == 2
    assert "recipe 'tones' has nothing to download" in done.stderr


def test_text_for_a_language_model_is_made_when_it_is_asked_for(project: Path) -> None:
    done = sh(project, "--recipe", "./tones", "--stage", "5")
    assert done.returncode == 0, done.stderr
    assert "stage 5: took" in done.stdout
    assert len((project / "data/tones/lm/train.txt").read_text().splitlines()) == 60
