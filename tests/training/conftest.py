"""Where short trainings run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture
def here(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The prepared corpus as working directory; logging and the rest are put back afterwards."""
    monkeypatch.chdir(prepared)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    torch.set_flush_denormal(False)
    for handler in root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    root.handlers, root.level = handlers, level
