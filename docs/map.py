"""Writes the map of modules into architecture.md: a line a module, the first sentence of its docstring.

``make map`` runs it; a test fails where the map is not what this would write.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map: written by docs/map.py -->", "<!-- end of the map -->"
FIRST = (
    *("core", "data", "model", "evaluation", "stats", "invariance"),
    *("run", "engine", "study", "baselines", "serving", "api", "cli"),
)
"""From what stands on nothing to what stands on everything."""


def sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".")


def lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """A folder's own sentence, then its modules, then its folders."""
    indent = "  " * depth
    yield f"{indent}- `{folder.name}/`: {sentence(folder / '__init__.py')}"
    for path in sorted(folder.glob("*.py")):
        if path.stem not in {"__init__", "__main__"}:
            yield f"{indent}  - `{path.name}`: {sentence(path)}"
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from lines(inner, depth + 1)


def written(page: str) -> str:
    """The page with its map as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    found = [line for name in FIRST for line in lines(ROOT / "painvrl" / name)]
    return "\n".join([before + BEGIN, "", *found, "", END + after])


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
