#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.decode."""

import sys

from zipasr.cli.decode import main

if __name__ == "__main__":
    sys.exit(main())
