"""Transcribe the test sets of a recipe and report word error rates."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.commands import DECODE, read
from zipasr.cli.decoding import decode
from zipasr.cli.flags import guarded


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set and write the result files; print a table."""
    return decode(read(DECODE, argv))
