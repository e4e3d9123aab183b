"""Which recipe a training run is of, by the folder that --exp-dir names."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

RUN_FILE = "run.json"


def words_of_run(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the words of a training's command line that belong to some flags.

    A run that is decoded is one of the recipe that it was trained for, without that being said.

    Args:
        words: of another command, which may name the run by --exp-dir.
        flags: such as ``--recipe``.

    Returns:
        Flags and values in turn; nothing where no run is named, or none of the flags was typed.
    """
    folders = [value for name, value in _pairs(words) if name == "--exp-dir"]
    if not folders:
        return []
    typed = _pairs(_last_command(Path(folders[-1])))
    return [word for name, value in typed if name in flags for word in (name, value)]


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield flags with their values, typed as two words or as one."""
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            yield name, value if equals else following


def _last_command(exp_dir: Path) -> list[str]:
    try:
        sessions = json.loads((exp_dir / RUN_FILE).read_text(encoding="utf-8"))["sessions"]
        return [str(word) for word in sessions[-1]["command"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
