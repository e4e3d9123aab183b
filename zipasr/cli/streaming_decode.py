"""Transcribe the test sets chunk by chunk, many utterances at once, each with its state."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.recognition_commands import STREAMING_DECODE
from zipasr.cli.recognition_flags import recognition_config
from zipasr.recognition.decode_streams import decode_streams


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set as streams and write the result files; print a table."""
    decode_streams(recognition_config(read(STREAMING_DECODE, argv)))
    return 0
