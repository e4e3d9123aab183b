"""Manifests with damage: read and filtered as a training does, or refused in one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from tests.mutated import EXAMPLES, mutated, read_or_refused
from zipasr.corpora.manifest_files import ManifestsCorpus
from zipasr.data.filters import TrainFilter
from zipasr.data.index import load_train_cuts
from zipasr.data.loaders import load_cuts
from zipasr.data.validate import validate_cuts

FILTER = TrainFilter(encode=lambda texts: [[3] for _ in texts], output_lens=lambda num: num // 4)


def recording(name: str) -> Recording:
    source = AudioSource(type="file", channels=[0], source=f"sound/{name}.flac")
    return Recording(name, [source], sampling_rate=16000, num_samples=32000, duration=2.0)


def cut(name: str) -> MonoCut:
    said = SupervisionSegment(name, name, start=0.0, duration=2.0, text="THREE WORDS MORE")
    return MonoCut(name, 0.0, 2.0, 0, supervisions=[said], recording=recording(name))


CUTS = "".join(json.dumps(cut(f"cut-{n}").to_dict()) + "\n" for n in range(3)).encode()


def read(folder: Path) -> None:
    """Do with a manifest what training and stage 4 do."""
    for one in load_cuts(folder, "own", ["train"]):
        assert one.id
    load_train_cuts(folder, "own", ["train"], FILTER)
    validate_cuts(load_cuts(folder, "own", ["train"]), FILTER, "train")


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(data=st.data(), is_packed=st.booleans())
def test_cuts(
    data: st.DataObject, is_packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fbank")
    content = data.draw(mutated(CUTS) | st.just(CUTS))
    packed = gzip.compress(content, mtime=0)
    if is_packed:
        packed = data.draw(mutated(packed))
    (folder / "own_cuts_train.jsonl.gz").write_bytes(packed)
    read_or_refused(lambda: read(folder))


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["recordings", "supervisions"]))
def test_recordings_and_supervisions(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("source")
    cuts = [cut(f"cut-{n}") for n in range(3)]
    rows = {
        "recordings": [one.recording.to_dict() for one in cuts],
        "supervisions": [one.supervisions[0].to_dict() for one in cuts],
    }
    for name, items in rows.items():
        content = "".join(json.dumps(item) + "\n" for item in items).encode()
        if name == kind:
            content = data.draw(mutated(content))
        (folder / f"train_{name}.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    corpus = ManifestsCorpus(folder)
    read_or_refused(lambda: corpus.prepare(folder / "out", 1))
