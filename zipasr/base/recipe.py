"""Find a recipe by its name, and read what it says: corpus, splits, default flags, stages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from zipasr.base.errors import UserError, lacks_packages, nearest

#: Recipes of the current folder.
RECIPES = Path("egs")
LAST_STAGE = 5
USUAL_STAGES = (1, 4)
TABLES = {
    "corpus",
    "corpus-options",
    "encoders",
    "flags",
    "joined",
    "needs",
    "pieces",
    "splits",
    "stages",
    "statistics",
    "subsets",
}
PLAIN = {"corpus", "stages"}
SUBSET_TABLES = {"corpus-options", "flags", "splits"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One ``recipe.toml``.

    Attributes:
        name: folder name; also the name of the recipe's folders under ``data`` and ``exp``.
        folder: where ``recipe.toml`` stands.
        corpus: key in ``zipasr.corpora.corpus.CORPORA``.
        corpus_options: options of the corpus, checked by the corpus itself.
        splits: purpose (train, valid, test) -> names of splits of the corpus.
        flags: defaults of this recipe, flag name without dashes -> value.
        encoders: value of ``--encoder-type`` -> flags that replace entries when it is typed.
        joined: split -> the splits of the corpus that it consists of, shuffled once.
        pieces: split too large to be made at once -> number of pieces it is made in.
        chosen: the subset that these values are of; None is the whole.
        subsets: name -> tables ``splits``, ``flags`` and ``corpus-options`` that replace entries.
        stages: first and last stage of its preparation.
        needs: stage -> a sentence about time and disk; subset -> the same for a subset.
        statistics: what is known of the speech before it is there: "parts", split -> "hours" and
            "utterances"; "percentiles" of their durations, pairs of percentage and seconds; and
            "tokens-per-second".
    """

    name: str
    folder: Path
    corpus: str
    corpus_options: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, list[str]]
    flags: dict[str, Any] = field(default_factory=dict)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    joined: dict[str, list[str]] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    chosen: str | None = None
    subsets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    stages: tuple[int, int] = USUAL_STAGES
    needs: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)

    def needs_of(self, stage: int) -> str | None:
        """Return what the recipe says about the time and the disk of a stage."""
        table = self.needs if self.chosen is None else self.needs.get(self.chosen, {})
        sentence: str | None = table.get(str(stage))
        return sentence

    def parts(self, purposes: Iterable[str] = ("train", "valid", "test")) -> list[str]:
        """Return the splits of the corpus that serve these purposes, each once.

        A joined split is given by its parts.
        """
        names = (name for purpose in purposes for name in self.splits[purpose])
        return list(dict.fromkeys(part for name in names for part in self.joined.get(name, [name])))

    def with_encoder(self, name: str | None) -> Recipe:
        """Return the recipe with the flags that go with an encoder, if it has any for it."""
        return replace(self, flags=self.flags | self.encoders.get(name or "", {}))

    def subset(self, name: str | None) -> Recipe:
        """Return the recipe with the splits, flags and corpus options of one of its subsets.

        Raises:
            UserError: it has no such subset.
        """
        if name is None:
            return self
        if name not in self.subsets:
            there = ", ".join(sorted(self.subsets)) or "none"
            raise UserError(f"recipe {self.name!r} has no subset {name!r}; it has {there}.")
        tables = self.subsets[name]
        return replace(
            self,
            chosen=name,
            corpus_options=self.corpus_options | tables.get("corpus-options", {}),
            flags=self.flags | tables.get("flags", {}),
            splits=self.splits | tables.get("splits", {}),
        )


#: For a command that can do without.
NO_RECIPE = Recipe(name="", folder=Path(), corpus="", splits={})


def recipe_roots() -> tuple[Path, ...]:
    """Return the folders in which a recipe is looked for, the first one first.

    ``egs`` of the current folder, ``egs`` of the checkout that the package belongs to, and the
    recipes that an installed package contains.
    """
    package = Path(__file__).resolve().parents[1]
    return RECIPES, package.parent / "egs", package / "recipes"


def is_recipe(name: str, *roots: Path) -> bool:
    """Say whether there is a recipe; arguments as of ``load_recipe``."""
    return any(path.is_file() for path in _places(name, roots or recipe_roots()))


def load_recipe(name: str, *roots: Path) -> Recipe:
    """Read a recipe.

    Args:
        name: of a folder in one of ``roots``; with a slash in it, the path of the folder.
        roots: where it is looked for; by default ``recipe_roots()``.

    Raises:
        UserError: no such recipe, or its file is not a recipe.
    """
    roots = roots or recipe_roots()
    places = _places(name, roots)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise _no_recipe(name, places[0], roots)
    return _recipe_from_table(path, _read_toml(path))


def _places(name: str, roots: Sequence[Path]) -> list[Path]:
    folders = [Path(name)] if "/" in name else [root / name for root in roots]
    return [folder / "recipe.toml" for folder in folders]


def _no_recipe(name: str, path: Path, roots: Sequence[Path]) -> UserError:
    here, *others = ({file.parent.name for file in root.glob("*/recipe.toml")} for root in roots)
    built_in = set().union(*others) - here
    what = f"no recipe {name!r}: {path} does not exist"
    what += f"; {roots[0]} has {', '.join(sorted(here))}." if here else "."
    what += f" Built in: {', '.join(sorted(built_in))}." if built_in else ""
    hint = nearest(name, sorted(here | built_in))
    if Path(name).is_file():
        hint = f"--recipe takes the folder of that file: {Path(name).parent}"
    return UserError(what, hint or "give one of these names, or the path of a recipe folder.")


def _read_toml(path: Path) -> dict[str, Any]:
    # Imported here: Python 3.10 without packages has no TOML, and help needs none.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            raise lacks_packages() from None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        why = " ".join(str(problem).split())
        raise UserError(f"{path} is not valid TOML: {why}.") from problem
    except OSError as problem:
        raise UserError(f"{path} cannot be read: {problem.strerror}.") from problem


def _recipe_from_table(path: Path, table: dict[str, Any]) -> Recipe:
    unknown = sorted(set(table) - TABLES)
    if unknown:
        raise UserError(f"{path} has an unknown entry {unknown[0]!r}.", nearest(unknown[0], TABLES))
    missing = [key for key in ("corpus", "splits") if key not in table]
    if missing:
        raise UserError(f"{path} lacks {missing}.", "see egs/README.md for a recipe file.")
    _check_types(path, table)
    splits = table["splits"]
    lacking = [purpose for purpose in ("train", "valid", "test") if not splits.get(purpose)]
    if lacking:
        raise UserError(f"{path} names no split for {lacking} under [splits].")
    first, last = table.get("stages", USUAL_STAGES)
    return Recipe(
        name=path.parent.resolve().name,
        folder=path.parent,
        corpus=table["corpus"],
        corpus_options=table.get("corpus-options", {}),
        splits=splits,
        flags=table.get("flags", {}),
        encoders=table.get("encoders", {}),
        joined=table.get("joined", {}),
        pieces=table.get("pieces", {}),
        subsets=table.get("subsets", {}),
        stages=(first, last),
        needs=table.get("needs", {}),
        statistics=table.get("statistics", {}),
    )


def _check_types(path: Path, table: dict[str, Any]) -> None:
    if not isinstance(table["corpus"], str):
        raise UserError(f"{path}: corpus = {table['corpus']!r} is no name of a corpus.")
    for key, value in table.items():
        if key not in PLAIN and not isinstance(value, dict):
            raise UserError(f"{path}: {key} = {value!r} is no table.", f"write [{key}] above it.")
    _check_stages(path, table.get("stages", [*USUAL_STAGES]))
    _check_needs(path, table.get("needs", {}))
    _check_statistics(path, table.get("statistics", {}))
    _check_names(path, table["splits"])
    _check_names(path, table.get("joined", {}))
    for split, count in table.get("pieces", {}).items():
        if type(count) is not int or count < 1:
            raise UserError(f"{path}: pieces.{split} = {count!r} is no number of pieces.")
    _check_encoders(path, table.get("encoders", {}))
    for name, tables in table.get("subsets", {}).items():
        _check_subset(path, name, tables)


def _check_stages(path: Path, stages: Any) -> None:
    is_pair = isinstance(stages, list) and [type(number) for number in stages] == [int, int]
    if not is_pair or not 0 <= stages[0] <= stages[1] <= LAST_STAGE:
        raise UserError(
            f"{path}: stages = {stages!r} is no pair of stages.",
            f"write stages = [FIRST, LAST], of 0 to {LAST_STAGE}.",
        )


def _check_needs(path: Path, needs: dict[str, Any]) -> None:
    for key, value in needs.items():
        if isinstance(value, dict):
            _check_needs(path, value)
        elif not isinstance(value, str):
            raise UserError(f"{path}: needs.{key} = {value!r} is no sentence.")


def _check_encoders(path: Path, encoders: dict[str, Any]) -> None:
    for name, flags in encoders.items():
        if not isinstance(flags, dict):
            raise UserError(f"{path}: encoders.{name} = {flags!r} is no table of flags.")


def _check_statistics(path: Path, statistics: dict[str, Any]) -> None:
    try:
        sizes = [[part["hours"], part["utterances"]] for part in statistics["parts"].values()]
        numbers = [*chain(*sizes, *statistics["percentiles"]), statistics["tokens-per-second"]]
        is_right = all(type(number) in (int, float) and number >= 0 for number in numbers)
        is_right = is_right and all(len(pair) == 2 for pair in statistics["percentiles"])
    except (KeyError, TypeError, AttributeError):
        is_right = False
    if statistics and not is_right:
        raise UserError(
            f"{path}: [statistics] lacks numbers.",
            "it has parts.SPLIT = { hours, utterances }, percentiles = [[PERCENT, SECONDS], ...] "
            "and tokens-per-second.",
        )


def _check_subset(path: Path, name: str, tables: Any) -> None:
    known = isinstance(tables, dict) and tables.keys() <= SUBSET_TABLES
    if not known or not all(isinstance(entries, dict) for entries in tables.values()):
        fix = f"it may have the tables {', '.join(sorted(SUBSET_TABLES))}."
        raise UserError(f"{path}: subsets.{name} is no set of tables that are known.", fix)
    _check_names(path, tables.get("splits", {}))


def _check_names(path: Path, table: dict[str, Any]) -> None:
    for key, names in table.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            fix = f'write {key} = ["...", "..."].'
            raise UserError(f"{path}: {key} = {names!r} is no list of names.", fix)
        for name in names:
            if not name or not {"/", "\0", "\n"}.isdisjoint(name):
                raise UserError(f"{path}: {key} has {name!r}, which no part of a file name can be.")
