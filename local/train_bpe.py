"""Entry of a preparation stage; the work is in zipasr.cli.bpe."""

import sys

from zipasr.cli.bpe import main

if __name__ == "__main__":
    sys.exit(main())
