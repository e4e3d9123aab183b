"""Packages that tests compare with, and that this project does not need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest


def loaded(name: str) -> ModuleType | None:
    """Return a module; ``None`` if it is absent, or was built for another torch and cannot load."""
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError):
        return None


def needed(name: str) -> ModuleType:
    """Return a module; skip the test where it cannot be loaded."""
    module = loaded(name)
    if module is None:
        pytest.skip(f"{name} cannot be loaded beside this torch, or is not installed")
    return module
