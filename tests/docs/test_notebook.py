"""The notebook runs, compares every part, and is stored with its outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from docs import __file__ as docs_file
from docs.run_notebook import executed

BOOK = Path(docs_file).parent / "notebooks" / "zipformer_by_hand.ipynb"
PARTS = {"front end", "BiasNorm", "SwooshR", "SwooshL", "positions", "attention weights", "layer"}
PARTS |= {"self_attn1", "nonlin_attention", "feed_forward1", "conv_module1", "down by 2", "encoder"}
MAX_BYTES = 500_000


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(BOOK, as_version=4)


def printed(book: Any) -> list[str]:
    outputs = (output for cell in book.cells for output in cell.get("outputs", []))
    # The kernel sends what is printed in pieces, which end where they happen to.
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    return [line for line in text.splitlines() if line]


def compared(book: Any) -> list[str]:
    """What was compared, with its shape."""
    return [re.sub(r"(.*\)), largest difference \S+", r"\1", line) for line in printed(book)]


def pictures(book: Any) -> int:
    outputs = (output for cell in book.cells for output in cell.get("outputs", []))
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_it_runs_and_shows_what_is_stored(stored: Any) -> None:
    fresh = executed(BOOK)  # every comparison is an assertion
    assert compared(fresh) == compared(stored)
    assert pictures(fresh) == pictures(stored) == 5


def test_every_part_is_compared(stored: Any) -> None:
    assert {line.partition(":")[0] for line in printed(stored)} >= PARTS


def test_it_was_run_from_top_to_bottom(stored: Any) -> None:
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)]


def test_it_is_small_and_knows_no_machine(stored: Any) -> None:
    assert BOOK.stat().st_size < MAX_BYTES
    assert set(stored.metadata) == {"kernelspec"}
    assert [cell.metadata for cell in stored.cells if cell.metadata] == []


def test_its_links_lead_somewhere(stored: Any) -> None:
    text = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    assert len(links) >= 3
    assert [link for link in links if not (BOOK.parent / link).exists()] == []
