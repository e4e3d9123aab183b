"""Errors of the Python API in the words of a program: arguments, where commands have flags.

The library words a mistake once, as one types it: ``--beam-size must be at least 1, not 0``. To
whoever called ``zipasr.load_model("exp/my", beam_size=0)`` it says ``'beam_size' must be ...``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zipasr.base.errors import UserError
from zipasr.cli.flags import words_of
from zipasr.cli.keywords import DecodeFlags, ExportFlags, ModelSettings, TrainFlags
from zipasr.cli.recipes import with_recipe
from zipasr.cli.verbs import VERB_OF

#: Keyword arguments of all functions, with their types as they are written.
_TYPES: Mapping[str, str] = {
    "recipe": "str",
    **{
        name: getattr(hint, "__forward_arg__", str(hint))
        for table in (ModelSettings, TrainFlags, DecodeFlags, ExportFlags)
        for name, hint in table.__annotations__.items()
    },
}
_FUNCTIONS = {"train", "decode", "export"}
_SCRIPTS = "|".join(map(re.escape, VERB_OF))

# A script with the flags behind it: a command line, of which the flags stay as they are.
_COMMAND = re.compile(
    rf"(?<![\w./-])(?:\./)?({_SCRIPTS}|load_model(?= --))(?!\w)"
    r"((?: --[a-z][\w-]*(?: (?!-)(?:[^\s,;:.]|\.(?=\w))+)?)*)"
)
_NUMBER = r"-?\d+(?:\.\d+)?(?![\w.]*\w)"


@contextmanager
def worded_for_programs(
    given: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Let errors speak of the arguments of a function; see ``in_arguments``."""
    try:
        yield
    except UserError as error:
        error.what = in_arguments(error.what, given, renamed)
        error.fix = in_arguments(error.fix, given, renamed)
        error.args = UserError(error.what, error.fix).args
        raise


def in_arguments(
    text: str, given: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> str:
    """Return a message with arguments in place of flags, and functions in place of scripts.

    Args:
        text: worded for the command line.
        given: arguments of the call; their values are recognised behind the flags.
        renamed: flags, by field, that are arguments of another name: field -> argument.
    """
    text = with_recipe(text, words_of({n: v for n, v in given.items() if n in _TYPES}))
    pieces, end = [], 0
    for command in _COMMAND.finditer(text):
        pieces += [_flags_named(text[end : command.start()], given, renamed or {})]
        pieces += [_command_named(*command.groups())]
        end = command.end()
    return "".join([*pieces, _flags_named(text[end:], given, renamed or {})])


def _command_named(script: str, flags: str) -> str:
    if script == "load_model":  # its keywords are flags of this command
        return f"python -m zipasr transcribe{flags}"
    verb = VERB_OF[script]
    if verb in _FUNCTIONS and not flags:
        return f"zipasr.{verb}"
    return f"python -m zipasr {verb}{flags}"


def _flags_named(text: str, given: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    """Replace flags that are no part of a command line, each with the value behind it."""
    typed = sorted({word.partition("=")[2] for word in words_of(given)} - {""}, key=len)
    values = "|".join([r"'[^']*'", *map(re.escape, reversed(typed)), _NUMBER, "[a-z]\\w*"])
    flag = re.compile(rf"(?<![\w-])--([a-z]\w*(?:-\w+)*)(?:[ =]({values})(?!\w))?")

    def named(found: re.Match[str]) -> str:
        field, value = found[1].replace("-", "_"), found[2] or ""
        name = renamed.get(field, field)
        if name not in {*_TYPES, *given, *renamed.values()}:
            return found[0]
        kind = _TYPES.get(name, "")
        is_value = value in typed or repr(value) in kind
        if is_value or (name == field and not value.isidentifier() and value):
            return f"{name}={_shown(value, kind)}"
        is_quoted = text[: found.start()].endswith("'")
        return (name if is_quoted else f"{name!r}") + (f" {value}" if value else "")

    return flag.sub(named, text)


def _shown(value: str, hint: str) -> str:
    """Return a value as a program writes it."""
    if hint.startswith("bool") and value in ("0", "1"):
        return str(value == "1")
    is_literal = value.startswith("'") or re.fullmatch(_NUMBER, value)
    return value if is_literal else repr(value)
