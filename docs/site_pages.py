"""Hook of mkdocs: pages that lie outside docs, and links that lead out of it.

The README, those of the recipes and the like stay where readers of the repository look for them;
the site has them as pages of its own. The notebook becomes a page with its outputs, the flags of
all commands a page of tables. A link to a file that is no page leads to the repository.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

#: File of the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "egs/README.md": "recipes/index.md",
    "egs/digits/README.md": "recipes/digits.md",
    "egs/espeak/README.md": "recipes/espeak.md",
    "egs/espeak/RESULTS.md": "recipes/espeak_results.md",
    "egs/gigaspeech/README.md": "recipes/gigaspeech.md",
    "egs/librispeech/README.md": "recipes/librispeech.md",
}
#: Pictures that these pages show.
PICTURES = {"egs/espeak/curves.png": "recipes/curves.png"}
NOTEBOOK = "docs/notebooks/zipformer_by_hand.ipynb"
NOTEBOOK_PAGE = "notebooks/zipformer_by_hand.md"
FLAGS_PAGE = "flags.md"

_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs does not hold as files of Markdown."""
    for source, page in {**PAGES, **PICTURES}.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    text, pictures = notebook_page(ROOT / NOTEBOOK)
    files.append(File.generated(config, NOTEBOOK_PAGE, content=text))
    for name, picture in pictures.items():
        files.append(File.generated(config, f"notebooks/{name}", content=picture))
    files.append(File.generated(config, FLAGS_PAGE, content=flags_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the links of a page as the site needs them."""
    sources = {target: source for source, target in PAGES.items()} | {NOTEBOOK_PAGE: NOTEBOOK}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")
    found = {file.src_uri for file in files if file.inclusion is not InclusionLevel.EXCLUDED}
    return with_links(markdown, source, here, found, str(config.extra["repository"]))


def with_links(markdown: str, source: str, page: str, pages: set[str], repository: str) -> str:
    """Return a text with its links changed, code blocks apart.

    Args:
        markdown: the text.
        source: its file in the repository.
        page: its file in the site.
        pages: files of the site.
        repository: its address, where files are that the site does not have.
    """

    def link(found: re.Match[str]) -> str:
        target = found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        of_site = {**PAGES, **PICTURES, NOTEBOOK: NOTEBOOK_PAGE}.get(path)
        of_site = of_site or path.removeprefix("docs/")
        if of_site in pages:
            address = posixpath.relpath(of_site, posixpath.dirname(page) or ".")
        else:
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            address = f"{repository}/{kind}/main/{path}"
        return f"{found[1]}{address}{'#' + anchor if anchor else ''}{found[3]}"

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(link, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(link, markdown[end:])])


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, outputs included, and its pictures by name."""
    import nbformat
    from nbconvert import MarkdownExporter

    book = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    # Blocks are coloured as Python; the notebook does not say its language.
    book.metadata["language_info"] = {"name": "python"}
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    exported: tuple[str, dict[str, Any]] = exporter.from_notebook_node(book)
    text, resources = exported
    return text, resources["outputs"]


def flags_page() -> str:
    """Return tables of the flags of all commands, a section for each command."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from docs.flag_tables import all_flags_page

    return all_flags_page()
