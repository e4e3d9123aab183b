"""Texts of --help, --help-all, --print-config and of flags whose values have names."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from zipasr.base.config import Flag
from zipasr.cli.flags import Command, Run, Setting

WIDTH = 100
# Where the second column begins; longer flags have a line of their own.
_COLUMN = 30


def short_help(command: Command, settings: Mapping[str, Setting], recipe: str | None) -> str:
    """Return what fits in 25 lines: purpose, examples, and the flags that are used most.

    Of the help of a flag it has the first phrase, up to a semicolon.

    Args:
        command: settled.
        settings: defaults to show, those of a recipe among them.
        recipe: whose defaults they are; None for those of the command.
    """
    known = {one.field: one for one in command.flags}
    basic = [known[name] for name in command.basic if name in known]
    lines = _head(command, is_brief=True)
    if basic:
        lines += ["", f"flags{_of_recipe(recipe)}:"]
        lines += [line for one in basic for line in _brief(one, settings)]
    lines += [
        "",
        f"--help-all describes all {len(known)} flags; --print-config prints their values.",
    ]
    return "\n".join(lines) + "\n"


def long_help(command: Command, settings: Mapping[str, Setting], recipe: str | None) -> str:
    """Return all flags in groups; arguments as of ``short_help``."""
    lines = _head(command)
    if recipe:
        lines += ["", f"Defaults are those of the recipe {recipe}."]
    groups: dict[str, list[Flag]] = {}
    for one in command.flags:
        groups.setdefault(one.group, []).append(one)
    for title, flags in groups.items():
        lines += ["", f"{title}:"]
        lines += [line for one in flags for line in _entry(one, settings)]
    if command.spellings:
        lines += ["", "Other names:"]
        lines += [_row(other, f"the same as {name}") for other, name in command.spellings.items()]
    lines += ["", "Help:", *_HELP]
    return "\n".join(lines) + "\n"


def config_text(run: Run) -> str:
    """Return every value of a command with its source, group by group."""
    lines = [f"{run.command.name}, recipe {run.recipe.name}"]
    groups: dict[str, list[str]] = {}
    for one in run.command.flags:
        setting = run.settings.get(one.field)
        if setting is None:
            value, source = "", "checkpoint"
        else:
            value, source = one.shown(setting.value), setting.source
        groups.setdefault(one.group, []).append(f"  {one.name:<36} {value:<36} {source}")
    for title, rows in groups.items():
        lines += ["", f"{title}:", *rows]
    return "\n".join(lines) + "\n"


def meanings_text(flag: Flag) -> str:
    """Return the values that a flag takes, with their meanings."""
    rows = [_row(name, meaning) for name, meaning in flag.meanings.items()]
    return "\n".join([f"values of {flag.name}:", *rows]) + "\n"


_HELP = [
    "  --help                      the flags that are used most",
    "  --help-all                  this text",
    "  --print-config              print every value and its source: default, recipe, typed, ...",
]


def _head(command: Command, *, is_brief: bool = False) -> list[str]:
    operands = f" {command.operands[0]} ..." if command.operands else ""
    lines = [f"usage: {command.name}{operands} [--FLAG VALUE] ...", ""]
    lines += textwrap.wrap(command.about, WIDTH)
    if command.examples:
        lines += ["", "examples:"]
        lines += [f"  {typed}  # {does}" for typed, does in command.examples]
    if command.operands:
        name, about = command.operands
        about = about.partition("; ")[0] if is_brief else about
        lines += ["", *_row(name, about).splitlines()]
    return lines


def _of_recipe(recipe: str | None) -> str:
    return f" (defaults of the recipe {recipe})" if recipe else ""


def _brief(flag: Flag, settings: Mapping[str, Setting]) -> list[str]:
    """Return the first phrase of a flag's help, and what is done where nothing is said."""
    about, *more = flag.help.split("; ")
    setting = settings.get(flag.field)
    default = _default(flag, setting)
    if setting is not None and setting.value in (None, ""):
        found = [one.partition(": ")[2] for one in more if one.startswith(("none: ", "empty: "))]
        default = (found or [default])[0]
    if flag.meanings:
        about += ", or help to list them"
    return _row(f"{flag.name} {flag.kind}", f"{about} (default: {default})").splitlines()


def _default(flag: Flag, setting: Setting | None) -> str:
    if setting is None:
        return "that of the checkpoint"
    return flag.shown(setting.value) or "empty"


def _entry(flag: Flag, settings: Mapping[str, Setting]) -> list[str]:
    about = f"{flag.help} (default: {_default(flag, settings.get(flag.field))})"
    if flag.meanings:
        about += f"; {flag.name} help lists them"
    return _row(f"{flag.name} {flag.kind}", about).splitlines()


def _row(name: str, about: str) -> str:
    indent = " " * _COLUMN
    first = f"  {name}"
    lines = textwrap.wrap(about, WIDTH - _COLUMN, break_on_hyphens=False, break_long_words=False)
    if len(first) + 2 <= _COLUMN and lines:
        return "\n".join([first.ljust(_COLUMN) + lines[0], *(indent + line for line in lines[1:])])
    return "\n".join([first, *(indent + line for line in lines)])
