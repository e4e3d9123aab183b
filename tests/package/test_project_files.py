"""Files for people who pick the project up: versions, links, workflow, templates, commit hooks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zipasr
from tests.tones import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_one_version_everywhere() -> None:
    assert CITATION["version"] == zipasr.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == zipasr.__version__


def test_the_citation_has_what_the_format_asks_for() -> None:
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["license"] == "Apache-2.0"
    assert all(
        {"type", "title", "authors", "year"} <= paper.keys() for paper in CITATION["references"]
    )


def test_the_workflow_runs_what_the_readme_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.13"]
    installs, tests = [step["run"] for step in job["steps"] if "run" in step]
    assert tests == "tests/run.sh"
    # As tests/run.sh does, which then finds it done.
    script = (ROOT / "tests/run.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = (line for line in script.splitlines() if line.startswith("local/install.sh"))
    assert installs.split() == line.split()
    assert " ".join(line.split()) in _one_line(ROOT / "CONTRIBUTING.md")


def test_a_workflow_tries_the_oldest_and_the_newest_versions_every_week() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/versions.yml").read_text(encoding="utf-8"))
    assert workflow[True].keys() == {"schedule", "workflow_dispatch"}  # YAML reads "on" so
    rows = workflow["jobs"]["versions"]["strategy"]["matrix"]["include"]
    script = (ROOT / "tests/versions.sh").read_text(encoding="utf-8")
    for row in rows:
        assert f"{row['versions'].upper()}_PYTHON:-python{row['python']}" in script
    assert [row["versions"] for row in rows] == ["oldest", "newest"]


def _one_line(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


def test_templates_ask_for_what_helps() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in TEMPLATES}
    assert texts.keys() == {"bug", "config", "feature", "training"}
    for name in ("bug", "training"):
        assert "run.json" in texts[name]
        assert "EXP_DIR/log" in texts[name]
    for name in texts.keys() - {"config"}:
        form = yaml.safe_load(texts[name])
        assert {"name", "description", "body"} <= form.keys()
        ids = [part["id"] for part in form["body"]]
        assert len({*ids}) == len(ids)


def test_the_guide_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:zipasr|tests|egs|docs)/[\w./]+)`", text))
    files = {name for name in named if "NAME" not in name}
    assert len(files) > 12
    assert sorted(name for name in files if not (ROOT / name).exists()) == []
    for module, name in re.findall(r"`(zipasr(?:\.\w+)+)\.(\w+)`", text):
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_hooks_find_nothing_on_all_files(tmp_path: Path) -> None:
    pytest.importorskip("pre_commit", reason="tests/requirements.txt is not installed")
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git checkout")
    # The tools are those of the environment of the tests; ruff, mypy and lint-imports have run
    # before the tests or are tests themselves, so they are not waited for twice.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"],
        cwd=ROOT,
        env=os.environ
        | {"PATH": path, "PRE_COMMIT_HOME": str(tmp_path), "SKIP": "format,types,layers"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == 6
