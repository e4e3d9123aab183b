"""Which recipe a command works for, and how its preparation is typed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from zipasr.base.config import flag, flag_name, flags_of, from_values
from zipasr.base.recipe import (
    NO_RECIPE,
    RECIPES,
    Recipe,
    is_recipe,
    load_recipe,
    recipe_roots,
)
from zipasr.scoring.training_facts import last_trained, read_sessions

# Published commands name the recipe by these flags alone.
LIBRI_FLAGS = {"--full-libri", "--mini-libri"}
GIGA_FLAG = "--subset"
RECIPES_OF_FLAGS = {
    **dict.fromkeys(sorted(LIBRI_FLAGS), "librispeech"),
    "--use-multidataset": "librispeech",
    GIGA_FLAG: "gigaspeech",
}
RECIPE_FLAGS = {"--recipe", *RECIPES_OF_FLAGS}
SUBSET_FLAGS = {"mini-libri": ("--mini-libri", "1"), "clean-100": ("--full-libri", "0")}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeConfig:
    """Recipe."""

    recipe: str = flag(
        "espeak",
        "name of a folder in egs, or path of a recipe; if it is not typed: librispeech with "
        "--full-libri or --mini-libri, the recipe of the training run with its --exp-dir",
    )
    full_libri: bool = flag(True, "LibriSpeech: train on all 960 h; 0: on the 100 clean hours")
    mini_libri: bool = flag(False, "LibriSpeech: use the 5 h of mini LibriSpeech instead")

    @property
    def subset(self) -> str | None:
        """The part of the recipe that was asked for; None is the whole."""
        if self.mini_libri:
            return "mini-libri"
        return None if self.full_libri else "clean-100"


def choose_recipe(typed: Mapping[str, Any]) -> RecipeConfig:
    """Return the recipe that is typed, else that of the training run in the typed --exp-dir.

    The recipe of a run is looked for where others are, and then where the run was started, which
    is above its folder: so it has the same settings from wherever it is used.

    Args:
        typed: field -> value, of the flags that were typed.
    """
    return _recipe_of_run(typed) or _recipe_of(typed)


def _recipe_of_run(typed: Mapping[str, Any]) -> RecipeConfig | None:
    """Return the recipe of the training run in the typed --exp-dir, if none is typed."""
    if _is_named(typed) or "exp_dir" not in typed:
        return None
    exp_dir = Path(typed["exp_dir"])
    of_run = recipe_flags_in(_command_of_run(exp_dir))
    if not of_run:
        return None
    chosen = _recipe_of(of_run)
    return replace(chosen, recipe=_found_near(chosen.recipe, exp_dir))


def _is_named(typed: Mapping[str, Any]) -> bool:
    return bool({flag_name(name) for name in typed} & RECIPE_FLAGS)


def _found_near(name: str, exp_dir: Path) -> str:
    """Return a recipe as it is named, or its path in one of the folders above a run."""
    if is_recipe(name):
        return name
    inside = name if "/" in name else f"egs/{name}"
    paths = (str(folder / inside) for folder in exp_dir.resolve().parents)
    return next((path for path in paths if is_recipe(path)), name)


def load_chosen(typed: Mapping[str, Any], *, is_needed: bool) -> Recipe:
    """Load the recipe that ``choose_recipe`` finds.

    Raises:
        UserError: there is no such recipe, or it is broken.
    """
    chosen = choose_recipe(typed)
    # The usual recipe is meant in a folder with recipes only.
    roots = () if _recipe_of_run(typed) else (RECIPES,)
    if not is_needed and not _is_named(typed) and not is_recipe(chosen.recipe, *roots):
        return NO_RECIPE
    return load_recipe(chosen.recipe).subset(chosen.subset)


def recipe_flags_in(words: Sequence[str]) -> dict[str, Any]:
    """Return the flags among ``words`` that say which recipe is meant, and --exp-dir.

    Others are passed over; there are none where a value is missing or makes no sense.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for one in flags_of(RecipeConfig):
        one.add_to(parser, default=argparse.SUPPRESS)
    parser.add_argument("--exp-dir", default=argparse.SUPPRESS)
    for name in RECIPES_OF_FLAGS.keys() - LIBRI_FLAGS:
        parser.add_argument(name, nargs="?", default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(words)[0])
    except argparse.ArgumentError:
        return {}


def with_recipe(message: str, words: Sequence[str]) -> str:
    """Name the recipe in the command that a message proposes: the layers below do not know it."""
    chosen = choose_recipe(recipe_flags_in(words))
    command = _prepare(chosen.recipe, chosen.subset)
    return re.sub(r"\./prepare\.sh(?= --(stage|from))", lambda _: command, message)


def prepare_command(recipe: Recipe, stage: int) -> str:
    """Return the command that does one stage for a recipe."""
    name = recipe.name
    if recipe.folder.parent not in recipe_roots():  # those are found by their names
        name = str(recipe.folder) if recipe.folder.is_absolute() else f"./{recipe.folder}"
    return f"{_prepare(name, recipe.chosen)} --stage {stage}"


def data_dir(recipe: Recipe) -> Path:
    """Return the folder of everything that is made for a recipe."""
    return Path("data") / recipe.name


def lm_dir(recipe: Recipe) -> Path:
    """Return the folder of the texts of a recipe; a subset has one of its own."""
    return data_dir(recipe) / "-".join(["lm", *filter(None, [recipe.chosen])])


def _prepare(recipe: str, subset: str | None) -> str:
    words = [] if recipe == RecipeConfig().recipe else ["--recipe", recipe]
    return " ".join(["./prepare.sh", *words, *SUBSET_FLAGS.get(subset or "", ())])


def _recipe_of(typed: Mapping[str, Any]) -> RecipeConfig:
    names = [one.name for one in fields(RecipeConfig)]
    given = {name: typed[name] for name in names if name in typed}
    if "recipe" not in given:
        named = [of for name, of in RECIPES_OF_FLAGS.items() if name[2:].replace("-", "_") in typed]
        given |= {"recipe": named[0]} if named else {}
    usual = RecipeConfig()
    return from_values(RecipeConfig, {name: getattr(usual, name) for name in names} | given)


def _command_of_run(exp_dir: Path) -> list[str]:
    """Return the flags that say the recipe in the command that trained a run last, with values."""
    try:
        sessions = read_sessions(exp_dir)
        last = sessions[last_trained(sessions) - 1]
        words = [str(word) for word in last["command"]]
    except (KeyError, TypeError, IndexError):
        return []
    usual = str(last.get("recipe") or "")
    typed = [(name, value) for name, value in _pairs(words) if name in RECIPE_FLAGS]
    if not typed and usual:
        typed = [("--recipe", usual)]
    return [word for pair in typed for word in pair]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield flags with their values, typed as two words or as one."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            yield name, value if equals else following
