"""What is in the wheel: packages, recipes, templates, licence, metadata."""

from __future__ import annotations

import email
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import zipasr
from tests.tones import ROOT

EXTRAS = {
    "export": ["export-requirements.txt"],
    "lm": [],
    "dask": ["dask-requirements.txt"],
    "espeak": ["egs/espeak/requirements.txt"],
    "vad": ["vad-requirements.txt"],
    "gigaspeech": ["egs/gigaspeech/requirements.txt"],
    "dev": ["tests/requirements.txt", "export-requirements.txt", "dask-requirements.txt"],
}


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return set(file.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (one for one in file.namelist() if one.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(file.read(name))


def asked(files: list[str]) -> set[str]:
    lines = (line.split("#")[0].strip() for name in files for line in _lines(name))
    return {str(Requirement(line)) for line in lines if line}


def _lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def test_every_module_and_template_of_the_package_is_in_it(names: set[str]) -> None:
    files = [path for path in (ROOT / "zipasr").rglob("*") if path.is_file()]
    kept = [path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts]
    assert [name for name in kept if name not in names] == []
    assert "zipasr/py.typed" in names
    assert "zipasr/scoring/page/report.html" in names


def test_the_recipes_are_in_it_with_all_that_they_read(names: set[str], wheel: Path) -> None:
    patterns = ("*.toml", "requirements.txt", "reference*.jsonl")
    files = [path for pattern in patterns for path in (ROOT / "egs").rglob(pattern)]
    assert len(files) > 6
    with zipfile.ZipFile(wheel) as file:
        for path in files:
            name = f"zipasr/recipes/{path.relative_to(ROOT / 'egs').as_posix()}"
            assert name in names
            assert file.read(name) == path.read_bytes()


def test_nothing_else_is_in_it(names: set[str], wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"zipasr", f"zipasr-{zipasr.__version__}.dist-info"}
    assert wheel.name == f"zipasr-{zipasr.__version__}-py3-none-any.whl"
    assert not [name for name in names if name.endswith((".sh", ".png", ".pyc"))]


def test_the_licence_is_in_it(names: set[str], metadata: Message) -> None:
    folder = f"zipasr-{zipasr.__version__}.dist-info/licenses"
    assert {f"{folder}/LICENSE", f"{folder}/NOTICE"} <= names
    assert metadata["License-Expression"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("zipasr", zipasr.__version__)
    assert metadata["Author"] == "zipasr contributors"
    assert metadata["Requires-Python"] == ">=3.10"
    urls = dict(str(line).split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls["Homepage"] == "https://github.com/zipasr/zipasr"
    classifiers = metadata.get_all("Classifier", [])
    assert "Typing :: Typed" in classifiers
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)} <= {
        *classifiers
    }
    assert "transducer" in metadata["Keywords"]


def test_extras_are_the_requirement_files(metadata: Message) -> None:
    assert metadata.get_all("Provides-Extra") == list(EXTRAS)
    found = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    plain = {str(one) for one in found if "extra" not in str(one.marker)}
    assert plain == asked(["requirements.txt"])
    for extra, files in EXTRAS.items():
        of_extra = [one for one in found if f'extra == "{extra}"' in str(one.marker)]
        assert {f"{one.name}{one.specifier}" for one in of_extra} == asked(files), extra
