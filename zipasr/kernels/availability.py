"""Availability of numba and of the modules it compiles."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any


@functools.cache
def compiled_module(name: str) -> ModuleType | None:
    """Import a module of compiled loops, where numba is installed and allowed to compile."""
    try:
        if importlib.import_module("numba").config.DISABLE_JIT:
            return None
        return importlib.import_module(name)
    except (ImportError, RuntimeError):  # not installed, or nowhere to keep what it compiles
        return None


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that has no twin; without numba it stays Python, slow and the same."""
    return _compiled(function)


def inner_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile, as ``loop`` does, what makes no arrays and is called for each step of a loop.

    It counts no references to the arrays that it is given, which would take longer than the step.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    try:
        njit = functools.partial(importlib.import_module("numba").njit, nogil=True, **options)
    except ImportError:
        return function
    try:
        compiled: Callable[..., Any] = njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # nowhere to keep what it compiles
        compiled = njit(error_model="numpy")(function)
    return compiled
