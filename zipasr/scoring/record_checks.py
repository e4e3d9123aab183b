"""Checks of decoded utterances and settings that come back from JSON files, field by field."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Checks: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""Name of a field to what returns its value, or raises TypeError or ValueError."""

# No recording is longer than this, in seconds: about a year.
_LONGEST = 3e7
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is no text")
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)


def _name(value: Any) -> str:
    if not _text(value) or not {"/", "\0"}.isdisjoint(value):
        raise ValueError("it is no name")
    return _text(value)


def _path(value: Any) -> str:
    """Return a path as it is, or nothing for what no file can be called."""
    try:
        os.fsencode(value if isinstance(value, str) else _text(value))
    except UnicodeEncodeError:
        return ""
    return str(value)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("it is no list")
    return [_text(item) for item in value]


def _words(value: Any) -> list[str]:
    words = _texts(value)
    if "" in words:
        raise ValueError("a word is empty")
    return words


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("it is no number")
    return float(value)


def _finite(value: Any) -> float:
    seconds = _number(value)
    if not abs(seconds) <= _LONGEST:
        raise ValueError(f"{seconds:g} is no time in seconds")
    return seconds


def _seconds(value: Any) -> float:
    seconds = _finite(value)
    if seconds < 0:
        raise ValueError(f"{seconds:g} is no duration")
    return seconds


def _moments(value: Any) -> list[float]:
    if not isinstance(value, list):
        raise TypeError("it is no list")
    return [_finite(item) for item in value]


def _shares(value: Any) -> list[float]:
    shares = _moments(value)
    if not all(0 <= one <= 1 for one in shares):
        raise ValueError("a share is not from 0 to 1")
    return shares


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _optional_seconds(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _count(value: Any) -> int:
    count = _number(value)
    if count < 0 or count != int(count):
        raise ValueError(f"{count:g} is no count")
    return int(count)


RECORD_CHECKS: Checks = {
    "id": _text,
    "ref": _words,
    "hyp": _words,
    "duration": _seconds,
    "speaker": _text,
    "audio": _path,
    "start": _finite,
    "tokens": _texts,
    "times": _moments,
    "log_prob": _optional,
    "shown": _moments,
    "changed": _count,
    "ref_ends": _moments,
    "confidences": _shares,
}
SETTING_CHECKS: Checks = {
    "test_set": _name,
    "key": _text,
    "suffix": _name,
    "model": _text,
    "rtf": _optional,
    "decoded_at": _text,
    "scoring": _text,
    "chunk_seconds": _optional_seconds,
    "chunk_computing": _optional_seconds,
    "calibration": _text,
    "hot_words": lambda value: tuple(_words(value)),
}


def checked(values: Any, checks: Checks) -> dict[str, Any]:
    """Return the values that are known, each of its type.

    Raises:
        TypeError: one has another type, or there are none.
        ValueError: one cannot be.
    """
    if not isinstance(values, dict):
        raise TypeError("it is no object")
    found = {}
    for name in checks.keys() & values.keys():
        try:
            found[name] = checks[name](values[name])
        except (TypeError, ValueError, OverflowError) as problem:
            raise ValueError(f"{name}: {problem}") from problem
    return found
