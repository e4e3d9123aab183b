"""The same as decode.py with the defaults of icefall's ctc_decode.py."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.command_flags import read
from zipasr.cli.entry import guarded
from zipasr.cli.recognition_commands import CTC_DECODE
from zipasr.cli.recognition_flags import recognition_config
from zipasr.recognition.decode_sets import decode


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set through the CTC head and write the result files; print a table."""
    decode(recognition_config(read(CTC_DECODE, argv)))
    return 0
