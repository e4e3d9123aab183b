"""Entry of a preparation stage; the work is in zipasr.cli.corpus."""

import sys

from zipasr.cli.corpus import main

if __name__ == "__main__":
    sys.exit(main())
