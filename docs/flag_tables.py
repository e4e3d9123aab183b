"""Tables of flags in Markdown: all flags of the commands, and what became of those of icefall.

Both are read from the commands in zipasr/cli.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zipasr.base.config import Flag
from zipasr.cli.command_flags import COMMANDS
from zipasr.cli.flags import Command, all_flags
from zipasr.cli.model_commands import AVERAGE, EXPORT
from zipasr.cli.preparation_commands import IMPORT
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE
from zipasr.cli.training_commands import FINETUNE, TRAIN, TRAIN_LM

#: Flags that the published recipe documents, with their defaults, by groups; and its programs.
DOCUMENTED = Path(__file__).parents[1] / "tests" / "golden" / "contract" / "defaults.json"
#: Program of icefall -> the command that does the same.
PROGRAMS: Mapping[str, Command] = {
    "train.py": TRAIN,
    "finetune.py": FINETUNE,
    "decode.py": DECODE,
    "ctc_decode.py": CTC_DECODE,
    "streaming_decode.py": STREAMING_DECODE,
    "export.py": EXPORT,
    "generate_averaged_model.py": AVERAGE,
    "rnn_lm/train.py": TRAIN_LM,
}
#: Why a default is another one; the contract tests hold that there are no others.
OTHER_DEFAULTS = {
    "--epoch": "the last complete epoch of the run",
    "--lr": "0.001, for a transformer 0.0005",
    "--use-bf16": "on where the device computes in it",
    "--finetune-ckpt": "none: it has to be typed",
}
_TITLES = {
    "training": "Training",
    "model": "Model",
    "data": "Data",
    "finetuning": "Fine-tuning",
    "decoding": "Decoding",
    "language models": "Language models",
    "CTC decoding": "CTC decoding",
    "streaming decoding": "Streaming decoding",
    "export": "Export",
    "averaging": "Averaging",
    "training of language models": "Training of language models",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; ``/`` stands for ``|``, which ends a cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


# All flags -----------------------------------------------------------------------------------


@dataclass
class _Entry:
    """A flag with the commands that have it, and their defaults where they have their own."""

    flag: Flag
    commands: list[str] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)


def all_flags_page() -> str:
    """Return the page of all flags, a table for each group of the help."""
    groups = _grouped()
    lines = [
        "# All flags",
        "",
        "The flags of all commands, as `--help-all` shows them, without the values of a recipe: "
        "`./train.py --recipe NAME --help-all` shows those too, and `--print-config` says of each "
        "value where it comes from. `0/1` is a boolean. The keywords of "
        "[`zipasr.train`](python_api.md) and the like are the same, with `_` for `-`.",
    ]
    for title, entries in groups.items():
        every = list(dict.fromkeys(name for one in entries for name in one.commands))
        lines += ["", f"## {title}", "", f"For {', '.join(f'`{name}`' for name in every)}.", ""]
        lines.append(table(("flag", "default", "meaning"), (_row(one, every) for one in entries)))
    return "\n".join(lines) + "\n"


def _grouped() -> dict[str, list[_Entry]]:
    found: dict[tuple[str, str, str], _Entry] = {}
    for command in (*COMMANDS, IMPORT):
        name = command.name if command.name.endswith(".py") else f"prepare.sh: {command.name}"
        for one in all_flags(command):
            entry = found.setdefault((one.group, one.field, one.help), _Entry(one))
            entry.commands.append(name)
            if one.field in command.defaults:
                entry.own[name] = command.defaults[one.field]
    groups: dict[str, list[_Entry]] = {}
    for entry in found.values():
        groups.setdefault(entry.flag.group, []).append(entry)
    return groups


def _row(entry: _Entry, every: Sequence[str]) -> tuple[str, str, str]:
    one = entry.flag
    defaults = [f"`{one.shown(one.default) or 'empty'}`"]
    defaults += [f"`{one.shown(value)}` in `{name}`" for name, value in entry.own.items()]
    meaning = one.help
    if one.meanings:
        meaning += ": " + ", ".join(f"`{name}`" for name in one.meanings)
    if len(entry.commands) < len(every):
        meaning += f" ({', '.join(f'`{name}`' for name in entry.commands)} alone)"
    return f"`{one.name} {one.kind}`", ", ".join(defaults), meaning


# Flags of icefall ----------------------------------------------------------------------------


def icefall_flags() -> str:
    """Return tables of the published flags: their defaults, and what they do here."""
    documented = json.loads(DOCUMENTED.read_text(encoding="utf-8"))
    parts = []
    for group, content in documented["groups"].items():
        programs = [name for name, has in documented["programs"].items() if group in has]
        columns: dict[tuple[str, ...], list[str]] = {}
        for program in programs:
            cells = tuple(_in_command(name, PROGRAMS[program]) for name in content["flags"])
            columns.setdefault(cells, []).append(program)
        head = ["flag", "icefall's default"]
        head += [", ".join(f"`{name}`" for name in names) for names in columns.values()]
        rows = [
            (f"`{name}`", f"`{default}`" if default else "", *(cells[index] for cells in columns))
            for index, (name, default) in enumerate(content["flags"].items())
        ]
        parts.append(f"### {_TITLES[group]}\n\n" + table(head, rows))
    return "\n\n".join(parts)


def _in_command(name: str, command: Command) -> str:
    if name in command.refused:
        given, reason = command.refused[name]
        return f"refused unless `{given}`: {_reason(reason)}"
    if name in command.without_effect:
        return f"no effect: {command.without_effect[name]}"
    if name in command.spellings:
        return f"acts, as `{command.spellings[name]}`"
    if name in OTHER_DEFAULTS:
        return f"acts; default: {OTHER_DEFAULTS[name]}"
    known = {one.name: one for one in all_flags(command)}
    if name not in known:
        raise ValueError(f"{command.name} has no {name}")
    free = {one for cls in command.encoders.values() for one in cls.free_when_decoding}
    is_stored = known[name].field in command.stored_names and known[name].field not in free
    return "the checkpoint's" if is_stored else "acts"


def _reason(reason: str) -> str:
    """Return what there is instead, without the sentence before it."""
    return reason.rpartition("): ")[2].rstrip(".")


def other_names() -> str:
    """Return a table of flags with two names."""
    rows = [
        (f"`{command.name}`", f"`{other}`", f"`{name}`")
        for command in COMMANDS
        for other, name in command.spellings.items()
    ]
    return table(("command", "icefall's name", "the same as"), rows)


def refused_flags() -> str:
    """Return a table of what is refused, and what to do instead."""
    found: dict[tuple[str, str], list[str]] = {}
    for command in COMMANDS:
        for name, (default, reason) in command.refused.items():
            text = reason.format(flag="FLAG", default=default or "nothing")
            found.setdefault((command.name, text), []).append(f"`{name}`")
    rows = [(f"`{name}`", ", ".join(flags), f"`{text}`") for (name, text), flags in found.items()]
    return table(("command", "flags", "what it says"), rows)


def flags_without_effect() -> str:
    """Return a table of the flags that are read and change nothing, by the reason."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for command in COMMANDS:
        for name, why in command.without_effect.items():
            flags, commands = found.setdefault(why, ([], []))
            flags.append(f"`{name}`")
            commands.append(f"`{command.name}`")
    rows = [
        (", ".join(dict.fromkeys(flags)), ", ".join(dict.fromkeys(commands)), why)
        for why, (flags, commands) in found.items()
    ]
    return table(("flags", "in", "why"), rows)
