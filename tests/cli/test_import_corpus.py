"""A corpus of one's own through the command that a user types."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from lhotse import RecordingSet, SupervisionSet

from tests import tones
from tests.cli.test_prepare import sh
from tests.corpora.own import table_of
from zipasr.base.recipe import load_recipe
from zipasr.cli import import_corpus, prepare
from zipasr.corpora.custom.utterances import Utterance

SHARED = tones.ROOT.parent / "shared" / "data"
needs_speech = pytest.mark.skipif(not SHARED.is_dir(), reason="no real speech beside this clone")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with prepare.sh and no recipe."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(tones.ROOT / "prepare.sh", folder)
    shutil.copytree(tones.ROOT / "local", folder / "local")
    return folder


@needs_speech
def test_seven_real_utterances_through_all_stages(project: Path) -> None:
    done = sh(project, "--recipe", "an4", "--from", str(SHARED / "an4_mini"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote egs/an4/recipe.toml: ")
    assert "./train.py --recipe an4 --world-size 1" in done.stdout
    assert "./decode.py --recipe an4" in done.stdout
    assert "split test: 2 utterances" in done.stderr
    assert (project / "data/an4/fbank/own_cuts_train.jsonl.gz").is_file()
    assert load_recipe(str(project / "egs/an4")).splits["test"] == ["test"]


@needs_speech
def test_8_khz_digits_are_resampled_and_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with (SHARED / "fsdd" / "utterances.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[::20]
    table = project / "digits.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "text", "speaker"])
        for row in rows:
            audio = SHARED / "fsdd" / "audio" / row["speaker"] / f"{row['utt_id']}.flac"
            writer.writerow([audio, row["text"], row["speaker"]])
    words = ["--recipe", "digits", "--from", str(table)]
    assert import_corpus.main(words) == 0
    assert prepare.make_manifests(["--recipe", "digits"]) == 0
    assert "8000 Hz, 1 channel: 150 files -> 16000 Hz; narrow-band" in capsys.readouterr().err
    # Six speakers: one of them in dev, one in test.
    speakers = [
        {segment.speaker for segment in SupervisionSet.from_file(path)}
        for path in sorted((project / "data/digits/manifests").glob("own_supervisions_*"))
    ]
    assert sorted(map(len, speakers)) == [1, 1, 4]
    assert len(set.union(*speakers)) == 6
    recordings = RecordingSet.from_file(
        project / "data/digits/manifests/own_recordings_train.jsonl.gz"
    )
    assert {recording.sampling_rate for recording in recordings} == {16000}
    # The recipe is the user's now.
    with (project / "egs/digits/recipe.toml").open("a", encoding="utf-8") as file:
        file.write("log-interval = 7\n")
    assert import_corpus.main(words) == 0
    assert load_recipe("digits").flags["log-interval"] == 7


def test_without_a_name_the_recipe_is_my_and_paths_count_from_here(project: Path) -> None:
    table_of(project / "speech", 12)
    # sh starts the script in "/".
    relative = str(project / "speech").lstrip("/")
    done = sh(project, "--from", relative, "--stop-stage", "1")
    assert done.returncode == 0, done.stderr
    options = load_recipe(str(project / "egs/my")).corpus_options
    assert Path(options["from"]).samefile(project / "speech")


def test_the_import_says_why_and_what_to_expect(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table_of(project / "speech", 12)
    monkeypatch.chdir(project)
    (project / "exp" / "other").mkdir(parents=True)
    (project / "exp" / "other" / "best-dev-wer.pt").touch()
    assert import_corpus.main(["--recipe", "my", "--from", "speech"]) == 0
    said = capsys.readouterr().out
    for words in ("model: 2.7 M", "CTC first: ", "expect: ", "test: "):
        assert f"\n  {words}" in said
    assert "--recipe my --do-finetune 1 --finetune-ckpt exp/other/best-dev-wer.pt" in said
    text = (project / "egs/my/recipe.toml").read_text()
    assert "\n# model: 2.7 M parameters" in text
    flags = load_recipe("my").flags
    assert flags["auto-avg"] == 1
    assert flags["save-every-epochs"] == 3
    assert flags["num-epochs"] == 60


@pytest.mark.parametrize(("count", "longest"), [(10, 70.0), (300, 70.0), (5000, 2.0)])
def test_long_is_what_a_hundredth_of_the_speech_is_longer_than(count: int, longest: float) -> None:
    seconds = {str(number): 2.0 for number in range(count)} | {"long": 70.0}
    utterances = [Utterance(id=name, audio=Path(name), text="a", split="train") for name in seconds]
    seen = SimpleNamespace(utterances=utterances, seconds=lambda utterance: seconds[utterance.id])
    sizes = import_corpus.sizes_of(seen, "bpe")  # type: ignore[arg-type]
    assert (sizes.shortest, sizes.longest) == (2.0, longest)


def test_text_that_is_not_utf_8_is_one_line_with_the_place(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(project / "speech", 12)
    text = table.read_text().replace("five", "café crème brûlée")
    table.write_bytes(text.encode("cp1252"))
    monkeypatch.chdir(project)
    words = ["--recipe", "my", "--from", "speech"]
    assert import_corpus.main(words) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "table.tsv is not utf-8: line 6, column 19, bytes E9 20 63" in line
    assert "Fix: give --encoding cp1252" in line
    assert not (project / "egs").exists()
    assert import_corpus.main([*words, "--encoding", "cp1252"]) == 0
    assert load_recipe(str(project / "egs/my")).corpus_options["encoding"] == "cp1252"


def test_a_recipe_about_something_else_is_kept(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    table_of(project / "speech", 12)
    table_of(project / "other", 12)
    assert import_corpus.main(["--recipe", "my", "--from", "speech"]) == 0
    assert import_corpus.main(["--recipe", "my", "--from", "speech"]) == 0
    written = (project / "egs/my/recipe.toml").read_text()
    capsys.readouterr()
    assert import_corpus.main(["--recipe", "my", "--from", "other"]) == 2
    assert "says from = 'speech', but 'other' was given" in capsys.readouterr().err
    assert (project / "egs/my/recipe.toml").read_text() == written
    tones.make_recipe(project)
    assert import_corpus.main(["--recipe", "./tones", "--from", "speech"]) == 2
    assert "is a recipe for the corpus 'manifests'" in capsys.readouterr().err


def test_an_encoding_without_a_source_is_refused(project: Path) -> None:
    done = sh(project, "--recipe", "x", "--encoding", "latin-1")
    assert done.returncode == 2
    assert done.stderr == "prepare.sh: --encoding is about the text of --from PATH.\n"


def test_the_way_on_without_what_is_bad_names_the_recipe(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(project / "speech", 12)
    lines = table.read_text().splitlines()
    missing = [lines[1].replace(".flac", f"-{n}.flac") for n in range(12)]
    table.write_text("\n".join([*lines, *missing, ""]))
    monkeypatch.chdir(project)
    assert import_corpus.main(["--recipe", "mine", "--from", "speech"]) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("./prepare.sh --recipe mine --from speech --max-bad 50")
