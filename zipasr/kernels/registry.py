"""Availability of numba and of the modules it compiles."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def compiled_module(name: str) -> ModuleType | None:
    """Import a module of compiled loops, where numba is installed and allowed to compile."""
    try:
        if importlib.import_module("numba").config.DISABLE_JIT:
            return None
        return importlib.import_module(name)
    except (ImportError, RuntimeError):  # not installed, or nowhere to keep what it compiles
        return None
