"""Scan of a manifest: what it finds is what reading row after row finds, errors included."""

from __future__ import annotations

import copy
import errno
import gzip
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.popen_fork import Popen
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import Features, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.serialization import deserialize_item

from tests.mutated import EXAMPLES, mutated
from zipasr.audio.quarantine import LeftOut, Quarantine
from zipasr.base.errors import DataError, ResourceError
from zipasr.data import manifest_scan
from zipasr.data.cuts import judge_cuts
from zipasr.data.fbank import is_left_out
from zipasr.data.filters import JudgedCut, TrainFilter
from zipasr.data.manifest_scan import Rules, scan
from zipasr.data.manifests import check_row, is_harmless
from zipasr.data.plain_cuts import plain_cut

WANTED = TrainFilter(
    encode=lambda texts: [[ord(char) for char in text] for text in texts],
    output_lens=lambda num: num // 4,
    use_ctc=True,
    min_duration=1.0,
)
QUARANTINE = Quarantine([LeftOut("sound/cut-3.flac", "damaged"), LeftOut("", "noise", "cut-5")])


def plain(number: int) -> MonoCut:
    """As stage 2 writes them; of lengths and texts that are kept, and others."""
    name, seconds = f"cut-{number}", 0.5 + number % 4
    source = AudioSource(type="file", channels=[0], source=f"sound/{name}.flac")
    recording = Recording(name, [source], 16000, int(seconds * 16000), seconds)
    said = SupervisionSegment(name, name, 0.0, seconds, text="EIN WORT " * (number % 6), channel=0)
    said.custom = {"accent": "en-gb", "snr": 22.4}
    features = Features(
        type="kaldi-fbank",
        num_frames=int(100 * seconds),
        num_features=80,
        frame_shift=0.01,
        sampling_rate=16000,
        start=0,
        duration=seconds,
        storage_type="zipasr_shard" if number % 2 else "lilcom_chunky",
        storage_path=f"features/{number % 3}",
        storage_key=f"{number},200",
        channels=0,
    )
    return MonoCut(f"{name}-0", 0, seconds, 0, [said], features=features, recording=recording)


def usual_rows() -> list[dict[str, Any]]:
    cuts = [plain(number) for number in range(12)]
    cuts += [cut.drop_features().perturb_speed(1.1) for cut in cuts[:3]]
    cuts += [cut.drop_features().perturb_tempo(0.9) for cut in cuts[:3]]
    cuts += [cuts[1].drop_features(), cuts[1].drop_recording()]
    return [cut.to_dict() for cut in cuts]


def unusual_rows() -> list[dict[str, Any]]:
    """Rows that only lhotse reads, and some that are no cuts."""
    cut, other = plain(1), plain(2)
    several = plain(2)
    several.supervisions = [*several.supervisions, *other.supervisions]
    nested = plain(1).to_dict()
    nested["custom"] = {"more": {"id": "a"}}
    deep: dict[str, Any] = plain(1).to_dict()
    deep["custom"] = {"a": json.loads("[" * 100 + "]" * 100)}
    found = [
        cut.drop_supervisions(),
        cut.pad(duration=9.0),
        cut.append(other),
        cut.mix(other, snr=10),
        several,
        cut.recording,
        cut.supervisions[0],
        cut.features,
    ]
    return [*(one.to_dict() for one in found), nested, deep]


USUAL, UNUSUAL = usual_rows(), unusual_rows()
ODD = [None, "", "words", -1, 0, 2.5, float("nan"), 1e999, {}, [], [1], True, "pipe:ls", "ls;.SPH"]
ODD += [
    {"type": "command", "source": "ls"},
    "a command",
    "\udc80",
    "\u017f.\u017fph $(ls)",
    10**400,
]


@st.composite
def changed(draw: st.DrawFn, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of which a value, at any depth, is missing or another one."""
    row = copy.deepcopy(row)
    inner: Any = row
    while True:
        names = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        name = draw(st.sampled_from(names))
        if isinstance(inner[name], dict | list) and inner[name] and draw(st.booleans()):
            inner = inner[name]
            continue
        if draw(st.booleans()):
            inner[name] = draw(st.sampled_from(ODD))
        elif isinstance(inner, dict) and draw(st.booleans()):
            inner["more"] = draw(st.sampled_from(ODD))
        else:
            del inner[name]
        return row


def of_rows(rows: list[dict[str, Any]], *, as_ascii: bool = False) -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=as_ascii) + "\n" for row in rows)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Return a manifest: usual and unusual rows, or some that are damaged, or the file is."""
    rows = draw(st.lists(st.sampled_from(USUAL + UNUSUAL), max_size=8))
    if draw(st.booleans()):
        rows = [draw(changed(row)) if draw(st.booleans()) else row for row in rows]
    content = of_rows(rows, as_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        content = draw(mutated(content))
    packed = gzip.compress(content, mtime=0)
    return draw(mutated(packed)) if draw(st.integers(0, 3)) == 0 else packed


def definition(rules: Rules) -> list[tuple[int, int, JudgedCut]]:
    """Return what is found in a manifest, read and judged row after row."""
    found, offset = [], 0
    with gzip.open(rules.manifest) as lines:
        for line in lines:
            row = json.loads(line)
            check_row(row, rules.manifest, allow_commands=rules.allow_commands)
            cut = deserialize_item(row)
            if not is_left_out(cut, rules.quarantine):
                found.append((offset, len(line), judge_cuts([cut], rules.wanted)[0]))
            offset += len(line)
    return found


def scanned(rules: Rules, copied: Path, processes: int) -> list[tuple[int, int, JudgedCut]]:
    found = []
    with closing(scan(rules, copied, processes)) as pieces:
        for piece in pieces:
            found += list(zip(piece.offsets, piece.sizes, piece.cuts, strict=True))
    return found


def outcome(read: Callable[[], list[tuple[int, int, JudgedCut]]]) -> str:
    """Return what is found or what is raised, as text: some numbers are not equal to themselves."""
    try:
        return repr(read())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def check_scan(content: bytes, folder: Path, processes: int, *, allow_commands: bool) -> None:
    manifest = folder / "own_cuts_train.jsonl.gz"
    manifest.write_bytes(content)
    rules = Rules(manifest, WANTED, QUARANTINE, allow_commands)
    expected = outcome(lambda: definition(rules))
    assert outcome(lambda: scanned(rules, folder / "copy", processes)) == expected
    if not expected.startswith("["):
        return
    with gzip.open(manifest) as lines:
        assert (folder / "copy").read_bytes() == lines.read()


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(content=contents(), size=st.sampled_from([1, 2000, 100_000]), allow_commands=st.booleans())
def test_finds_what_reading_in_order_finds(
    content: bytes, size: int, allow_commands: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scan, "_PIECE_BYTES", size)
        folder = tmp_path_factory.mktemp("scan")
        check_scan(content, folder, 1, allow_commands=allow_commands)


@settings(max_examples=max(10, EXAMPLES // 20), deadline=None)
@given(content=contents(), size=st.sampled_from([1, 2000]))
def test_processes_find_the_same(
    content: bytes, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scan, "_PIECE_BYTES", size)
        check_scan(content, tmp_path_factory.mktemp("scan"), 2, allow_commands=False)


def test_usual_rows_are_read_without_lhotse_and_are_the_same() -> None:
    for row in USUAL:
        cut = plain_cut(copy.deepcopy(row))
        expected = deserialize_item(copy.deepcopy(row))
        assert cut == expected
        assert is_harmless(of_rows([row]))
    assert [plain_cut(row) for row in UNUSUAL] == [None] * len(UNUSUAL)


@given(row=st.sampled_from(USUAL + UNUSUAL).flatmap(changed), as_ascii=st.booleans())
def test_nothing_that_is_refused_looks_harmless(row: dict[str, Any], as_ascii: bool) -> None:
    line = of_rows([row], as_ascii=as_ascii)
    try:
        check_row(json.loads(line), Path("manifest"), allow_commands=False)
    except DataError:
        assert not is_harmless(line)


def test_rows_before_damage_are_judged_first(tmp_path: Path) -> None:
    """The first of two errors is told, though the second one is found while reading."""
    bad = copy.deepcopy(USUAL[1])
    bad["recording"]["sources"][0]["type"] = "command"
    content = gzip.compress(of_rows([*USUAL, bad, *USUAL * 50]), mtime=0)[:-40]
    manifest = tmp_path / "own_cuts_train.jsonl.gz"
    manifest.write_bytes(content)
    rules = Rules(manifest, WANTED, QUARANTINE, allow_commands=False)
    for processes in (1, 2):
        with pytest.raises(DataError, match="would be read by the shell command"):
            scanned(rules, tmp_path / "copy", processes)


def test_a_killed_process_is_told(tmp_path: Path) -> None:
    def killed(texts: list[str]) -> list[list[int]]:
        os.kill(os.getpid(), signal.SIGKILL)
        return [[] for _ in texts]

    manifest = tmp_path / "own_cuts_train.jsonl.gz"
    manifest.write_bytes(gzip.compress(of_rows(USUAL)))
    wanted = TrainFilter(encode=killed, output_lens=lambda num: num)
    rules = Rules(manifest, wanted, QUARANTINE, allow_commands=False)
    with pytest.raises(ResourceError, match="was killed"):
        scanned(rules, tmp_path / "copy", 2)


@pytest.mark.parametrize("started", [0, 1])
def test_no_room_for_processes(
    started: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no other process can do, this one does; none is left over."""
    launch, launched = Popen._launch, []

    def full(popen: Popen, process: Any) -> None:
        if len(launched) == started:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        launched.append(process)
        launch(popen, process)

    monkeypatch.setattr(Popen, "_launch", full)
    monkeypatch.setattr(manifest_scan, "process_context", lambda: get_context("fork"))
    check_scan(gzip.compress(of_rows(USUAL)), tmp_path, 2, allow_commands=False)
    assert len(launched) == started
    assert not multiprocessing.active_children()
