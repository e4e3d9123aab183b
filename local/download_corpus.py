"""Entry of a preparation stage; the work is in zipasr.cli.download."""

import sys

from zipasr.cli.download import main

if __name__ == "__main__":
    sys.exit(main())
