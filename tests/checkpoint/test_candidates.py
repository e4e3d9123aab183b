"""Which averages are offered, and in which order a search goes through them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.selection import FEW, best_of, candidates, files_of, next_to_try, ranked

Pair = tuple[int, int]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.pt").touch()


def pairs(offered: list[ChooseCheckpoint]) -> list[Pair]:
    return [(one.number, one.avg) for one in offered]


def test_windows_and_means_need_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "epoch-1", "epoch-2", "epoch-4", "epoch-2-avg-1", "best-valid-loss")
    window = candidates(tmp_path, ChooseCheckpoint())
    assert pairs(window) == [(4, 2), (4, 3), (2, 1)]
    assert [path.name for path in files_of(tmp_path, window[0])] == ["epoch-2.pt", "epoch-4.pt"]
    mean = candidates(tmp_path, ChooseCheckpoint(use_averaged_model=False))
    assert pairs(mean) == [(4, 1), (2, 1), (2, 2), (1, 1)]
    assert [path.name for path in files_of(tmp_path, mean[2])] == ["epoch-1.pt", "epoch-2.pt"]


def test_where_not_every_epoch_is_saved_the_nearest_windows_are_offered(tmp_path: Path) -> None:
    touch(tmp_path, *(f"epoch-{epoch}" for epoch in (2, 5, 8, 11)))
    assert pairs(candidates(tmp_path, ChooseCheckpoint())) == [
        (11, 3), (11, 6), (11, 9), (8, 3), (8, 6), (5, 3),
    ]  # fmt: skip


def test_iterations_are_counted_by_place_and_end_at_iter(tmp_path: Path) -> None:
    touch(tmp_path, "checkpoint-40", "checkpoint-80", "checkpoint-100", "checkpoint-120", "epoch-1")
    window = candidates(tmp_path, ChooseCheckpoint(iter=110))
    assert pairs(window) == [(100, 1), (100, 2), (80, 1)]
    names = [path.name for path in files_of(tmp_path, window[1])]
    assert names == ["checkpoint-40.pt", "checkpoint-100.pt"]
    mean = candidates(tmp_path, ChooseCheckpoint(iter=110, use_averaged_model=False))
    assert pairs(mean) == [(100, 1), (100, 2), (100, 3), (80, 1), (80, 2), (40, 1)]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "needs two checkpoints, to average between; .* has epoch-1.pt"),
        ({"iter": 9}, "needs two checkpoints up to --iter 9"),
        ({"iter": 9, "use_averaged_model": False}, "finds no checkpoint up to --iter 9 to try"),
    ],
)
def test_nothing_to_average_is_explained(
    tmp_path: Path, choice: dict[str, int], message: str
) -> None:
    touch(tmp_path, "epoch-1")
    with pytest.raises(CheckpointError, match=message):
        candidates(tmp_path, ChooseCheckpoint(**choice))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="does not exist"):
        candidates(tmp_path / "nowhere", ChooseCheckpoint(**choice))  # type: ignore[arg-type]


def search(
    folder: Path, num_epochs: int, errors_of: dict[Pair, int | None]
) -> dict[ChooseCheckpoint, int | None]:
    """Go through the search with known errors; return those that it asked for."""
    touch(folder, *(f"epoch-{epoch}" for epoch in range(1, num_epochs + 1)))
    offered = candidates(folder, ChooseCheckpoint())
    errors: dict[ChooseCheckpoint, int | None] = {}
    while todo := next_to_try(offered, errors):
        assert not errors.keys() & {*todo}
        errors |= {one: errors_of[one.number, one.avg] for one in todo}
    return errors


@given(st.data())
def test_a_few_are_all_tried(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("few")
    touch(folder, *(f"epoch-{epoch}" for epoch in range(1, 7)))
    offered = candidates(folder, ChooseCheckpoint())
    assert len(offered) <= FEW
    counts = data.draw(st.lists(st.integers(0, 9) | st.none(), min_size=20, max_size=20))
    table = dict(zip(pairs(offered), counts, strict=False))
    errors = search(folder, 6, table)
    assert len(errors) == len(offered)
    usable = [count for count in table.values() if count is not None]
    best = best_of(errors)
    assert (best is None) == (not usable)
    if best is not None:
        assert errors[best] == min(usable)
        assert ranked(errors)[0] == best
        assert len(ranked(errors)) == len(usable)


def test_a_valley_among_many_is_found_without_trying_all(tmp_path: Path) -> None:
    valley = {
        (epoch, avg): abs(epoch - 26) * 3 + abs(avg - 8)
        for epoch in range(1, 31)
        for avg in range(1, 31)
    }
    errors = search(tmp_path, 30, valley)  # type: ignore[arg-type]
    best = best_of(errors)
    assert best is not None
    assert (best.epoch, best.avg) == (26, 8)
    assert len(errors) < 40 < len(candidates(tmp_path, ChooseCheckpoint()))


def test_a_newest_checkpoint_that_cannot_be_used_is_passed_over(tmp_path: Path) -> None:
    table = {
        (epoch, avg): None if epoch == 30 else 30 - epoch + avg
        for epoch in range(1, 31)
        for avg in range(1, 31)
    }
    best = best_of(search(tmp_path, 30, table))
    assert best is not None
    assert (best.epoch, best.avg) == (29, 1)


def test_of_equal_averages_the_longest_and_then_the_newest_is_best() -> None:
    choices = [ChooseCheckpoint(epoch=e, avg=a) for e, a in ((9, 2), (9, 3), (8, 3), (9, 1))]
    errors = dict(zip(choices, (5, 5, 5, 6), strict=True))
    assert pairs(ranked(errors)) == [(9, 3), (8, 3), (9, 2), (9, 1)]  # type: ignore[arg-type]
