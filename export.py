#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.export."""

import sys

from zipasr.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
