"""Public names of packages: imported when used, typed, and no others."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import zipasr
from zipasr.base.lazy import lazy_names

ROOT = Path(zipasr.__file__).parent
PACKAGES = ["encoder", "losses", "model", "optim", "search"]


def public(package: str) -> dict[str, Any]:
    module = importlib.import_module(f"zipasr.{package}")
    return {name: getattr(module, name) for name in module.__all__}


def imported_for_types(package: str) -> dict[str, list[str]]:
    """Module -> names, of the imports that type checkers see."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    (choice,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = (node for node in choice.body if isinstance(node, ast.ImportFrom))
    return {
        str(node.module).removeprefix(f"zipasr.{package}."): [one.name for one in node.names]
        for node in imports
    }


def lazy_table(package: str) -> dict[str, list[str]]:
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names"
    )
    table: dict[str, list[str]] = ast.literal_eval(call.args[1])
    return table


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_resolve_and_are_listed(package: str) -> None:
    module = importlib.import_module(f"zipasr.{package}")
    names = public(package)
    assert len(names) > 3
    assert set(names) <= set(dir(module))
    assert [name for name, value in names.items() if inspect.ismodule(value)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package: str) -> None:
    assert imported_for_types(package) == lazy_table(package)
    exported = importlib.import_module(f"zipasr.{package}").__all__
    assert sorted(exported) == sorted(chain.from_iterable(lazy_table(package).values()))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_that_of_a_module(package: str) -> None:
    modules = {found.name for found in pkgutil.iter_modules([str(ROOT / package)])}
    assert modules & set(public(package)) == set()


def unannotated(value: Any) -> list[str]:
    """Parameters without a type; also "return" of a function."""
    function = value.__init__ if inspect.isclass(value) else value
    signature = inspect.signature(function)
    found = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is inspect.Parameter.empty and name not in ("self", "cls")
    ]
    returns = inspect.isclass(value) or signature.return_annotation is not signature.empty
    return found if returns else [*found, "return"]


@pytest.mark.parametrize("package", PACKAGES)
def test_signatures_are_typed_and_documented(package: str) -> None:
    for name, value in public(package).items():
        if inspect.isfunction(value) or inspect.isclass(value):
            assert (value.__doc__ or "").strip(), name
        is_protocol = getattr(value, "_is_protocol", False)
        own_init = inspect.isclass(value) and "__init__" in vars(value) and not is_protocol
        if inspect.isfunction(value) or own_init:
            assert unannotated(value) == [], name


def test_the_packages_do_not_wait_for_torch() -> None:
    program = f"""
import sys
import {", ".join(f"zipasr.{package}" for package in PACKAGES)}
from zipasr.encoder import Zipformer1Config, ZipformerConfig
from zipasr.model import ModelConfig, TransducerConfig
from zipasr.search import DecodingConfig
print(sorted({{"torch", "numpy", "numba"}} & {{*sys.modules}}))
from zipasr.optim import Eden
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\nTrue\n", "")


def test_a_wrong_name_is_told_with_the_nearest() -> None:
    import zipasr.losses

    with pytest.raises(
        AttributeError, match=r"no attribute 'rnnt_los', did you mean 'rnnt_loss'\?"
    ):
        _ = zipasr.losses.rnnt_los  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'nothing_like_it'"):
        from zipasr.losses import nothing_like_it  # type: ignore[attr-defined]  # noqa: F401


def test_names_that_tools_ask_for_are_answered_without_a_hint() -> None:
    get, known = lazy_names("zipasr.optim", {"schedules": ["Eden"]})
    with pytest.raises(AttributeError, match=r"has no attribute '__eden__'$"):
        get("__eden__")
    assert get("Eden").__module__ == "zipasr.optim.schedules"
    assert {"Eden", "__doc__"} <= set(known())
