from pathlib import Path

import pytest

from zipasr.base.errors import UserError
from zipasr.base.recipe import load_recipe

GOOD = """
corpus = "espeak"
[splits]
train = ["train"]
valid = ["dev"]
test = ["test"]
[flags]
base-lr = 0.1
"""


def write(root: Path, text: str) -> Path:
    folder = root / "small"
    folder.mkdir()
    (folder / "recipe.toml").write_text(text)
    return folder


def test_a_recipe_by_name_and_by_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, GOOD)
    recipe = load_recipe("small", tmp_path)
    assert (recipe.name, recipe.corpus, recipe.flags) == ("small", "espeak", {"base-lr": 0.1})
    assert load_recipe(f"{folder}/").splits == recipe.splits


def test_an_unknown_recipe_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(UserError, match=r"no recipe 'smal'.* has small\..*did you mean 'small'"):
        load_recipe("smal", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus = ", "not valid TOML"),
        ("corpus = 'x'\n[flag]\n", "unknown entry 'flag'.*did you mean 'flags'"),
        ("corpus = 'x'\nsplits = 3\n", "splits = 3 is no table"),
        ("corpus = 'x'\n[splits]\ntrain = 'a'\n", "train = 'a' is no list of names"),
        ("[splits]\n", "lacks .'corpus'"),
        (
            "corpus = 'x'\n[splits]\ntrain = ['a']\nvalid = []\n",
            r"no split for \['valid', 'test'\]",
        ),
    ],
)
def test_a_bad_recipe_is_explained(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UserError, match=message):
        load_recipe("small", tmp_path)


def test_the_recipes_of_the_project_load() -> None:
    assert load_recipe("espeak").corpus == "espeak"
