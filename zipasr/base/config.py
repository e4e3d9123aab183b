"""Command-line flags from dataclasses: one frozen dataclass per component, one flag per field."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from zipasr.base.errors import UserError, nearest
from zipasr.base.files import atomic_path

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def flag(default: Any, help: str) -> Any:
    """Declare a config field: its default and the help text of its flag."""
    return dataclasses.field(default=default, metadata={"help": help})


def schema_of(cls: type[Any]) -> str:
    """Return the name of a config in files: ``cls.schema``, else the name of the class."""
    schema: str = getattr(cls, "schema", cls.__name__)
    return schema


def is_same_value(left: Any, right: Any) -> bool:
    """Say whether two values of a field mean the same; a list of one value is as long as needed."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        longest = max(len(left), len(right))
        left, right = ([*v] * (longest if len(v) == 1 else 1) for v in (left, right))
    return bool(left == right)


def add_flags(
    parser: argparse.ArgumentParser,
    cls: type[DataclassInstance],
    but: Collection[str] = (),
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Give ``parser`` a ``--kebab-case`` flag for each field of ``cls`` that is not in ``but``.

    The flags of a class stand in a group of the help text; its title is the docstring's first line.

    Args:
        parser: gets the flags.
        cls: whose fields become flags.
        but: fields that are left out.
        defaults: field -> default, where it is not that of the class.
    """
    group = parser.add_argument_group(title_of(cls))
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in but:
            continue
        hint = hints[field.name]
        default = defaults.get(field.name, field.default)
        # A boolean without a word after it is true.
        bare: dict[str, Any] = (
            {"nargs": "?", "const": True} if bool in (hint, *get_args(hint)) else {}
        )
        group.add_argument(
            flag_name(field.name),
            **bare,
            type=word_parser(hint),
            choices=get_args(hint) if get_origin(hint) is Literal else None,
            default=default,
            metavar=_metavar(hint),
            help=f"{field.metadata['help']} (default: {shown(default)})".replace("%", "%%"),
        )


def set_defaults(
    parser: argparse.ArgumentParser,
    values: Mapping[str, Any],
    known_elsewhere: Collection[str] = (),
) -> None:
    """Replace defaults by those of a recipe; keys are flag names without the dashes.

    Args:
        parser: the parser of one command.
        values: the ``[flags]`` table of a recipe.
        known_elsewhere: flag names (without dashes) of the other commands; they are skipped.

    Raises:
        UserError: a key is a flag of no command (a misspelt key must not pass in silence), or a
            value is none that its flag takes.
    """
    # Of two spellings of a flag, the first one has the default.
    known = {action.dest: action for action in reversed(parser._actions)}
    for key, value in values.items():
        action = known.get(key.replace("-", "_"))
        if action is not None:
            action.default = _checked(action, key, value)
        elif key not in known_elsewhere:
            names = [name.replace("_", "-") for name in known] + list(known_elsewhere)
            raise UserError(f"unknown flag in the recipe: {key!r}.", nearest(key, names))


def _checked(action: argparse.Action, key: str, value: Any) -> Any:
    """Return a value of a recipe as its flag would have read it from the command line."""
    word = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        parsed = action.type(word) if callable(action.type) else word
    except (ValueError, argparse.ArgumentTypeError) as problem:
        raise UserError(f"the recipe says {key} = {value!r}: {problem}.") from problem
    if action.choices is not None and parsed not in action.choices:
        names = [str(choice) for choice in action.choices]
        raise UserError(
            f"the recipe says {key} = {value!r}; it is one of {', '.join(names)}.",
            nearest(word, names),
        )
    return parsed


def from_args(cls: type[C], args: argparse.Namespace) -> C:
    """Build ``cls`` from the flags that ``add_flags`` declared.

    Raises:
        UserError: the dataclass refuses its values; the message is the dataclass's own.
    """
    try:
        return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal


def to_dict(config: DataclassInstance) -> dict[str, Any]:
    """Return the fields as plain JSON types: paths become strings, tuples become lists."""
    return cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config), default=str)))


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build ``cls`` from what ``to_dict`` made; an unknown field raises ``TypeError``."""
    hints = get_type_hints(cls)
    plain = dict(values)
    for name, value in plain.items():
        if isinstance(value, list):
            plain[name] = tuple(value)
        elif isinstance(value, str) and Path in (hints.get(name), *get_args(hints.get(name))):
            plain[name] = Path(value)
    return cls(**plain)


def save(path: Path, *configs: DataclassInstance) -> None:
    """Write configs to ``path`` as one JSON object keyed by class name."""
    payload = {type(config).__name__: to_dict(config) for config in configs}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")


def load(path: Path, cls: type[C]) -> C:
    """Read back what ``save`` wrote for ``cls``; an unknown field raises ``TypeError``."""
    return from_dict(cls, json.loads(path.read_text(encoding="utf-8"))[cls.__name__])


def title_of(cls: type[DataclassInstance]) -> str:
    """Return the first line of a config's docstring, without its full stop."""
    return (cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".")


def flag_name(field: str) -> str:
    """Return the flag of a field: ``base_lr`` becomes ``--base-lr``."""
    return "--" + field.replace("_", "-")


def word_parser(hint: Any) -> Callable[[str], Any]:
    """Return the function that turns one command-line word into a value of type ``hint``."""
    if hint is bool:
        return parse_bool
    if hint is float:
        return _finite
    if get_origin(hint) in (Union, types.UnionType):
        return word_parser(next(h for h in get_args(hint) if h is not type(None)))
    if get_origin(hint) is tuple:
        item = word_parser(get_args(hint)[0])

        def comma_list(words: str) -> tuple[Any, ...]:
            return tuple(item(word) for word in words.split(","))

        comma_list.__name__ = "comma list"  # argparse shows it: invalid comma list value
        return comma_list
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    return cast("Callable[[str], Any]", hint)


def parse_bool(word: str) -> bool:
    """Read a boolean in any of the spellings that speech recipes accept, such as 1 or true."""
    if word.lower() in {"1", "true", "yes", "y", "t"}:
        return True
    if word.lower() in {"0", "false", "no", "n", "f"}:
        return False
    raise argparse.ArgumentTypeError(f"expected a boolean such as 1 or 0, got {word!r}")


def _finite(word: str) -> float:
    """Read a number that can be reckoned with."""
    value = float(word)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, got {word!r}")
    return value


_finite.__name__ = "float"  # argparse shows it: invalid float value


def _metavar(hint: Any) -> str | None:
    if get_origin(hint) is Literal:
        return None
    is_optional = get_origin(hint) in (Union, types.UnionType)
    plain = next(h for h in get_args(hint) if h is not type(None)) if is_optional else hint
    if get_origin(plain) is tuple:
        return "A,B,..." if get_args(plain)[0] is str else "N,N,..."
    return {bool: "0|1", Path: "PATH"}.get(plain, getattr(plain, "__name__", "VALUE").upper())


def shown(default: Any) -> str:
    """Write a value as it would be typed."""
    if isinstance(default, bool):
        return str(int(default))
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "none" if default is None else str(default)
