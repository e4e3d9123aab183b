"""Transcribe the test sets of a recipe and report word error rates."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.recognition_commands import DECODE
from zipasr.cli.recognition_flags import recognition_config
from zipasr.recognition.decode_sets import decode


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set and write the result files; print a table."""
    decode(recognition_config(read(DECODE, argv)))
    return 0
