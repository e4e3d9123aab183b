"""Entry of the import of a corpus; the work is in zipasr.cli.import_corpus."""

import sys

from zipasr.cli.entry import start

if __name__ == "__main__":
    sys.exit(start("import_corpus"))
