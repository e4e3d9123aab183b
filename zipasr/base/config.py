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

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


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


def flag(
    default: Any,
    help: str,
    *,
    unit: str = "",
    group: str = "",
    meanings: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:
    """Declare a config field: its default and what the help says of its flag.

    Args:
        default: value where nothing else is said.
        help: what the value is; a phrase without a full stop.
        unit: of the value, such as ``s``; shown with the default.
        group: heading of the help text; by default the first line of the dataclass's docstring.
        meanings: the values it takes with what each means, if they are names.
    """
    metadata = {"help": help, "unit": unit, "group": group, "meanings": meanings}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """One flag: a field of a config, or a choice of a command itself.

    Attributes:
        field: name of the value; ``base_lr`` is typed as ``--base-lr``.
        hint: type of the value.
        default: of the dataclass.
        help: what the value is.
        group: heading of the help text.
        unit: of the value.
        choices: the values it takes; empty if any of its type.
        meanings: see ``flag``.
    """

    field: str
    hint: Any
    default: Any
    help: str
    group: str
    unit: str = ""
    choices: tuple[Any, ...] = ()
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is typed."""
        return flag_name(self.field)

    @property
    def is_bool(self) -> bool:
        """Whether it is a boolean: without a word after it, it is true."""
        return bool in (self.hint, *get_args(self.hint))

    @property
    def kind(self) -> str:
        """What is typed after it: its choices, or a name for the type of its values."""
        return "|".join(map(str, self.choices)) or str(_metavar(self.hint))

    def parse(self, word: str) -> Any:
        """Return the value of a word.

        Raises:
            ValueError: the word is of another type.
            argparse.ArgumentTypeError: the same, or it is none of the choices.
        """
        value = word_parser(self.hint)(word)
        if self.choices and value not in self.choices:
            names = ", ".join(map(str, self.choices))
            raise argparse.ArgumentTypeError(f"invalid choice: {word!r} (choose from {names})")
        return value

    def shown(self, value: Any) -> str:
        """Write a value as it would be typed, with its unit."""
        text = shown(value)
        return f"{text} {self.unit}" if self.unit and value is not None else text

    def of_recipe(self, value: Any) -> Any:
        """Return a value of a recipe as the flag would have read it from the command line.

        Raises:
            UserError: it is none that the flag takes.
        """
        key = self.name[2:]
        word = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        try:
            parsed = word_parser(self.hint)(word)
        except (ValueError, argparse.ArgumentTypeError) as problem:
            raise UserError(f"the recipe says {key} = {value!r}: {problem}.") from problem
        if self.choices and parsed not in self.choices:
            names = [str(choice) for choice in self.choices]
            raise UserError(
                f"the recipe says {key} = {value!r}; it is one of {', '.join(names)}.",
                nearest(word, names),
            )
        return parsed

    def add_to(self, parser: argparse.ArgumentParser, *spellings: str, default: Any) -> None:
        """Let ``parser`` read it, under other spellings as well."""

        def parse(word: str) -> Any:
            return self.parse(word)

        parse.__name__ = word_parser(self.hint).__name__  # for argparse: invalid int value
        bare: dict[str, Any] = {"nargs": "?", "const": True} if self.is_bool else {}
        names = (self.name, *spellings)
        parser.add_argument(*names, dest=self.field, type=parse, default=default, **bare)


def flags_of(cls: type[DataclassInstance]) -> list[Flag]:
    """Return the flags of a config, one for each field."""
    hints = get_type_hints(cls)
    return [
        Flag(
            field=field.name,
            hint=hints[field.name],
            default=field.default,
            help=field.metadata["help"],
            group=field.metadata["group"] or title_of(cls),
            unit=field.metadata["unit"],
            choices=get_args(hints[field.name]) if get_origin(hints[field.name]) is Literal else (),
            meanings=field.metadata["meanings"],
        )
        for field in dataclasses.fields(cls)
    ]


#: What may be demanded of a number.
_DEMANDS: Mapping[str, Callable[[float], bool]] = {
    "must be at least 1": lambda value: value >= 1,
    "must be positive": lambda value: value > 0,
    "must be above 0": lambda value: value > 0,
    "must not be negative": lambda value: 0 <= value < math.inf,
    "must be between 0 and 1": lambda value: 0 <= value <= 1,
    "must be at least 0 and below 1": lambda value: 0 <= value < 1,
}


def check_numbers(config: Any, demand: str, fields: str) -> None:
    """Refuse numbers of a config; one that is ``None`` is none.

    Args:
        config: the dataclass.
        demand: one of ``_DEMANDS``; the words of the message.
        fields: names with blanks between them, of numbers or tuples of numbers.

    Raises:
        ValueError: a number is not as it must be.
    """
    for name in fields.split():
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(one is None or _DEMANDS[demand](one) for one in numbers):
            raise ValueError(f"{flag_name(name)} {demand}, not {shown(value)}")


def unknown_value(name: str, value: str, known: Collection[str], more: str = "") -> UserError:
    """Return the error for a value that is none of the known: it names the nearest, and all.

    Args:
        name: of the flag or argument.
        value: that it was given.
        known: values.
        more: command that says what each means; none if empty.
    """
    what = f"unknown {name} {value!r}, {nearest(value, known)}".rstrip(", ")
    fix = f"choose one of: {', '.join(known)}."
    fix += f" {more} says what each is." if more else ""
    return UserError(what if what.endswith("?") else f"{what}.", fix)


def recipe_values(
    flags: Collection[Flag], table: Mapping[str, Any], known_elsewhere: Collection[str] = ()
) -> dict[str, Any]:
    """Return the values that a recipe gives to flags: field -> value.

    Args:
        flags: of one command.
        table: the ``[flags]`` table of a recipe; keys are flag names without the dashes.
        known_elsewhere: flag names (without dashes) of the other commands; they are skipped.

    Raises:
        UserError: a key is a flag of no command (a misspelt key must not pass in silence), or a
            value is none that its flag takes.
    """
    known = {one.field: one for one in flags}
    found: dict[str, Any] = {}
    for key, value in table.items():
        one = known.get(key.replace("-", "_"))
        if one is not None:
            found[one.field] = one.of_recipe(value)
        elif key not in known_elsewhere:
            names = [one.name[2:] for one in flags] + list(known_elsewhere)
            raise UserError(f"unknown flag in the recipe: {key!r}.", nearest(key, names))
    return found


def from_values(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build ``cls`` from the values of its fields; others are left out.

    Raises:
        UserError: the dataclass refuses its values; the message is the dataclass's own.
    """
    try:
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})
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


def title_of(cls: type[DataclassInstance]) -> str:
    """Return the first line of a config's docstring, up to its full stop or semicolon."""
    return (cls.__doc__ or cls.__name__).splitlines()[0].partition(";")[0].rstrip(".")


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
