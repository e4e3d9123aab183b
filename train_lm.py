#!/usr/bin/env python3
"""Entry point; the work is in zipasr.cli.train_lm."""

import sys

from zipasr.cli.entry import start

if __name__ == "__main__":
    sys.exit(start("train_lm.py"))
