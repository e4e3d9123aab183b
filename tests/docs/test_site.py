"""The documents as a site: it builds without a warning, whole, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tones import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
from docs import site_pages

#: Whatever asks for an address while the site is built is refused it.
NO_NETWORK = """
import runpy, socket, sys
def refuse(*_, **__): raise AssertionError("the build asked for a network address")
socket.getaddrinfo = refuse
sys.argv = ["mkdocs", "build", "--strict", "--site-dir", sys.argv[1]]
runpy.run_module("mkdocs", run_name="__main__")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Resources(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "audio", "source"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.found.append(given.get("href") or "")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        # The theme's script asks GitHub for the stars of the repository of such an element.
        assert 'data-md-component="source"' not in page.read_text(encoding="utf-8"), page
        for resource in Resources(page.read_text(encoding="utf-8")).found:
            assert "//" not in resource or resource.startswith("data:"), f"{page}: {resource}"
            is_here = not resource or resource.startswith(("data:", "/"))
            assert is_here or (page.parent / resource.split("?")[0]).exists(), resource


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    for path in (ROOT / "docs").glob("*.md"):
        assert (site / path.stem / "index.html").is_file(), path.name
    for page in site_pages.PAGES.values():
        folder = page.removesuffix(".md").removesuffix("index")
        assert (site / folder / "index.html").is_file(), page
    assert not list(site.rglob("*.py"))


def test_the_api_page_has_every_public_name(site: Path) -> None:
    import zipasr

    page = (site / "python_api" / "index.html").read_text(encoding="utf-8")
    headings = set(re.findall(r'<h[2-4] id="(zipasr[\w.]*)"', page))
    known = {name.rsplit(".", 1)[-1] for name in headings}
    assert known >= {*zipasr.__all__} - {"__version__"}
    assert {"transcribe", "stream", "align"} <= known


def test_the_notebook_is_a_page_with_its_outputs(site: Path) -> None:
    page = (site / "notebooks" / "zipformer_by_hand" / "index.html").read_text(encoding="utf-8")
    assert "largest difference" in page
    assert "<img" in page


def test_the_page_of_flags_has_those_of_every_command(site: Path) -> None:
    from zipasr.cli.command_flags import COMMANDS
    from zipasr.cli.flags import all_flags

    page = (site / "flags" / "index.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        for one in all_flags(command):
            assert f"<code>{one.name} " in page, one.name


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("decoding.md#which-search", "decoding.md#which-search"),
        ("../egs/librispeech/README.md", "recipes/librispeech.md"),
        ("../CONTRIBUTING.md", "contributing.md"),
        ("notebooks/zipformer_by_hand.ipynb", "notebooks/zipformer_by_hand.md"),
        ("../zipasr/nn/whiten.py", "https://example.org/blob/main/zipasr/nn/whiten.py"),
        ("../egs", "https://example.org/tree/main/egs"),
        ("https://arxiv.org", "https://arxiv.org"),
        ("#below", "#below"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(link: str, becomes: str) -> None:
    pages = {"decoding.md", site_pages.NOTEBOOK_PAGE, *site_pages.PAGES.values()}
    text = f"see [it]({link})\n```\n[not]({link})\n```\n"
    found = site_pages.with_links(text, "docs/a.md", "a.md", pages, "https://example.org")
    assert found == f"see [it]({becomes})\n```\n[not]({link})\n```\n"


def test_links_of_pages_elsewhere_count_from_where_the_file_is() -> None:
    pages = {"deploy.md", *site_pages.PAGES.values()}
    found = site_pages.with_links(
        "[a](../../docs/deploy.md) [b](RESULTS.md)",
        "egs/espeak/README.md",
        "recipes/espeak.md",
        pages,
        "https://example.org",
    )
    assert found == "[a](../deploy.md) [b](espeak_results.md)"
