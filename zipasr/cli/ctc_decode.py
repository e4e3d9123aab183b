"""The same as decode.py with the defaults of icefall's ctc_decode.py."""

from __future__ import annotations

from collections.abc import Sequence

from zipasr.cli.commands import CTC_DECODE, read
from zipasr.cli.decoding import decode
from zipasr.cli.flags import guarded


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Decode every test set through the CTC head and write the result files; print a table."""
    return decode(read(CTC_DECODE, argv))
