"""Importers of people's corpora on mutated files: an error of ours in one line, or a corpus."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lhotse import SupervisionSet

from tests.corpora.own import WORDS, write_sound
from zipasr.base.errors import UserError
from zipasr.corpora.custom.own_corpus import OwnCorpus
from zipasr.corpora.custom.readers import read_source
from zipasr.corpora.custom.utterances import Utterance

LONG = "LONG_TESTS" in os.environ

# What breaks readers: separators, marks, times, names, JSON, bytes of no encoding.
TOKENS = [
    b'"', b'""', b",", b";", b"|", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\\", b"/", b"../", b"..",
    b"nan", b"inf", b"-inf", b"1e999", b"-1", b"-0.0", b"0", b"99999999999999999999", b"1" * 5000,
    b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c",
    b"{", b"}", b"[", b"]", b"[" * 3000, b":", b"null", b"true", b"[]", b"{}", b'"\\ud800"', b" |",
    b"wav.ark:7", b"a.wav", b"train", b"test/../x", b"text", b"audio", b"start", b"duration", b"id",
    b"\xcc\x88", b" ", b"\x1b[31m", b"sep=;\n", b"#", b"A", b"channel",
]  # fmt: skip


def table(folder: Path) -> None:
    rows = [f"{n}.wav,{WORDS[i]},0.{i},0.5,{i % 2},s{i},train" for i, n in enumerate("abcdef")]
    rows[2] = 'c.wav,"three, ""3""\nor so",,,A,,dev'
    head = "audio,text,start,duration,channel,speaker,split"
    (folder / "t.csv").write_text("\n".join([head, *rows, ""]))


def quoted_tsv(folder: Path) -> None:
    rows = [("path", "sentence", "id")]
    rows += [(f"{n}.wav", WORDS[i], f"u/{i}") for i, n in enumerate("abcdef")]
    text = "".join("\t".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    (folder / "train.tsv").write_text(text)
    (folder / "dev.tsv").write_text(text)


def kaldi(folder: Path) -> None:
    (folder / "wav.scp").write_text("".join(f"r{n} {n}.wav\n" for n in "abcdef"))
    (folder / "text").write_text("".join(f"u{n} {WORDS[i]}\n" for i, n in enumerate("abcdef")))
    (folder / "segments").write_text("".join(f"u{n} r{n} 0.1 0.9 0\n" for n in "abcdef"))
    (folder / "utt2spk").write_text("".join(f"u{n} s{n}\n" for n in "abcdef"))


def json_lines(folder: Path) -> None:
    rows = [
        {"audio_filepath": f"{n}.wav", "text": WORDS[i], "offset": 0.1, "duration": 0.5}
        for i, n in enumerate("abcdef")
    ]
    (folder / "m.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ljspeech(folder: Path) -> None:
    (folder / "wavs").symlink_to(folder)
    text = "".join(f"{n}|{i}|{WORDS[i]}\n" for i, n in enumerate("abcdef"))
    (folder / "metadata.csv").write_text(text)


def texts(folder: Path) -> None:
    for i, name in enumerate("abcdef"):
        (folder / f"{name}.txt").write_text(WORDS[i])


def recording(name: str) -> dict[str, object]:
    source = {"type": "file", "channels": [0], "source": f"{name}.wav"}
    length = {"sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
    return {"id": f"r{name}", "sources": [source], **length}


def supervision(name: str) -> dict[str, object]:
    place = {"recording_id": f"r{name}", "start": 0.1, "duration": 0.5, "channel": 0}
    return {"id": f"u{name}", "text": "yes", "speaker": "s", **place}


def lhotse_pair(folder: Path) -> None:
    for kind, make in (("recordings", recording), ("supervisions", supervision)):
        lines = "".join(json.dumps(make(name)) + "\n" for name in "abcdef")
        (folder / f"x_{kind}_train.jsonl").write_text(lines)


def cuts(folder: Path) -> None:
    rows = [
        {"id": f"c{n}", "start": 0.0, "duration": 1.0, "channel": 0, "type": "MonoCut",
         "supervisions": [supervision(n)], "recording": recording(n)}
        for n in "abcdef"
    ]  # fmt: skip
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "cuts.jsonl.gz").write_bytes(gzip.compress(content))


KINDS: dict[str, Callable[[Path], None]] = {
    kind.__name__: kind
    for kind in (table, quoted_tsv, kaldi, json_lines, ljspeech, texts, lhotse_pair, cuts)
}


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Places in a file (as a share of it), how many bytes go there, and what comes instead."""
    token = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4))
    one = st.tuples(st.floats(0, 1), st.integers(0, 12), token)
    return draw(st.lists(one, min_size=1, max_size=6))


def mutated(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for share, removed, token in changes:
        at = int(share * len(content))
        content = content[:at] + token + content[at + removed :]
    return content


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good corpus of each kind."""
    folders = {}
    for name, make in KINDS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        for seed, stem in enumerate("abcdef"):
            write_sound(folders[name] / f"{stem}.wav", seed=seed)
        make(folders[name])
    return folders


def text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".wav")


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_good_before_they_are_mutated(
    kind: str, sources: dict[str, Path], tmp_path: Path
) -> None:
    found = read_source(sources[kind], "utf-8", tmp_path)
    assert len(found.utterances) == (12 if kind == "quoted_tsv" else 6)
    assert not found.dropped


def fuzzed(source: Path, folder: Path, data: st.DataObject) -> Path:
    """Copy a corpus and mutate one of its text files."""
    copy = folder / "corpus"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source, copy, symlinks=True)
    path = data.draw(st.sampled_from(text_files(copy)))
    content = path.read_bytes()
    packed = path.suffix == ".gz" and data.draw(st.booleans())
    content = mutated(gzip.decompress(content) if packed else content, data.draw(mutations()))
    path.write_bytes(gzip.compress(content) if packed else content)
    return copy


def check_message(problem: UserError) -> None:
    """A terminal can show it in one line."""
    assert str(problem).isprintable(), str(problem)


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=3000 if LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_mutated_source_is_read_or_refused(
    kind: str, sources: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    source = fuzzed(sources[kind], tmp_path, data)
    try:
        found = read_source(source, "utf-8", tmp_path / "piped")
    except UserError as problem:
        check_message(problem)
        return
    ids = [utterance.id for utterance in found.utterances]
    assert len(set(ids)) == len(ids)
    for utterance in found.utterances:
        assert utterance.text == " ".join(utterance.text.split()) != ""
        assert 0 <= utterance.start < (utterance.end or float("inf"))
        utterance.text.encode()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=1500 if LONG else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_mutated_source_is_imported_or_refused(
    kind: str,
    sources: dict[str, Path],
    tmp_path: Path,
    data: st.DataObject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above, through sound, splits, manifests and report; nothing is written elsewhere."""

    def refuse(utterances: Sequence[Utterance], *_: object) -> dict[Path, str]:
        return {one.audio: "not run here" for one in utterances if one.command}

    # No shell is given what chance has written.
    monkeypatch.setattr("zipasr.corpora.custom.own_corpus.run_commands", refuse)
    source = fuzzed(sources[kind], tmp_path, data)
    shutil.rmtree(tmp_path / "data", ignore_errors=True)
    settings_of = {"from": str(source), "max-bad": 100}
    corpus = OwnCorpus.from_settings(tmp_path / "data/audio", settings_of)
    logging.disable(logging.CRITICAL)
    before = {*tmp_path.rglob("*")}
    try:
        counts = corpus.prepare(tmp_path / "data/manifests", 1)
    except UserError as problem:
        check_message(problem)
        return
    finally:
        logging.disable(logging.NOTSET)
        made = {path for path in {*tmp_path.rglob("*")} - before if not path.is_dir()}
        assert all(path.is_relative_to(tmp_path / "data") for path in made)
    for split, count in counts.items():
        path = tmp_path / f"data/manifests/own_supervisions_{split}.jsonl.gz"
        assert len(SupervisionSet.from_file(path)) == count
