"""What several tests of this room start from."""

from __future__ import annotations

import random

import pytest
import torch


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every coin fall on the side of acting, and every mask keep everything."""
    monkeypatch.setattr(random, "random", lambda: 0.0)
    monkeypatch.setattr(torch, "rand", lambda *size, **kwargs: torch.full(size, 0.999999, **kwargs))
