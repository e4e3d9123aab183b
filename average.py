#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.average."""

import sys

from zipasr.cli.average import main

if __name__ == "__main__":
    sys.exit(main())
