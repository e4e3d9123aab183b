from pathlib import Path

import pytest

from zipasr.base.errors import UserError
from zipasr.base.recipe import RECIPES, is_recipe, load_recipe

GOOD = """
corpus = "espeak"
[splits]
train = ["train"]
valid = ["dev"]
test = ["test"]
[flags]
base-lr = 0.1
"""

JOINED_HEAD = "corpus = 'x'\n[splits]\ntrain = ['a']\nvalid = ['a']\ntest = ['a']\n"


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
        (
            f"stages = [1]\n{JOINED_HEAD}",
            r"stages = \[1\] is no pair.* write stages = \[FIRST, LAST\]",
        ),
        (f"stages = [4, 1]\n{JOINED_HEAD}", r"is no pair of stages"),
        (f"stages = ['1', '4']\n{JOINED_HEAD}", r"is no pair of stages"),
        (f"{JOINED_HEAD}[needs.small]\n1 = 3\n", "needs.1 = 3 is no sentence"),
        (f"{JOINED_HEAD}[joined]\na = 'b'\n", "a = 'b' is no list of names"),
        (f"{JOINED_HEAD}[encoders]\na = 3\n", "encoders.a = 3 is no table of flags"),
        (f"{JOINED_HEAD}[subsets]\na = 3\n", "subsets.a is no set of tables"),
        (f"{JOINED_HEAD}[subsets.a.flag]\n", "it may have the tables corpus-options, flags"),
        (f"{JOINED_HEAD}[subsets.a.splits]\ntrain = 3\n", "train = 3 is no list"),
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


JOINED = """
corpus = "x"
stages = [0, 5]
[splits]
train = ["all"]
valid = ["dev"]
test = ["dev", "test"]
[joined]
all = ["a", "b"]
[needs]
0 = "nothing"
[flags]
base-lr = 0.1
exp-dir = "exp"
[subsets.small.splits]
train = ["a"]
[subsets.small.flags]
exp-dir = "exp-small"
[subsets.small.corpus-options]
noise = false
"""


def test_a_joined_split_is_given_by_its_parts(tmp_path: Path) -> None:
    write(tmp_path, JOINED)
    recipe = load_recipe("small", tmp_path)
    assert recipe.parts() == ["a", "b", "dev", "test"]
    assert recipe.parts(["train"]) == ["a", "b"]
    assert recipe.splits["train"] == ["all"]


def test_a_subset_replaces_what_it_names(tmp_path: Path) -> None:
    write(tmp_path, JOINED)
    whole = load_recipe("small", tmp_path)
    assert whole.subset(None) is whole
    small = whole.subset("small")
    assert (small.name, small.chosen, whole.chosen) == ("small", "small", None)
    assert small.parts() == ["a", "dev", "test"]
    assert small.flags == {"base-lr": 0.1, "exp-dir": "exp-small"}
    assert (small.corpus_options, whole.corpus_options) == ({"noise": False}, {})
    with pytest.raises(UserError, match="has no subset 'mini-libri'; it has small"):
        whole.subset("mini-libri")


def test_a_recipe_of_the_current_folder_comes_before_one_that_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built_in = load_recipe("espeak")
    assert built_in.folder.is_absolute()
    assert is_recipe("espeak")
    assert not is_recipe("espeak", RECIPES)
    (tmp_path / "egs" / "espeak").mkdir(parents=True)
    (tmp_path / "egs" / "espeak" / "recipe.toml").write_text(GOOD)
    own = load_recipe("espeak")
    assert (own.folder, own.flags) == (Path("egs/espeak"), {"base-lr": 0.1})
    assert load_recipe("librispeech").corpus == "librispeech"
    with pytest.raises(UserError) as refusal:
        load_recipe("libri")
    assert "egs has espeak. Built in: digits, gigaspeech, librispeech." in str(refusal.value)
    assert refusal.value.fix == "did you mean 'librispeech'?"


def test_stages_and_needs(tmp_path: Path) -> None:
    write(tmp_path, JOINED + "[needs.small]\n0 = 'little'\n")
    whole = load_recipe("small", tmp_path)
    assert whole.stages == (0, 5)
    assert (whole.needs_of(0), whole.needs_of(1)) == ("nothing", None)
    assert whole.subset("small").needs_of(0) == "little"


def test_stages_are_the_usual_ones_unless_the_recipe_says_others(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert load_recipe("small", tmp_path).stages == (1, 4)


def test_the_recipes_of_the_project_load() -> None:
    assert load_recipe("espeak").corpus == "espeak"
    whole = load_recipe("librispeech")
    assert len(whole.parts()) == 7
    assert whole.subset("clean-100").parts(["train"]) == ["train-clean-100"]
    assert whole.subset("mini-libri").parts() == ["train-clean-5", "dev-clean-2"]


def test_flags_of_an_encoder_replace_those_of_the_recipe(tmp_path: Path) -> None:
    write(tmp_path, f"{JOINED}[encoders.big]\nbase-lr = 0.2\n")
    recipe = load_recipe("small", tmp_path)
    assert recipe.with_encoder("big").flags == {"base-lr": 0.2, "exp-dir": "exp"}
    assert recipe.with_encoder("other") == recipe.with_encoder(None) == recipe
