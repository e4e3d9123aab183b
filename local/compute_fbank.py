"""Entry of a preparation stage; the work is in zipasr.cli.fbank."""

import sys

from zipasr.cli.fbank import main

if __name__ == "__main__":
    sys.exit(main())
