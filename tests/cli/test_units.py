"""Units of every script through the commands: stage 3, import, and a whole run of characters."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from lhotse import SupervisionSet

from tests import tones
from tests.cli.conftest import Call
from tests.cli.test_prepare import make_project, sh
from tests.corpora.own import table_of
from zipasr.base.recipe import load_recipe
from zipasr.cli import decode, import_corpus, prepare, train
from zipasr.scoring.decodings import read_decodings
from zipasr.text.tokenizer import Tokenizer

MANDARIN = {"LOW": "低", "MID": "中", "HIGH": "高", "TOP": "顶点"}
SCRIPTS = {
    "Japanese": (dict(zip(MANDARIN, ["ひくい", "中", "たかい", "トップ"], strict=True)), "char"),
    "Hindi": (dict(zip(MANDARIN, ["निम्न", "मध्य", "उच्च", "शीर्ष"], strict=True)), "bpe"),
    "Arabic": (dict(zip(MANDARIN, ["منخفض", "وسط", "عال", "قمة"], strict=True)), "bpe"),
    "mixed": (dict(zip(MANDARIN, ["低", "mid", "高", "top"], strict=True)), "byte-bpe"),
}


def write_in(folder: Path, words: dict[str, str]) -> None:
    """Write the transcripts of the source in another script."""
    for path in (folder / "source").glob("*_supervisions.jsonl.gz"):
        supervisions = SupervisionSet.from_file(path).to_eager()
        for one in supervisions:
            one.text = " ".join(words[word] for word in (one.text or "").split())
        supervisions.to_file(path)


def test_stage_3_makes_characters_of_mandarin(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "project"
    make_project(folder)
    write_in(folder, MANDARIN)
    assert call(prepare.make_manifests, folder).status == 0
    (folder / "data/tones/.done").mkdir()
    (folder / "data/tones/.done/2").touch()
    words = ("--recipe", "./tones", "--stage", "3", "--stop-stage", "3")
    done = sh(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "--unit char: characters: 100 % of the words and characters are Chinese" in done.stderr
    lang = folder / "data/tones/lang_bpe"
    assert [line.split()[0] for line in (lang / "tokens.txt").read_text().splitlines()][:3] == [
        "<blk>",
        "<sos/eos>",
        "<unk>",
    ]
    assert {*Tokenizer.from_file(lang / "bpe.model").pieces()[3:]} == {*"低中高顶点"}
    done = sh(folder, *words, "--unit", "letters")
    assert done.returncode == 2
    assert "--unit: 'letters' is none of bpe, char, byte-bpe" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_stage_3_chooses_by_the_script(
    script: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, unit = SCRIPTS[script]
    tones.make_recipe(tmp_path, train=4, evaluation=2)
    write_in(tmp_path, words)
    assert call(prepare.make_manifests, tmp_path).status == 0
    said = call(prepare.train_tokenizer, tmp_path, "--vocab-size", "300")
    assert said.status == 0
    assert f"--unit {unit}: " in said.err
    tokenizer = Tokenizer.from_file(tmp_path / "data/tones/lang_bpe/bpe.model")
    assert tokenizer.unit == unit
    text = " ".join(words.values())
    assert tokenizer.unknown_id not in tokenizer.encode([text])[0]


@pytest.mark.parametrize(
    ("texts", "unit", "lang"),
    [
        (["低 中", "高顶点"], "char", "lang_char"),
        (["低 mid", "top 顶点"], "byte-bpe", "lang_bbpe_300"),
        (["निम्न मध्य", "उच्च शीर्ष"], "bpe", "lang_bpe_60"),
    ],
)
def test_an_import_writes_the_unit_into_the_recipe(
    texts: list[str],
    unit: str,
    lang: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    table = table_of(tmp_path, 8, text=[texts[n % 2] for n in range(8)])
    words = ["--recipe", "mine", "--from", str(table)]
    assert import_corpus.main(words) == 0
    assert f"(--unit {unit})" in capsys.readouterr().out
    flags = load_recipe("mine").flags
    assert flags["unit"] == unit
    assert flags["bpe-model"] == f"data/mine/{lang}/bpe.model"
    assert ("vocab-size" in flags) == (unit != "char")
    # The recipe is the user's now; another unit is no silent change.
    assert import_corpus.main([*words, "--unit", unit]) == 0
    other = "bpe" if unit == "char" else "char"
    assert import_corpus.main([*words, "--unit", other]) == 2
    assert f"says unit = '{unit}', but '{other}' was given" in capsys.readouterr().err


def test_characters_through_all_stages_to_the_report(tmp_path: Path, call: Call) -> None:
    flags = 'num-epochs = 1\nepoch = 1\nuse-averaged-model = 0\nunit = "char"'
    recipe = tones.make_recipe(tmp_path, train=12, evaluation=3, flags=flags)
    write_in(tmp_path, MANDARIN)
    tones.prepare(tmp_path, recipe)
    assert call(train.main, tmp_path).status == 0
    said = call(decode.main, tmp_path)
    assert said.status == 0
    assert "CER %" in said.out
    assert "ref characters" in said.out
    assert said.out.splitlines()[0].endswith("WER %")
    assert "greedy_search] %CER " in said.err
    (decoding,) = read_decodings(tmp_path / "exp")
    record = decoding.records[0]
    with gzip.open(tmp_path / "source/test_supervisions.jsonl.gz", "rt") as file:
        texts = {row["id"]: row["text"] for row in map(json.loads, file)}
    assert list(record.ref) == list(texts[record.id.rpartition("-")[0]].replace(" ", ""))
    assert record.errors.metric == "CER"
    (errs,) = (tmp_path / "exp/greedy_search").glob("errs-test-*.txt")
    assert errs.read_text().startswith("%CER = ")
    page = (tmp_path / "exp/report.html").read_text()
    assert '<th scope="col">CER %</th>' in page
    assert "characters</th>" in page
    assert " characters, " in (tmp_path / "exp/report.md").read_text()
