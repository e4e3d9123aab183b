"""Several splits as one, in the same shuffled order everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.testing.dummies import dummy_cut

from zipasr.data.config import cuts_path
from zipasr.data.fbank_pieces import join_splits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, first in (("a", 0), ("b", 30)):
        cuts = CutSet.from_cuts(dummy_cut(first + i) for i in range(30))
        cuts.to_file(cuts_path(tmp_path, "x", part))
    return tmp_path


def ids(folder: Path, split: str) -> list[str]:
    return [cut.id for cut in CutSet.from_file(cuts_path(folder, "x", split))]


def test_all_cuts_are_there_once_and_mixed(folder: Path) -> None:
    assert join_splits("x", "all", ["a", "b"], folder) == 60
    both = ids(folder, "a") + ids(folder, "b")
    joined = ids(folder, "all")
    assert joined != both
    assert sorted(joined) == sorted(both)
    # About half of the first half comes from each part.
    assert 8 < len(set(joined[:30]) & set(both[:30])) < 22


def test_the_order_is_the_same_everywhere(folder: Path) -> None:
    join_splits("x", "all", ["a", "b"], folder)
    join_splits("x", "again", ["a", "b"], folder)
    assert ids(folder, "all") == ids(folder, "again")
    assert ids(folder, "all")[0] == "dummy-mono-cut-0038"


def test_it_is_done_again_when_a_part_has_changed(folder: Path) -> None:
    join_splits("x", "all", ["a", "b"], folder)
    assert join_splits("x", "all", ["a", "b"], folder) == 0
    part = cuts_path(folder, "x", "b")
    CutSet.from_cuts([dummy_cut(99)]).to_file(part)
    later = cuts_path(folder, "x", "all").stat().st_mtime + 1
    os.utime(part, (later, later))
    assert join_splits("x", "all", ["a", "b"], folder) == 31
