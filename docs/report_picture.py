"""Take the picture of a report: its error rates, and beside them its worst utterances.

    python -m docs.report_picture exp/espeak/report.html docs/images/report.png

Needs Chromium; the packages are in tests/requirements.txt.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
WIDTH, HEIGHT = 760, 900


def screenshots(report: Path) -> tuple[Image.Image, Image.Image]:
    """Return the beginning of a report, and the beginning of its worst utterances."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.resolve().as_uri())
        top = page.screenshot()
        # The header stays at the top of the window and would cover them.
        page.add_style_tag(content="header { position: static !important }")
        page.get_by_role("heading", name="Worst utterances").first.evaluate(
            "heading => heading.scrollIntoView()"
        )
        worst = page.screenshot()
        browser.close()
    first, second = (Image.open(io.BytesIO(picture)) for picture in (top, worst))
    return first, second


def draw(report: Path, path: Path) -> None:
    """Write both side by side, with few colours, which keeps the file small."""
    picture = Image.new("RGB", (2 * WIDTH + 2, HEIGHT), "#9aa5b5")
    for index, half in enumerate(screenshots(report)):
        picture.paste(half, (index * (WIDTH + 2), 0))
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
