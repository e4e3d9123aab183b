#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.transcribe."""

import sys

from zipasr.cli.transcribe import main

if __name__ == "__main__":
    sys.exit(main())
