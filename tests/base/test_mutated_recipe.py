"""Recipe files with damage: read, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.mutated import EXAMPLES, mutated, read_or_refused
from zipasr.base.errors import UserError
from zipasr.base.recipe import Recipe, load_recipe

WHOLE = b"""stages = [1, 4]
corpus = "custom"
[corpus-options]
from = "/data/my speech"
max-bad = 0.01
[splits]
train = ["train", "more"]
valid = ["dev"]
test = ["test"]
[joined]
more = ["a", "b"]
[pieces]
train = 3
[flags]
base-lr = 0.045
encoder-dim = "192,256"
[subsets.small.splits]
train = ["train"]
[subsets.small.flags]
base-lr = 0.1
[needs]
1 = "an hour"
[needs.small]
1 = "a minute"
"""


def written(folder: Path, content: bytes) -> str:
    (folder / "recipe.toml").write_bytes(content)
    return f"{folder}/"


def used(name: str) -> list[str]:
    """Ask a recipe for all that commands ask for."""
    recipe: Recipe = load_recipe(name)
    parts = recipe.parts()
    for subset in recipe.subsets:
        parts += recipe.subset(subset).parts()
        recipe.subset(subset).needs_of(1)
    return [*parts, str(recipe.needs_of(1))]


def test_marks_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    plain = used(written(tmp_path, WHOLE))
    assert used(written(tmp_path, b"\xef\xbb\xbf" + WHOLE.replace(b"\n", b"\r\n"))) == plain


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"custom"', b"3", "corpus = 3 is no name of a corpus"),
        (b'"custom"', b'["custom"]', "is no name of a corpus"),
        (b'["dev"]', b'["../dev"]', r"valid has '\.\./dev', which no part of a file name can be"),
        (b'["dev"]', b'[""]', "valid has '', which no part"),
        (b'["dev"]', b'["a\\u0000"]', "valid has .*, which no part"),
        (b"[1, 4]", b"[" * 5000, "is not valid TOML"),
        (b"[1, 4]", b"\xe9", "is not valid TOML"),
        (b"train = 3", b"train = true", "is no number of pieces"),
    ],
)
def test_what_cannot_be_is_one_line(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        used(written(tmp_path, WHOLE.replace(old, new)))
    assert "\n" not in str(refusal.value)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=mutated(WHOLE))
def test_damage_is_read_or_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    read_or_refused(lambda: used(written(tmp_path, content)))
