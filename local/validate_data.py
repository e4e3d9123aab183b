"""Entry of a preparation stage; the work is in zipasr.cli.validate."""

import sys

from zipasr.cli.validate import main

if __name__ == "__main__":
    sys.exit(main())
