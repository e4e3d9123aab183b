"""Read what a recipe says: its corpus, its splits, its default flags, its expected figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zipasr.base.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path("egs")
TABLES = {"corpus", "corpus-options", "splits", "flags", "expected"}


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
        expected: figures that the end-to-end test holds the recipe to.
    """

    name: str
    folder: Path
    corpus: str
    corpus_options: dict[str, Any] = field(default_factory=dict)
    splits: dict[str, list[str]]
    flags: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)


def load_recipe(name: str, root: Path = RECIPES) -> Recipe:
    """Read the recipe called ``name`` under ``root``, or the one in the folder ``name``.

    Raises:
        UserError: no such recipe, or its file is not a recipe.
    """
    folder = Path(name) if "/" in name else root / name
    path = folder / "recipe.toml"
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
    return _recipe_from_table(folder, path, table)


def _recipe_from_table(folder: Path, path: Path, table: dict[str, Any]) -> Recipe:
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
        name=folder.resolve().name,
        folder=folder,
        corpus=table["corpus"],
        corpus_options=table.get("corpus-options", {}),
        splits=splits,
        flags=table.get("flags", {}),
        expected=table.get("expected", {}),
    )


def _check_types(path: Path, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if key != "corpus" and not isinstance(value, dict):
            raise UserError(f"{path}: {key} = {value!r} is no table.", f"write [{key}] above it.")
    for purpose, names in table["splits"].items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            fix = f'write {purpose} = ["...", "..."].'
            raise UserError(f"{path}: {purpose} = {names!r} is no list of names.", fix)
