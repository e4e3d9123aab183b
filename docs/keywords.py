"""Write the keyword arguments of the Python API, typed, from the flags of the commands.

python -m docs.keywords
"""

from __future__ import annotations

from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from zipasr.base.config import Flag
from zipasr.cli.flags import Command, all_flags
from zipasr.cli.model_commands import EXPORT
from zipasr.cli.recognition_commands import DECODE, LOAD_MODEL
from zipasr.cli.training_commands import TRAIN

PATH = Path(__file__).parents[1] / "zipasr" / "cli" / "keywords.py"

#: Name of the class, what it holds, the classes that it extends, and the commands that have the
#: flags in common.
CLASSES: tuple[tuple[str, str, tuple[str, ...], tuple[Command, ...]], ...] = (
    ("SharedFlags", "of all that needs a model", (), (LOAD_MODEL, TRAIN, DECODE, EXPORT)),
    ("SearchFlags", "of a search", ("SharedFlags",), (LOAD_MODEL, DECODE, EXPORT)),
    ("DataFlags", "of data", ("SharedFlags",), (TRAIN, DECODE, EXPORT)),
    ("RunFlags", "of a trained run", ("SearchFlags", "DataFlags"), (DECODE, EXPORT)),
    ("ModelSettings", "of load_model", ("SearchFlags",), (LOAD_MODEL,)),
    ("TrainFlags", "of train.py", ("DataFlags",), (TRAIN,)),
    ("DecodeFlags", "of decode.py", ("RunFlags",), (DECODE,)),
    ("ExportFlags", "of export.py", ("RunFlags",), (EXPORT,)),
)

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


def keywords_of(command: Command) -> dict[str, str]:
    """Return the annotations of the flags of a command, by field."""
    own = OWN | (OWN_OF_MODEL if command is LOAD_MODEL else set())
    return {one.field: annotation(one) for one in all_flags(command) if one.field not in own}


def source() -> str:
    """Return the source of the module."""
    texts = [HEAD]
    held: dict[str, set[str]] = {}
    for name, about, bases, commands in CLASSES:
        first, *others = map(keywords_of, commands)
        common = {field for field in first if all(first[field] == one.get(field) for one in others)}
        inherited = {field for base in bases for field in held[base]}
        held[name] = common | inherited
        lines = [f"class {name}({', '.join(bases) or 'TypedDict'}, total=False):"]
        lines += [f'    """Flags {about} by field."""\n']
        lines += [f"    {field}: {first[field]}" for field in sorted(common - inherited)]
        texts.append("\n".join(lines))
    return "\n\n\n".join(texts) + "\n"


def main() -> None:
    """Write the module."""
    PATH.write_text(source(), encoding="utf-8")


if __name__ == "__main__":
    main()
