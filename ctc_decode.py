#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.decode."""

import sys

from zipasr.cli.entry import start

if __name__ == "__main__":
    sys.exit(start("ctc_decode.py"))
