from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipasr.base import config
from zipasr.base.config import flag
from zipasr.base.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Every kind of field."""

    base_lr: float = flag(0.045, "learning rate, 10 % of nothing")
    use_fp16: bool = flag(False, "boolean")
    layers: tuple[int, ...] = flag((2, 2, 3), "comma list")
    folder: Path = flag(Path("data"), "path")
    kind: Literal["a", "b"] = flag("a", "choice")
    dropout: float | None = flag(None, "optional")
    sets: tuple[str, ...] | None = flag(None, "optional list")


FLAGS = config.flags_of(Example)


def read(*words: str, **recipe: Any) -> Example:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    of_recipe = config.recipe_values(FLAGS, recipe)
    for one in FLAGS:
        one.add_to(parser, default=of_recipe.get(one.field, one.default))
    return config.from_values(Example, vars(parser.parse_args(words)))


def test_defaults_are_those_of_the_dataclass() -> None:
    assert read() == Example()


def test_flags_of_every_type() -> None:
    words = "--base-lr 0.1 --use-fp16 1 --layers 1,2 --folder x --kind b --dropout 0.2 --sets a,b"
    assert read(*words.split()) == Example(
        base_lr=0.1,
        use_fp16=True,
        layers=(1, 2),
        folder=Path("x"),
        kind="b",
        dropout=0.2,
        sets=("a", "b"),
    )


@pytest.mark.parametrize("word", ["1", "true", "True", "yes", "y", "T"])
def test_spellings_of_true(word: str) -> None:
    assert read("--use-fp16", word).use_fp16


@pytest.mark.parametrize("word", ["0", "false", "No", "n", "F"])
def test_spellings_of_false(word: str) -> None:
    assert not read("--use-fp16", word).use_fp16


def test_a_recipe_replaces_defaults_and_flags_replace_the_recipe() -> None:
    recipe = {"base-lr": 0.1, "layers": "4,5"}
    assert read(**recipe).layers == (4, 5)
    assert read("--base-lr", "1", **recipe).base_lr == 1.0


def test_a_misspelt_recipe_key_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'base-rl'.*base-lr"):
        config.recipe_values(FLAGS, {"base-rl": 0.1})


def test_a_key_of_another_command_is_skipped() -> None:
    assert config.recipe_values(FLAGS, {"beam-size": 4}, known_elsewhere=["beam-size"]) == {}


def test_a_flag_says_what_is_typed_after_it() -> None:
    kinds = [one.kind for one in FLAGS]
    assert kinds == ["FLOAT", "0|1", "N,N,...", "PATH", "a|b", "FLOAT", "A,B,..."]


@given(
    st.builds(
        Example,
        base_lr=st.floats(allow_nan=False, allow_infinity=False),
        use_fp16=st.booleans(),
        layers=st.lists(st.integers(), min_size=1).map(tuple),
        folder=st.sampled_from([Path("a"), Path("b/c")]),
        kind=st.sampled_from(["a", "b"]),
        dropout=st.none() | st.floats(0, 1),
    )
)
def test_flags_and_json_give_back_any_config(value: Example) -> None:
    words = []
    for name in ("base_lr", "use_fp16", "folder", "kind", "dropout", "layers"):
        field = getattr(value, name)
        if field is not None:
            text = ",".join(map(str, field)) if isinstance(field, tuple) else str(field)
            words.append(f"{config.flag_name(name)}={text}")
    assert read(*words) == value
    assert config.from_dict(Example, config.to_dict(value)) == value
