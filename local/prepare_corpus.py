"""Entry of a preparation stage; the work is in zipasr.cli.corpus."""

import sys

from zipasr.cli.entry import start

if __name__ == "__main__":
    sys.exit(start("prepare_corpus"))
