"""Read what a recipe says: its corpus, its splits, its default flags."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zipasr.base.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path("egs")
TABLES = {
    "corpus",
    "corpus-options",
    "flags",
    "joined",
    "needs",
    "pieces",
    "splits",
    "stages",
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
        joined: split -> the splits of the corpus that it consists of, shuffled once.
        pieces: split too large to be made at once -> number of pieces it is made in.
        chosen: the subset that these values are of; None is the whole.
        subsets: name -> tables ``splits``, ``flags`` and ``corpus-options`` that replace entries.

    ``prepare.sh`` reads two more entries by itself: ``stages``, the first and the last it has, and
    ``needs``, a sentence about time and disk for a stage.
    """

    name: str
    folder: Path
    corpus: str
    corpus_options: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, list[str]]
    flags: dict[str, Any] = field(default_factory=dict)
    joined: dict[str, list[str]] = field(default_factory=dict)
    pieces: dict[str, int] = field(default_factory=dict)
    chosen: str | None = None
    subsets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def parts(self, purposes: Iterable[str] = ("train", "valid", "test")) -> list[str]:
        """Return the splits of the corpus that serve these purposes, each once.

        A joined split is given by its parts.
        """
        names = (name for purpose in purposes for name in self.splits[purpose])
        return list(dict.fromkeys(part for name in names for part in self.joined.get(name, [name])))

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


def is_recipe(name: str, root: Path = RECIPES) -> bool:
    """Say whether there is a recipe of this name under ``root``, or in the folder ``name``."""
    return _file_of(name, root).is_file()


def load_recipe(name: str, root: Path = RECIPES) -> Recipe:
    """Read the recipe called ``name`` under ``root``, or the one in the folder ``name``.

    Raises:
        UserError: no such recipe, or its file is not a recipe.
    """
    path = _file_of(name, root)
    if not path.is_file():
        known = sorted(p.parent.name for p in root.glob("*/recipe.toml"))
        hint = nearest(name, known) or "give one of these names, or the path of a recipe folder."
        if not known:
            hint = "start the command in the repository, or give the path of a recipe folder."
        there = ", ".join(known) or "none"
        raise UserError(f"no recipe {name!r}: {path} does not exist; {root} has {there}.", hint)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UserError(f"{path} is not valid TOML: {problem}.") from problem
    return _recipe_from_table(path, table)


def _file_of(name: str, root: Path) -> Path:
    return (Path(name) if "/" in name else root / name) / "recipe.toml"


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
    return Recipe(
        name=path.parent.resolve().name,
        folder=path.parent,
        corpus=table["corpus"],
        corpus_options=table.get("corpus-options", {}),
        splits=splits,
        flags=table.get("flags", {}),
        joined=table.get("joined", {}),
        pieces=table.get("pieces", {}),
        subsets=table.get("subsets", {}),
    )


def _check_types(path: Path, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if key not in PLAIN and not isinstance(value, dict):
            raise UserError(f"{path}: {key} = {value!r} is no table.", f"write [{key}] above it.")
    _check_names(path, table["splits"])
    _check_names(path, table.get("joined", {}))
    for split, count in table.get("pieces", {}).items():
        if not isinstance(count, int) or count < 1:
            raise UserError(f"{path}: pieces.{split} = {count!r} is no number of pieces.")
    for name, tables in table.get("subsets", {}).items():
        _check_subset(path, name, tables)


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
