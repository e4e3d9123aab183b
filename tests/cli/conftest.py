"""Recipes of a few flags, and what the tests of commands import from here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.captured_output import Call, Said

__all__ = ["Call", "Said"]


@pytest.fixture
def recipe_with(tmp_path: Path) -> Callable[[str], Path]:
    """Write a recipe called ``tones`` with these lines under [flags]; return the folder above."""

    def write(flags: str) -> Path:
        folder = tmp_path / "tones"
        folder.mkdir()
        (folder / "recipe.toml").write_text(
            'corpus = "manifests"\n[splits]\ntrain = ["train"]\nvalid = ["dev"]\ntest = ["test"]\n'
            f"[flags]\n{flags}\n"
        )
        return tmp_path

    return write
