from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipasr.base.recipe import load_recipe
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.corpora.custom.recipe_file import Sizes, flags_for, recipe_text, vocabulary_for

SPLITS = {"train": ["train"], "valid": ["dev"], "test": ["test-a", "test-b"]}


def write(folder: Path, sizes: Sizes, options: dict[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    flags = flags_for("mine", sizes)
    (folder / "recipe.toml").write_text(recipe_text(options, SPLITS, flags, ["about"]), "utf-8")
    return folder


@pytest.mark.parametrize("hours", [0.003, 0.4, 2.5, 19.0, 100.0, 960.0, 10_000.0])
def test_every_command_takes_the_recipe(hours: float, tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", Sizes(hours, 30, 0.4, 25.0), {"from": "x"})
    for command in COMMANDS:
        operands = ["a.wav"] if command.operands else []
        assert read(command, ["--recipe", str(folder), *operands]).recipe.splits == SPLITS


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")), st.booleans())
def test_options_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, path: str, normalise: bool
) -> None:
    options = {"from": path, "normalise": normalise}
    folder = write(tmp_path_factory.mktemp("egs"), Sizes(1.0, 30, 1.0, 10.0), options)
    assert load_recipe(str(folder)).corpus_options == options


@given(st.floats(0.001, 20000), st.integers(1, 8000))
def test_the_vocabulary_has_room_for_every_character(hours: float, characters: int) -> None:
    assert vocabulary_for(Sizes(hours, characters, 1.0, 10.0)) >= characters + 20


def test_sizes_grow_with_the_hours() -> None:
    def of(hours: float) -> dict[str, object]:
        return flags_for("mine", Sizes(hours, 30, 2.0, 10.0))

    assert [of(hours).get("preset") for hours in (1, 50, 500, 5000)] == [
        None,
        "small",
        "medium",
        "large",
    ]
    assert [of(hours)["vocab-size"] for hours in (0.5, 5, 500, 5000)] == [60, 200, 500, 1000]
    assert of(0.2)["num-epochs"] > of(5)["num-epochs"]
    # Decoding takes the last epoch, also of a longer or shorter run.
    assert "epoch" not in of(0.2)
    assert 1 <= of(0.2)["avg"] < of(0.2)["num-epochs"]
    assert "min-cut-duration" not in of(1)


@pytest.mark.parametrize(
    ("hours", "longest", "limit"),
    [
        (0.2, 15.0, None),
        (0.2, 73.35, 90.0),
        (0.2, 22.0, 30.0),
        (5.0, 200.0, 90.0),
        (50.0, 73.35, 30.0),
    ],
)
def test_long_utterances_of_small_corpora_are_trained_on(
    hours: float, longest: float, limit: float | None
) -> None:
    flags = flags_for("mine", Sizes(hours, 30, 2.0, longest))
    assert flags.get("max-cut-duration") == limit
