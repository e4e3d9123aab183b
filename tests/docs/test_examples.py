"""Examples: the code blocks of pages run as they are, and the loop of examples/ learns."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from docs import __file__ as docs_file

DOCS = Path(docs_file).parent
LOOP = DOCS.parent / "examples" / "own_loop.py"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)

#: Output that the page shows, in a comment behind the call.
SHOWN = re.compile(r"^ *print\(.*\)  # (.+)$", re.M)

#: What people take in at a glance.
MAX_LINES = 14


def blocks(page: str) -> list[str]:
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


PARTS = blocks("parts.md")


@pytest.mark.parametrize("block", PARTS, ids=range(len(PARTS)))
def test_a_block_runs_by_itself_and_prints_what_it_says(
    block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(block, "parts.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == SHOWN.findall(block)


@pytest.mark.parametrize("block", PARTS, ids=range(len(PARTS)))
def test_a_block_is_short(block: str) -> None:
    assert len([line for line in block.splitlines() if line]) <= MAX_LINES


def test_every_block_of_python_can_be_read() -> None:
    """Those of other pages are run elsewhere, or need a server, a phone or a model."""
    pages = [*DOCS.parent.glob("*.md"), *DOCS.glob("*.md"), *DOCS.parent.glob("egs/**/*.md")]
    found = [(page, block) for page in pages for block in BLOCK.findall(page.read_text("utf-8"))]
    assert len(found) > 20
    for page, block in found:
        compile(textwrap.dedent(block), str(page), "exec")


def test_every_package_of_parts_has_an_example() -> None:
    used = {name for block in PARTS for name in re.findall(r"from zipasr\.?(\w*) import", block)}
    used |= {name for block in PARTS for name in re.findall(r"from zipasr import (\w+)", block)}
    assert used >= {"losses", "encoder", "optim", "model", "search"}


def test_the_page_of_the_loop_shows_the_loop() -> None:
    code, shown = LOOP.read_text(encoding="utf-8"), blocks("own_loop.md")
    assert len(shown) > 3
    for block in shown:
        assert block in code


def test_the_loop_is_short() -> None:
    lines = LOOP.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


def test_the_loop_learns_and_decodes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.own_loop"],
        cwd=LOOP.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [float(value) for value in re.findall(r"^step +\d+  loss (\S+)$", done.stdout, re.M)]
    assert len(found) == 5
    assert all(math.isfinite(value) for value in found)
    # Over seeds 0 to 5 it falls from between 39 and 65 to between 0.8 and 2.9.
    assert found[-1] < found[0] / 5
    said, heard = re.findall(r"^(?:said|heard): +(.*)$", done.stdout, re.M)
    # All letters were right with each of these seeds.
    assert len(set(said.split()) & set(heard.split())) >= 2
