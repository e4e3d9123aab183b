"""Entry of prepare.sh; the work is in zipasr.cli.stages."""

import sys
from pathlib import Path

from zipasr.cli.stages import main

if __name__ == "__main__":
    # The first word is the folder in which prepare.sh was started.
    sys.exit(main(sys.argv[2:], Path(sys.argv[1])))
