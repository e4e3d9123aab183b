from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.utils import fastcopy

from tests.data.conftest import CONFIG, NUM_CUTS, TinyCorpus, write_manifests, write_recording
from zipasr.data.fbank import compute_and_store
from zipasr.data.filters import TOO_LONG, TrainFilter
from zipasr.data.validate import (
    NOT_ONE_SUPERVISION,
    SAME_ID_TWICE,
    SUPERVISION_SHIFTED,
    SUPERVISION_TOO_LONG,
    UNREADABLE,
    report_text,
    validate_cuts,
    validate_split,
)

WANTED = TrainFilter(max_duration=2.5)


def test_sound_corpus(corpus: TinyCorpus) -> None:
    report = validate_split(corpus.fbank, "tiny", "train", WANTED, num_samples=6)
    too_long = sum(cut.duration > 2.5 for cut in corpus.cuts)
    assert report.is_sound
    assert report.num_features_read == 6
    assert report.drops.dropped == {TOO_LONG: too_long}
    assert report.drops.kept == NUM_CUTS - too_long
    text = report_text([report])
    assert text.startswith("tiny train: sound\n")
    assert f"dropped {too_long}: longer than --max-cut-duration" in text
    assert "% of the hours are not trained on (longer than --max-cut-duration: raise" in text
    decoded = validate_split(corpus.fbank, "tiny", "train", None, num_samples=6)
    assert (decoded.drops.kept, dict(decoded.drops.dropped)) == (NUM_CUTS, {})


def test_faults_are_found_and_counted(corpus: TinyCorpus) -> None:
    a, b, c, d, e, f = corpus.cuts.subset(first=6)
    supervision = c.supervisions[0]
    cuts = CutSet.from_cuts([a, b, c, d, e, f])
    cuts = CutSet(
        [
            a,
            fastcopy(b, id=a.id),
            fastcopy(c, supervisions=[supervision, supervision]),
            fastcopy(d, supervisions=[fastcopy(d.supervisions[0], start=0.01)]),
            fastcopy(e, supervisions=[fastcopy(e.supervisions[0], duration=e.duration + 1)]),
            fastcopy(f, features=fastcopy(f.features, storage_path="gone.lca")),
        ]
    )
    report = validate_cuts(cuts, WANTED, "tiny broken")
    assert not report.is_sound
    assert not report.lacks_features_alone
    for kind in (NOT_ONE_SUPERVISION, SAME_ID_TWICE, SUPERVISION_SHIFTED, UNREADABLE):
        assert report.problems[kind] == 1
    # The shifted one ends late too.
    assert report.problems[SUPERVISION_TOO_LONG] == 2
    text = report_text([report])
    assert "tiny broken: HAS FAULTS" in text
    assert f"  fault, 1 times: {UNREADABLE}, e.g. {f.id} (" in text
    assert validate_cuts(CutSet([a, cuts[f.id]]), WANTED, "tiny broken").lacks_features_alone


def test_quarantined_cuts_are_reported(tmp_path: Path) -> None:
    recordings = [write_recording(tmp_path, f"u{i}", 1.0, seed=i) for i in range(3)]
    write_manifests(tmp_path, "dev", recordings, ["ON"] * 3)
    (tmp_path / "u1.flac").write_bytes(b"")
    compute_and_store("tiny", "dev", tmp_path, tmp_path, CONFIG)
    report = validate_split(tmp_path, "tiny", "dev", WANTED)
    assert report.quarantined == 1
    assert "1 cuts are missing because their audio is damaged" in report_text([report])


@pytest.mark.parametrize("num_samples", [0, 1, 1000])
def test_any_number_of_samples(corpus: TinyCorpus, num_samples: int) -> None:
    report = validate_cuts(corpus.cuts, WANTED, "tiny", num_samples=num_samples)
    assert report.num_features_read >= min(num_samples, NUM_CUTS) or num_samples == 0
