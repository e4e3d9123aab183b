"""Entry of a preparation stage; the work is in zipasr.cli.prepare."""

import sys

from zipasr.cli.entry import start

if __name__ == "__main__":
    sys.exit(start("download_corpus"))
