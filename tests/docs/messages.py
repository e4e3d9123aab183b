"""Messages of the library as patterns: what stands in its source, with anything for the values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import zipasr

#: Of fixed text in a message: what is shorter would match anything.
MIN_FIXED = 12
#: Of the characters of a message, at least.
MIN_SHARE = 0.3


def fixed_parts(node: ast.expr) -> list[str] | None:
    """Return the fixed parts of a string, between which values stand; None if it is no string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = [""]
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts[-1] += str(value.value)
        else:
            parts.append("")
    return parts


def _patterns() -> Iterator[tuple[re.Pattern[str], int]]:
    for path in sorted(Path(zipasr.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = fixed_parts(node) if isinstance(node, ast.expr) else None
            fixed = sum(map(len, parts or ()))
            if parts and fixed >= MIN_FIXED:
                yield re.compile(".*?".join(map(re.escape, parts))), fixed


@cache
def patterns() -> tuple[tuple[re.Pattern[str], int], ...]:
    """Return patterns with the length of what is fixed in them."""
    return tuple(_patterns())


def is_said(text: str) -> bool:
    """Say whether the library can say this; a hint such as "did you mean" is always possible."""
    text = re.sub(r"\bdid you mean '[^']+'\?$", "", text).rstrip(", ")
    enough = MIN_SHARE * len(text)
    return not text or any(
        fixed >= enough and pattern.fullmatch(text) for pattern, fixed in patterns()
    )
