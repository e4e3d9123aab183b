"""Write what scripts print into the pages that show it, between the marks for it.

python -m docs.refresh
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from docs import demonstrations, flag_tables, scaling, shapes

PAGE = Path(__file__).with_name("zipformer.md")
FLAGS_PAGE = Path(__file__).with_name("coming_from_icefall.md")
SCALING_PAGE = Path(__file__).with_name("scaling.md")

#: What the first table says it shows.
PRESET, NUM_FRAMES = "medium", 150


def block(name: str, page: str) -> re.Match[str]:
    """Find what stands between the marks of ``name``; group 1 is the text.

    Raises:
        ValueError: the page lacks the marks.
    """
    found = re.search(rf"(?<=<!-- {name}: begin -->\n)(.*?)(?=<!-- {name}: end -->)", page, re.S)
    if found is None:
        raise ValueError(f"the page has no marks for {name!r}: put them back")
    return found


def printed() -> dict[str, str]:
    """Return what has to stand between the marks, by their name."""
    return {
        "shapes": shapes.as_markdown(shapes.walk(PRESET, NUM_FRAMES)),
        "numbers": demonstrations.as_markdown(demonstrations.facts()),
    }


def flags() -> dict[str, str]:
    """Return the tables of the page about icefall's flags, by the names of their marks."""
    return {
        "flags": flag_tables.icefall_flags(),
        "names": flag_tables.other_names(),
        "refused": flag_tables.refused_flags(),
        "without effect": flag_tables.flags_without_effect(),
    }


def with_blocks(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with texts between its marks."""
    for name, text in texts.items():
        place = block(name, page)
        page = f"{page[: place.start()]}\n{text.strip()}\n\n{page[place.end() :]}"
    return page


def main() -> None:
    """Rewrite the pages."""
    pages = ((PAGE, printed()), (FLAGS_PAGE, flags()), (SCALING_PAGE, scaling.printed()))
    for path, texts in pages:
        page = path.read_text(encoding="utf-8")
        path.write_text(with_blocks(page, texts), encoding="utf-8")


if __name__ == "__main__":
    main()
