"""Where short trainings run."""

from pathlib import Path

import pytest


@pytest.fixture
def here(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prepared corpus as working directory; logging and the rest are put back afterwards."""
    monkeypatch.chdir(prepared)
