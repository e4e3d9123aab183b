"""Connected digits: the recipe of the demonstration, and the settings of the embedded recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests import tones


def with_flags_of_espeak(recipe: str) -> str:
    """Add the flags of the embedded recipe to a recipe that ends with flags of its own."""
    espeak = (tones.ROOT / "egs" / "espeak" / "recipe.toml").read_text()
    own = {line.split(" = ")[0] for line in recipe.partition("[flags]\n")[2].splitlines()}
    flags = espeak.partition("[flags]\n")[2].splitlines()
    return recipe + "\n".join(line for line in flags if line.split(" = ")[0] not in own) + "\n"


def write_recipe(folder: Path) -> Path:
    """Copy the recipe, for a run in ``exp``."""
    shutil.copytree(tones.ROOT / "egs" / "digits", folder)
    file = folder / "recipe.toml"
    file.write_text(file.read_text().replace('"exp/digits"', '"exp"'))
    return folder
