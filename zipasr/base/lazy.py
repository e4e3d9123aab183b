"""Public names of a package that are imported when they are used for the first time (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from zipasr.base.errors import nearest


def lazy_names(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package.

    Importing a package then costs nothing: flags and help texts read configurations below it, and
    must not wait for torch. In the package, type checkers see ordinary imports instead::

        if TYPE_CHECKING:
            from zipasr.optim.schedules import Eden
        else:
            __getattr__, __dir__ = lazy_names(__name__, {"schedules": ["Eden"]})

    Args:
        package: its ``__name__``.
        names: module of the package -> public names that it defines. A name must not be that of a
            module: once the module is imported, it would stand in place of what is meant.
    """
    module_of = {name: module for module, defined in names.items() for name in defined}

    def get(name: str) -> Any:
        if name in module_of:
            return getattr(import_module(f"{package}.{module_of[name]}"), name)
        # Tools ask for names such as __wrapped__, where a hint would be noise.
        hint = "" if name.startswith("__") else nearest(name, module_of)
        problem = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(f"{problem}, {hint}" if hint else problem)

    def known() -> list[str]:
        return sorted({*vars(import_module(package)), *module_of})

    return get, known
