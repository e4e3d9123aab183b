"""Epochs of several copies: the published lists, and what holds for any flags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.data.real_epochs import RealEpochs, copies_per_epoch


@pytest.mark.parametrize(
    ("flags", "copies"),
    [
        # The published run, then others whose lists icefall's code gave.
        ((1, 8, 40), "1 1 1 1 1 2 2 3 4 4 5 7 8"),
        ((1, 1, 30), " ".join(["1"] * 30)),
        ((1, 8, 30), "1 1 1 2 3 3 5 6 8"),
        ((1, 4, 40), "1 1 1 1 1 1 1 1 1 2 2 2 2 2 3 3 3 4 4 4"),
        ((2, 2, 20), "2 2 2 2 2 2 2 2 2 2"),
    ],
)
def test_lists_are_the_published_ones(flags: tuple[int, int, int], copies: str) -> None:
    assert " ".join(map(str, copies_per_epoch(*flags))) == copies


def test_more_real_epochs_than_asked_for_where_copies_do_not_fill_them() -> None:
    assert sum(copies_per_epoch(4, 8, 100)) == 103


@given(low=st.integers(1, 6), more=st.integers(0, 6), real=st.integers(1, 200))
def test_each_number_of_copies_gets_its_share(low: int, more: int, real: int) -> None:
    copies = copies_per_epoch(low, low + more, real)
    assert list(copies) == sorted(copies)
    assert low <= copies[0] <= copies[-1] <= low + more
    assert real <= sum(copies) < real + low + more
    share = real / (more + 1)
    for number in range(low, low + more + 1):
        assert abs(copies.count(number) * number - share) <= low + more + 1


def test_counts_before_and_after_an_epoch() -> None:
    epochs = RealEpochs((1, 1, 2, 4))
    assert len(epochs) == 4
    assert epochs.total == 8
    assert [epochs.before(epoch) for epoch in range(1, 6)] == [0, 1, 2, 4, 8]
    assert [epochs.ahead(epoch) for epoch in range(5)] == [8, 7, 6, 4, 0]
    # A run that has ended asks what the epoch after its last would be.
    assert [epochs.copies_of(epoch) for epoch in range(1, 6)] == [1, 1, 2, 4, 4]
    assert epochs.first_of_each() == {1: 1, 2: 3, 4: 4}
    assert epochs.first_of_each(start=3) == {2: 3, 4: 4}
    assert epochs.text(4) == (
        "epoch 4 of 4: batches of 4 copies of each utterance, 4 of 8 real epochs done"
    )
