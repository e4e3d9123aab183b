"""Entry of a preparation stage; the work is in zipasr.cli.lm_text."""

import sys

from zipasr.cli.lm_text import main

if __name__ == "__main__":
    sys.exit(main())
