"""Run a notebook and keep its outputs.

python -m docs.run_notebook docs/notebooks/zipformer_by_hand.ipynb
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
SECONDS_PER_CELL = 300


def executed(path: Path) -> Any:
    """Return the notebook of a file with fresh outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    # Cells import the library from here, whether or not it is installed.
    places = {"metadata": {"path": str(ROOT)}}
    config = Config({"KernelManager": {"transport": "ipc"}})  # sockets that others cannot reach
    client = NotebookClient(
        book, config=config, timeout=SECONDS_PER_CELL, kernel_name="python3", resources=places
    )
    client.execute()
    for cell in book.cells:
        cell.metadata = {}  # times of day
    book.metadata.pop("language_info", None)  # the version of this Python
    return book


if __name__ == "__main__":
    file = Path(sys.argv[1])
    nbformat.write(executed(file), file)  # type: ignore[no-untyped-call]
