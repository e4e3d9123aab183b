"""The progress line, and what it drops where there is no room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.short import new_batch, new_session
from zipasr.base.errors import DataError
from zipasr.training.epoch_progress import EpochProgress, ProgressLine, Totals
from zipasr.training.metrics import Metrics

FIGURES = ProgressLine(
    epoch=3,
    num_epochs=30,
    batch=1240,
    num_batches=3551,
    loss=0.4123,
    running_loss=0.4361,
    learning_rate=0.0391,
    grad_norm=1.83,
    audio_per_second=312.4,
    loading=0.031,
    memory=(15247163187, 25769803776),
    notes=(("skipped", 2), ("split", 0)),
    epoch_seconds=1260.0,
    run_seconds=35880.0,
)
WHOLE = (
    "epoch 3/30  batch 1240/3551  loss 0.412 (avg 0.436)  lr 3.91e-02  |g| 1.8  312 s-audio/s  "
    "load 3%  mem 14.2/24.0G  skipped 2  eta epoch 21m00s run 9h58m"
)


def test_the_line_has_all_figures() -> None:
    assert FIGURES.line() == WHOLE
    assert FIGURES.line(len(WHOLE)) == WHOLE


def test_loading_is_named_where_it_is_the_brake() -> None:
    line = replace(FIGURES, loading=0.35)
    assert "load 35%, the brake" in line.line()
    assert "load 35%, the brake" in line.line(99)


def test_what_is_not_known_is_left_out() -> None:
    line = replace(FIGURES, num_batches=None, epoch_seconds=None, run_seconds=None, notes=()).line()
    assert line.startswith("epoch 3/30  batch 1240/?  loss")
    assert line.endswith("24.0G")


@pytest.mark.parametrize(
    ("width", "gone"),
    [(len(WHOLE) - 1, ["mem"]), (100, ["mem", "load", "|g|"]), (79, ["lr"]), (72, ["s-audio"])],
)
def test_a_narrow_terminal_keeps_what_matters_most(width: int, gone: list[str]) -> None:
    line = FIGURES.line(width)
    assert len(line) <= width
    assert not [word for word in gone if word in line]
    assert "loss 0.412 (avg 0.436)" in line


@given(st.integers(1, 200), st.integers(1, 200))
def test_more_room_shows_no_less(one: int, other: int) -> None:
    narrow, wide = sorted([one, other])
    assert len(FIGURES.line(narrow)) <= narrow
    assert len(FIGURES.line(narrow)) <= len(FIGURES.line(wide))


def totals(*updates: dict[str, float]) -> Totals:
    found = Totals()
    for sums in updates:
        found.add(Metrics(10.0, **sums), [])
    return found


def test_the_log_has_each_part_of_the_loss_once_with_its_mean() -> None:
    one = totals({"loss": 9.0, "ctc_loss": 4.0, "pruned_loss": 5.0})
    assert str(one) == "ctc_loss 0.4 (avg 0.4), pruned_loss 0.5 (avg 0.5)"
    two = totals({"loss": 9.0, "ctc_loss": 4.0, "pruned_loss": 5.0}, {"loss": 3.0, "ctc_loss": 2.0})
    assert str(two).startswith("ctc_loss 0.2 (avg 0.3)")
    assert "loss 0.9" not in str(one)


def test_a_loss_of_one_part_is_not_said_twice() -> None:
    assert str(totals({"loss": 4.0, "ctc_loss": 4.0})) == "ctc_loss alone"
    weighted = totals({"loss": 2.0, "ctc_loss": 4.0})
    assert str(weighted) == "ctc_loss 0.4 (avg 0.4)"


def test_every_corpus_has_its_own_means() -> None:
    found = totals({"loss": 4.0, "ctc_loss": 4.0})
    found.of = {"libri": Metrics(10.0, loss=3.0), "giga": Metrics(10.0, loss=5.0)}
    assert str(found) == "ctc_loss alone; giga: loss 0.5; libri: loss 0.3"


@pytest.mark.usefixtures("here")
def test_what_cannot_be_read_is_counted_and_too_much_of_it_ends_the_run(tmp_path: Path) -> None:
    watch = EpochProgress(new_session(f"--exp-dir {tmp_path}"), None, start=0)
    whole = new_batch(*[0.3] * 100)
    few = replace(whole, dropped=("a", "b"))
    assert len([*watch.loading([few, *[whole] * 4, *[few] * 4])]) == 9
    assert ("unreadable", 10) in watch.figures().notes
    with pytest.raises(DataError) as raised:
        next(watch.loading([replace(whole, dropped=("c",))]))
    listed = tmp_path / "unreadable-0.txt"
    assert raised.value.what == (
        "11 of 1011 utterances of this epoch cannot be read, such as c; "
        f"{listed} lists them, the log has reasons."
    )
    assert listed.read_text().split() == ["a", "b"] * 5 + ["c"]
