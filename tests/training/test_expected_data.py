"""What a run will take, told by the statistics of a corpus before it is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import tones
from tests.cli.conftest import Call
from zipasr.base.errors import UserError
from zipasr.base.recipe import load_recipe
from zipasr.cli import train
from zipasr.cli.command_flags import read
from zipasr.cli.training_commands import TRAIN
from zipasr.training.dry_run import expected_data, has_statistics, preparation_lines, stand_in

STATISTICS = """
[needs]
0 = "9 GB"
[statistics]
percentiles = [[0, 1], [50, 2], [100, 4]]
tokens-per-second = 3
[statistics.parts]
train = { hours = 0.5, utterances = 900 }
"""


@pytest.mark.parametrize(
    ("words", "utterances", "hours"),
    [
        # 28,539 + 104,014 + 148,688 utterances at three speeds, as published recipes count them.
        ([], 843_723, 961.1),
        (["--full-libri", "0"], 85_617, 100.6),
        (["--mini-libri", "1"], 4_557, 5.3),
    ],
)
def test_librispeech_has_its_published_size(
    words: list[str], utterances: int, hours: float
) -> None:
    run = read(TRAIN, ["--recipe", "librispeech", *words, "--max-cut-duration", "100"])
    assert has_statistics(run.recipe)
    found = expected_data(run.recipe, train.train_configs(run)).train
    assert len(found) == utterances
    assert found.hours == pytest.approx(hours * (1 / 0.9 + 1 + 1 / 1.1))
    assert 1.0 < found.lengths.seconds.min() < found.lengths.seconds.max() < 35.0
    usual = expected_data(run.recipe, train.train_configs(read(TRAIN, ["--recipe", "librispeech"])))
    assert usual.train.lengths.seconds.max() <= 20.0
    assert stand_in(run.recipe).vocab_size == 500
    assert preparation_lines(run.recipe)[0].startswith("stage 0")


def write_recipe(folder: Path) -> None:
    path = tones.make_recipe(folder, train=2, evaluation=2) / "recipe.toml"
    path.write_text(path.read_text() + STATISTICS)


def test_a_dry_run_needs_no_data_where_there_are_statistics(tmp_path: Path, call: Call) -> None:
    write_recipe(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = call(train.main, tmp_path, "--dry-run", "1")
    assert said.status == 0, said.err
    assert "data       0.50 hours of speech an epoch" in said.out
    assert "CPU-hours" in said.out or "GPU-hours" in said.out
    assert "Nothing is prepared yet" in said.out
    assert "stage 0    9 GB" in said.out
    steps = next(line.split()[1] for line in said.out.splitlines() if line.startswith("steps"))
    assert 180 <= int(steps) <= 220  # 1800 s in batches of at most 10 s
    assert sorted(tmp_path.rglob("*")) == before


def test_a_training_needs_the_data_nevertheless(tmp_path: Path, call: Call) -> None:
    write_recipe(tmp_path)
    assert call(train.main, tmp_path).status == 3
    # Without statistics a dry run needs them, too.
    tones.make_recipe(tmp_path / "other", train=2, evaluation=2)
    said = call(train.main, tmp_path / "other", "--dry-run", "1")
    assert said.status == 3
    assert "things are missing" in said.error


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("hours = 0.5, ", ""),
        ("900", '"many"'),
        ("[50, 2]", "[50]"),
        ("tokens-per-second = 3\n", ""),
        ("{ hours = 0.5, utterances = 900 }", "3"),
    ],
)
def test_statistics_that_lack_numbers_are_refused(tmp_path: Path, right: str, wrong: str) -> None:
    write_recipe(tmp_path)
    path = tmp_path / "tones/recipe.toml"
    recipe = load_recipe(str(path.parent))
    assert not has_statistics(replace(recipe, splits={"train": ["other"]}))
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(UserError, match=r"\[statistics\] lacks numbers"):
        load_recipe(str(path.parent))
