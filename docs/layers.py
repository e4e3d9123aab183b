"""Draw the packages of the library in their layers, with the imports between them.

Layers are read from the contract in pyproject.toml, imports from the source.

    python -m docs.layers docs/images/layers.png
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, GAP = 1.9, 0.62, 0.5
Edges = set[tuple[str, str]]


def layers() -> list[list[str]]:
    """Return the packages of each layer, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    rows = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in rows]


def imports() -> Edges:
    """Return which package imports which, for types alone included."""
    found: Edges = set()
    for path in sorted((ROOT / "zipasr").rglob("*.py")):
        package = path.relative_to(ROOT / "zipasr").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zipasr."):
                target = str(node.module).split(".")[1]
                if target != package and not package.endswith(".py"):
                    found.add((package, target))
    return found


def sizes() -> dict[str, tuple[int, int]]:
    """Return the number of modules and of lines of each package."""
    found = {}
    for name in (name for row in layers() for name in row):
        files = sorted((ROOT / "zipasr" / name).rglob("*.py"))
        found[name] = (len(files), sum(len(f.read_text().splitlines()) for f in files))
    return found


def needed(edges: Edges) -> list[tuple[str, str]]:
    """Return the edges that no path of other edges implies."""
    below: dict[str, set[str]] = {}
    for source, target in edges:
        below.setdefault(source, set()).add(target)

    def reach(name: str) -> set[str]:
        return below.get(name, set()).union(*(reach(other) for other in below.get(name, set())))

    return [
        (source, target)
        for source, target in edges
        if not any(target in reach(other) for other in below[source] - {target})
    ]


def draw(path: Path) -> None:
    """Write the picture; the edges are kept in its metadata for the test."""
    rows, edges, lines = layers(), imports(), sizes()
    figure, axes = pyplot.subplots(figsize=(9.5, 1.12 * len(rows)))
    widest = max(map(len, rows)) * (WIDTH + GAP)
    places: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(reversed(rows)):
        space = widest / len(row)
        for column, name in enumerate(row):
            places[name] = ((column + 0.5) * space, level * (HEIGHT + 0.75))
    for source, target in needed(edges):
        (x0, y0), (x1, y1) = places[source], places[target]
        start, end = (x0, y0 - HEIGHT / 2), (x1, y1 + HEIGHT / 2)
        axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-|>", mutation_scale=9, color="#8a97a8", lw=0.9, shrinkB=1
            )
        )
    for name, (x, y) in places.items():
        box = FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            facecolor="#eef3fa",
            edgecolor="#3b5b82",
        )
        axes.add_patch(box)
        modules, count = lines[name]
        axes.text(x, y + 0.1, name, ha="center", va="center", fontsize=11, weight="bold")
        text = f"{modules} modules, {count / 1000:.1f} k lines"
        axes.text(x, y - 0.16, text, ha="center", va="center", fontsize=6.5, color="#50607a")
    axes.set_xlim(0, widest)
    axes.set_ylim(-HEIGHT, (len(rows) - 1) * (HEIGHT + 0.75) + HEIGHT)
    axes.axis("off")
    figure.savefig(path, dpi=100, bbox_inches="tight", metadata={"Description": described(edges)})
    pyplot.close(figure)


def described(edges: Edges) -> str:
    """Return the arrows as text, as the picture's metadata hold them."""
    return json.dumps(sorted(map(list, needed(edges))))


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
