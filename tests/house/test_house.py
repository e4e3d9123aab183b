"""Rules that no linter knows; long files, long functions and copies are only printed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "zipasr").rglob("*.py"))
# What is made here and does not belong to the project; also hidden folders but these two.
MADE = {"data", "exp", "__pycache__", "build", "dist", "node_modules"}
HIDDEN_BUT_OURS = {".ci", ".github"}
TEXT = {".py", ".sh", ".md", ".toml", ".txt", ".json", ".cfg", ".ini", ".yml", ".yaml", ".svg", ""}
ENTRIES = (
    "train.py",
    "decode.py",
    "average.py",
    "doctor.py",
    "info.py",
    "report.py",
    "streaming_decode.py",
    "transcribe.py",
    "export.py",
    "prepare.sh",
    "egs/espeak/run.sh",
    "tests/run.sh",
    "tests/versions.sh",
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MIN_COPY_LINES = 8


def project_files() -> Iterator[Path]:
    """Yield the files and links of the project, without what was made by running it."""
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if not is_made(Path(folder), name)]
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in (*files, *links))


def is_made(folder: Path, name: str) -> bool:
    hidden = name.startswith(".") and name not in HIDDEN_BUT_OURS
    environment = (folder / name / "pyvenv.cfg").is_file()
    # A package may be called data; the folder of that name at the top is made by prepare.sh.
    made = name in MADE and (folder == ROOT or name == "__pycache__")
    return hidden or environment or made or name.endswith(".egg-info")


FILES = sorted(project_files())


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def long_files() -> list[str]:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    return [f"{shown(path)}: {size}" for path, size in sizes.items() if size > MAX_FILE_LINES]


def long_functions() -> list[str]:
    return [
        f"{shown(path)}:{node.name}: {length(node)}"
        for path in SOURCES
        for node in functions(path)
        if length(node) > MAX_FUNCTION_LINES
    ]


def copies() -> list[str]:
    places = defaultdict(list)
    for path in SOURCES:
        for node in functions(path):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and (node.end_lineno or 0) - body[0].lineno + 1 >= MIN_COPY_LINES:
                places[ast.dump(ast.Module(body, []))].append(f"{shown(path)}:{node.name}")
    return [" = ".join(where) for where in places.values() if len(where) > 1]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_report_of_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    """A taste to aim at: printed, never failing."""
    sizes = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES)
    report = {
        f"files above {MAX_FILE_LINES} lines": long_files(),
        f"functions above {MAX_FUNCTION_LINES} lines": long_functions(),
        f"bodies of {MIN_COPY_LINES} lines or more that exist twice": copies(),
    }
    with capsys.disabled():
        sys.stdout.write(
            f"\nlibrary: {len(sizes)} modules, median {sizes[len(sizes) // 2]} lines, "
            f"longest {sizes[-1]}\n"
        )
        for title, found in report.items():
            sys.stdout.write(f"  {title}: {', '.join(found) or 'none'}\n")


def test_no_symlinks() -> None:
    assert [shown(path) for path in FILES if path.is_symlink()] == []


def test_packages_import_only_lower_layers() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_importing_the_commands_starts_nothing() -> None:
    """No corpus engine, no GPU, no thread pool, no log set-up; nothing is written or said."""
    modules = [f"zipasr.cli.{path.stem}" for path in (ROOT / "zipasr" / "cli").glob("[a-z]*.py")]
    assert len(modules) > 7
    program = f"""
import logging, random, sys, threading
state = random.getstate()
argv, sys.argv = sys.argv, ["x", "--not-a-flag"]
import {", ".join(modules)}
assert "espeakng_loader" not in sys.modules, "espeakng_loader"
assert not logging.getLogger().handlers, "log handlers"
assert random.getstate() == state, "random numbers"
assert not sys.modules["torch"].cuda.is_initialized(), "GPU"
assert threading.active_count() == 1, "threads"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:zipasr", "-c", program],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_module_is_a_box_for_odds_and_ends() -> None:
    forbidden = {"utils", "util", "common", "misc", "helpers", "helper"}
    found = [
        path for path in FILES if path.suffix == ".py" and forbidden & {*path.parts, path.stem}
    ]
    assert found == []


def test_every_module_says_in_one_line_what_it_is() -> None:
    modules = [p for p in FILES if p.suffix == ".py" and not shown(p).startswith("tests/")]
    for path in modules:
        text = path.read_text(encoding="utf-8").removeprefix("#!/usr/bin/env python3\n")
        first = text.partition("\n")[0]
        assert first.startswith('"""'), f"{shown(path)} does not begin with its docstring"
        said = (ast.get_docstring(ast.parse(text)) or "").splitlines()
        assert said[0], shown(path)
        assert said[0].endswith((".", "!", "?")), f"{shown(path)}: {said[0]}"
        assert len(said) == 1 or said[1] == "", f"{shown(path)}: one line, then an empty one"


def test_every_package_is_a_package() -> None:
    folders = {path.parent for path in FILES if path.suffix == ".py"}
    lacking = [shown(f) for f in folders if not (f / "__init__.py").is_file()]
    # Scripts are started, not imported.
    assert sorted(set(lacking) - {".", "local", "benchmarks", "examples"}) == []


def test_packages_re_export_lazily_or_nothing() -> None:
    """Flags read names from below packages, and must not wait for torch."""
    allowed = ("from typing import TYPE_CHECKING", "from zipasr.base.lazy import lazy_names")
    for package in sorted((ROOT / "zipasr").rglob("__init__.py")):
        _docstring, *code = ast.parse(package.read_text(encoding="utf-8")).body
        if package.parent.name != "zipasr" and code:
            *imports, exported, choice = code
            assert tuple(map(ast.unparse, imports)) == allowed, shown(package)
            assert isinstance(exported, ast.Assign), shown(package)
            assert ast.unparse(exported.targets[0]) == "__all__", shown(package)
            assert isinstance(choice, ast.If), shown(package)
            assert ast.unparse(choice.test) == "TYPE_CHECKING", shown(package)


def test_the_docstring_of_a_package_names_its_modules() -> None:
    for package in sorted((ROOT / "zipasr").rglob("__init__.py")):
        said = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
        modules = {path.stem for path in package.parent.glob("*.py")} - {"__init__", "__main__"}
        folders = {path.parent.name for path in package.parent.glob("*/__init__.py")}
        if package.parent.name == "cli":  # one module per command, and what commands share
            modules = {"flags", "command_flags", "training_commands", "recognition_commands"}
            modules |= {"model_commands", "preparation_commands"}
        lacking = [name for name in sorted(modules | folders) if f"``{name}``" not in said]
        assert lacking == [], f"{shown(package)} does not name {', '.join(lacking)}"


# Settings are read before torch is needed.
SETTINGS = [path for path in SOURCES if path.name == "config.py"]
HEAVY = {"torch", "lhotse", "numba", "numpy", "matplotlib", "sentencepiece"}


def test_settings_import_nothing_heavy() -> None:
    modules = [shown(path)[: -len(".py")].replace("/", ".") for path in SETTINGS]
    program = f"import sys, {', '.join(modules)}\nprint(sorted({HEAVY} & {{*sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_file_knows_a_machine() -> None:
    # Put together here, so that this file does not contain them.
    places = ["/" + "work/", "/" + "tmp/v", "/" + "tmp/design", "/" + "root/"]
    found = []
    for path in FILES:
        if path.suffix in TEXT and not path.is_symlink():
            text = path.read_text(encoding="utf-8")
            found += [f"{shown(path)}: {place}" for place in places if place in text]
    assert found == []


@pytest.mark.skipif(os.name != "posix", reason="execute permissions are a thing of POSIX")
@pytest.mark.parametrize("name", [*ENTRIES, "local/install.sh", ".ci/run"])
def test_entries_can_be_executed_and_find_their_interpreter(name: str) -> None:
    path = ROOT / name
    assert os.access(path, os.X_OK)
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env ")
