"""Write the keyword arguments of the Python API, typed, from the flags of the commands.

python -m docs.keywords
"""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from zipasr.base.config import Flag
from zipasr.cli.command_flags import DECODE, EXPORT, LOAD_MODEL, TRAIN
from zipasr.cli.flags import Command, all_flags

PATH = Path(__file__).parents[1] / "zipasr" / "cli" / "keywords.py"

#: Name of the class, and the command whose flags it holds.
CLASSES = {
    "ModelSettings": LOAD_MODEL,
    "TrainFlags": TRAIN,
    "DecodeFlags": DECODE,
    "ExportFlags": EXPORT,
}

#: Flags that are arguments of their own, or that others stand for.
OWN = {"recipe"}
OWN_OF_MODEL = {"exp_dir", "checkpoint", "tokens", "bpe_model", "decoding_method", "use_bf16"}
OWN_OF_MODEL |= {"auto_avg", "auto_avg_cuts", "skip_scoring", "full_libri", "mini_libri"}

HEAD = '''"""Keyword arguments of the Python API: the flags of the commands with their types.

Written by ``python -m docs.keywords``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict
'''


def type_of(hint: Any) -> str:
    """Return the annotation of a flag's values, as a program gives them."""
    if hint is NoneType:
        return "None"
    if hint is Path:
        return "Path | str"
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(type_of(one) for one in get_args(hint))
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        plain = item if item in (int, float) else str
        one = "" if plain is str else f"{plain.__name__} | "
        return f"Sequence[{plain.__name__}] | {one}str"
    if get_origin(hint) is Literal:
        return f"Literal[{', '.join(repr(value) for value in get_args(hint))}]".replace("'", '"')
    return str(hint.__name__) if hint in (bool, int, float, str) else "str"


def annotation(one: Flag) -> str:
    """Return the annotation of a flag."""
    names = ", ".join(f'"{choice}"' for choice in one.choices)
    return f"Literal[{names}]" if one.choices and one.hint is str else type_of(one.hint)


def class_text(name: str, command: Command) -> str:
    """Return the source of one class."""
    lines = [
        f'class {name}(TypedDict, total=False):\n    """Flags of {command.name} by field."""\n'
    ]
    own = OWN | (OWN_OF_MODEL if command is LOAD_MODEL else set())
    known = {one.field: one for one in all_flags(command) if one.field not in own}
    lines += [f"    {field}: {annotation(known[field])}" for field in sorted(known)]
    return "\n".join(lines)


def source() -> str:
    """Return the source of the module."""
    return "\n\n\n".join([HEAD, *(class_text(*entry) for entry in CLASSES.items())]) + "\n"


def main() -> None:
    """Write the module."""
    PATH.write_text(source(), encoding="utf-8")


if __name__ == "__main__":
    main()
