import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse import CutSet, SupervisionSegment
from lhotse.cut import MonoCut
from lhotse.testing.dummies import dummy_recording

from tests.data.conftest import TinyCorpus
from zipasr.data.cuts import in_memory
from zipasr.data.filters import (
    MORE_TOKENS_THAN_FRAMES,
    NO_TEXT,
    TOO_LONG,
    TOO_SHORT,
    DropReport,
    TrainFilter,
    keep_alignable,
    keep_duration,
    num_frames,
)


def output_lens(frames: int) -> int:
    return ((frames - 7) // 2 + 1) // 2


def encode(texts: list[str]) -> list[list[int]]:
    return [[ord(char) for char in text] for text in texts]


def cut_of(seconds: float, text: str, name: str = "a") -> MonoCut:
    recording = dummy_recording(0, duration=seconds, with_data=False)
    supervision = SupervisionSegment(name, recording.id, 0.0, seconds, text=text)
    return MonoCut(
        name,
        start=0.0,
        duration=seconds,
        channel=0,
        supervisions=[supervision],
        recording=recording,
    )


def test_limits_are_included() -> None:
    kept = [s for s in (0.99, 1.0, 20.0, 20.01) if keep_duration(cut_of(s, "A"), 1.0, 20.0)]
    assert kept == [1.0, 20.0]


@given(st.integers(9, 200), st.lists(st.integers(3, 5), max_size=30))
def test_alignable_with_ctc_has_a_finite_loss(frames: int, tokens: list[int]) -> None:
    length = output_lens(frames)
    alignable = keep_alignable(frames, tokens, output_lens, use_ctc=True)
    log_probs = torch.full((length, 1, 6), -1.8)
    loss = torch.nn.functional.ctc_loss(
        log_probs, torch.tensor([tokens]), torch.tensor([length]), torch.tensor([len(tokens)])
    )
    if alignable:
        assert torch.isfinite(loss)
        assert length - 2 >= len(tokens)


def test_published_margins() -> None:
    tokens = list(range(3, 13))
    frames = {t: next(f for f in range(7, 99) if output_lens(f) == t) for t in (9, 10, 11, 12)}
    without = [t for t in frames if keep_alignable(frames[t], tokens, output_lens, use_ctc=False)]
    with_ctc = [t for t in frames if keep_alignable(frames[t], tokens, output_lens, use_ctc=True)]
    assert (without, with_ctc) == ([10, 11, 12], [12])


def test_frames_without_features(corpus: TinyCorpus) -> None:
    for cut in corpus.cuts:
        assert num_frames(cut.drop_features()) == cut.num_frames


def test_reasons_are_counted() -> None:
    cuts = CutSet.from_cuts(
        [
            cut_of(0.5, "A", "short"),
            cut_of(21.0, "A", "long"),
            cut_of(2.0, "", "silent"),
            cut_of(1.0, "A" * 30, "dense"),
            cut_of(1.0, "ABC", "good"),
            cut_of(3.0, "ABC", "better"),
        ]
    )
    kept, report = in_memory(cuts, TrainFilter(encode=encode, output_lens=output_lens))
    assert [kept.source[number].id for number in range(len(kept))] == ["good", "better"]
    assert kept.lengths.seconds.tolist() == [1.0, 3.0]
    assert kept.lengths.tokens.tolist() == [3, 3]
    reasons = {TOO_SHORT: 1, TOO_LONG: 1, NO_TEXT: 1, MORE_TOKENS_THAN_FRAMES: 1}
    assert report.dropped == reasons
    assert (report.kept, report.kept_seconds) == (2, 4.0)
    assert report.examples[TOO_LONG] == ["long (21.00 s)"]
    assert report.warning().startswith("86.0 % of the hours are not trained on (shorter than")
    assert "lower --min-cut-duration" in report.warning()
    assert "more tokens than encoder frames: see that the times" in report.warning()
    lines = report.text().splitlines()
    assert lines[0] == "kept 2 of 6 cuts, 0.00 of 0.01 h"
    assert "  dropped 1: more tokens than encoder frames, e.g. dense (1.00 s)" in lines


def test_a_small_loss_needs_no_warning() -> None:
    report = DropReport(kept=98, kept_seconds=980.0)
    assert report.warning() == DropReport().warning() == ""
    report.add(cut_of(20.0, "", "silent"), NO_TEXT)
    assert report.warning() == ""
    report.add(cut_of(0.5, "A", "short"), TOO_SHORT)
    assert report.warning().startswith("2.0 % of the hours are not trained on (")
