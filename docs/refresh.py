"""Write what the scripts print into docs/zipformer.md, between the marks for it.

python -m docs.refresh
"""

from __future__ import annotations

import re
from pathlib import Path

from docs import demonstrations, shapes

PAGE = Path(__file__).with_name("zipformer.md")

#: What the first table says it shows.
PRESET, NUM_FRAMES = "medium", 150


def block(name: str, page: str) -> re.Match[str]:
    """Find what stands between the marks of ``name``; group 1 is the text.

    Raises:
        ValueError: the page lacks the marks.
    """
    found = re.search(rf"(?<=<!-- {name}: begin -->\n)(.*?)(?=<!-- {name}: end -->)", page, re.S)
    if found is None:
        raise ValueError(f"{PAGE.name} has no marks for {name!r}: put them back")
    return found


def printed() -> dict[str, str]:
    """Return what has to stand between the marks, by their name."""
    return {
        "shapes": shapes.as_markdown(shapes.walk(PRESET, NUM_FRAMES)),
        "numbers": demonstrations.as_markdown(demonstrations.facts()),
    }


def main() -> None:
    """Rewrite the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, text in printed().items():
        place = block(name, page)
        page = f"{page[: place.start()]}\n{text.strip()}\n\n{page[place.end() :]}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
