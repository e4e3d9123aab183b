"""The stages of GigaSpeech, of which one subset is made in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.captured_output import Call
from tests.corpora import giga
from zipasr.base.errors import DataError
from zipasr.cli import prepare
from zipasr.data.loaders import load_cuts
from zipasr.data.manifests import manifests_of_split

pytest.importorskip("ijson")

RECIPE = """
corpus = "gigaspeech"
[splits]
train = ["XL"]
valid = ["DEV"]
test = ["TEST"]
[pieces]
XL = 2
[flags]
manifest-dir = "data/tones/fbank"
lang-dir = "data/tones/lang_bpe_20"
bpe-model = "data/tones/lang_bpe_20/bpe.model"
vocab-size = 20
min-cut-duration = 0.5
"""


def test_all_stages(tmp_path: Path, call: Call) -> None:
    (tmp_path / "tones").mkdir()
    (tmp_path / "tones" / "recipe.toml").write_text(RECIPE)
    copy = tmp_path / "copy"
    copy.mkdir()
    giga.write_copy(copy)
    assert "--giga-dir" in call(prepare.make_manifests, tmp_path).error
    assert call(prepare.make_manifests, tmp_path, "--giga-dir", "copy").status == 0
    assert call(prepare.compute_features, tmp_path, "--num-jobs", "1").status == 0
    for stage in (prepare.train_tokenizer, prepare.validate):
        said = call(stage, tmp_path)
        assert said.status == 0, said.err
    features = tmp_path / "data" / "tones" / "fbank"
    pieces = manifests_of_split(features, "gigaspeech", "XL")
    assert [path.name for path in pieces] == [
        "gigaspeech_cuts_XL.00000001.jsonl.gz",
        "gigaspeech_cuts_XL.00000002.jsonl.gz",
    ]
    assert pieces[0].parent.name == "gigaspeech_XL_split_2"
    cuts = [*load_cuts(features, "gigaspeech", ["XL"])]
    assert [cut.supervisions[0].text for cut in cuts] == [
        "SO HERE WE ARE",
        "ARE WE YES",
        "ONE MORE",
        "THE LAST OF THEM",
        "OH",
    ]
    assert all(cut.load_features().shape[1] == 80 for cut in cuts)
    # A piece that is not complete is made again, alone; until then nobody trains on the rest.
    before = pieces[0].stat().st_mtime_ns
    pieces[1].unlink()
    with pytest.raises(DataError, match="1 of 2 pieces have no features yet"):
        load_cuts(features, "gigaspeech", ["XL"])
    assert call(prepare.compute_features, tmp_path, "--num-jobs", "1").status == 0
    assert manifests_of_split(features, "gigaspeech", "XL") == pieces
    assert pieces[0].stat().st_mtime_ns == before
