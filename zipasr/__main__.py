"""The command ``zipasr`` as ``python -m zipasr``."""

import sys

from zipasr.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
