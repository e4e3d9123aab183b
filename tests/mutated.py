"""Valid files with damage: strategies for tests that readers refuse in one line or read."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import strategies as st

from zipasr.base.errors import UserError

#: Examples of a test; with LONG_TESTS so many that a reader meets a million bytes and more.
EXAMPLES = 5000 if "LONG_TESTS" in os.environ else 60

# What real files have been seen to hold where nobody expects it.
_ODD = [
    b"\0",
    b"\r",
    b"\n",
    b"\t",
    b" ",
    b"\xef\xbb\xbf",
    b"\xc2\xa0",
    b"\xe2\x80\xa8",
    b"\xe3\x80\x80",
    b"\xc2\x85",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\xff\xfe",
    b"\xe9",
    b"nan",
    b"inf",
    b"-inf",
    b"1e999",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"\\",
    b'"',
    b"'",
    b"{",
    b"]",
    b"#",
    b"=",
    b":",
    b"<s>",
    b"</S>",
    b"<unk>",
    b"<blk>",
    b"null",
    b"../",
    "é".encode(),
    "e\u0301".encode(),
    "\U0001f600".encode(),
]


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Return ``content`` after one to six changes: bytes and lines lost, repeated or put in."""
    changed = content
    for _ in range(draw(st.integers(1, 6))):
        changed = draw(st.sampled_from(_CHANGES))(draw, changed)
    return changed


def read_or_refused(read: Callable[[], object]) -> None:
    """Call a reader, which may refuse what it reads in one line; anything else is a failure."""
    message = "read"
    try:
        read()
    except UserError as refusal:
        message = str(refusal)
    assert message.strip()
    assert "\n" not in message, message


def _place(draw: st.DrawFn, content: bytes) -> int:
    return draw(st.integers(0, len(content)))


def _insert(draw: st.DrawFn, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw(st.sampled_from(_ODD) | st.binary(max_size=4)) + content[at:]


def _replace(draw: st.DrawFn, content: bytes) -> bytes:
    at = _place(draw, content)
    new = draw(st.sampled_from(_ODD))
    return content[:at] + new + content[at + len(new) :]


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    first, last = sorted((_place(draw, content), _place(draw, content)))
    return content[:first] + content[last:]


def _end_early(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: _place(draw, content)]


def _repeat_line(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    return b"\n".join([*lines[:at], lines[at], *lines[at:]])


def _move_line(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.split(b"\n")
    line = lines.pop(draw(st.integers(0, len(lines) - 1)))
    lines.insert(draw(st.integers(0, len(lines))), line)
    return b"\n".join(lines)


def _lose_field(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = draw(st.integers(0, len(lines) - 1))
    fields = lines[at].split(b" ")
    fields.pop(draw(st.integers(0, len(fields) - 1)))
    return b"\n".join([*lines[:at], b" ".join(fields), *lines[at + 1 :]])


def _windows(_: st.DrawFn, content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def _other_encoding(draw: st.DrawFn, content: bytes) -> bytes:
    encoding = draw(st.sampled_from(["utf-16", "cp1252", "utf-8-sig"]))
    return content.decode("utf-8", "replace").encode(encoding, "replace")


_CHANGES = [
    _insert,
    _insert,
    _replace,
    _replace,
    _cut,
    _end_early,
    _repeat_line,
    _move_line,
    _lose_field,
    _windows,
    _other_encoding,
]
