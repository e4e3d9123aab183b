"""Transcribe the test sets of a recipe and report word error rates: three commands."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE, STREAMING_DECODE, recognition_config
from zipasr.recognition.decode_sets import decode
from zipasr.recognition.decode_streams import decode_streams


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set and write the result files; print a table."""
    decode(recognition_config(read(DECODE, argv)))
    return 0


@guarded
def ctc(argv: Sequence[str] | None = None) -> int:
    """Do the same with the defaults of icefall's ctc_decode.py: through the CTC head."""
    decode(recognition_config(read(CTC_DECODE, argv)))
    return 0


@guarded
def streaming(argv: Sequence[str] | None = None) -> int:
    """Do the same chunk by chunk, many utterances at once, each with its state."""
    decode_streams(recognition_config(read(STREAMING_DECODE, argv)))
    return 0
