"""The documents are easy to read: short lines, short sentences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The lab book keeps what was written when it was measured; the changelog is a list of changes.
EXEMPT = {"docs/lab-book.md", "CHANGELOG.md"}
DOCUMENTS = [
    name
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mlflow/*.md")])
    if (name := path.relative_to(ROOT).as_posix()) not in EXEMPT
]
WIDTH, WORDS = 100, 25
MAP = re.compile(r"<!-- map:.*?<!-- end of the map -->", re.DOTALL)  # written from the docstrings
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
UNBREAKABLE = re.compile(r"\s*(?:\||!\[|\[[^\]]+\]: )")  # a table's row, an image, the target of a link


def prose(text: str) -> list[str]:
    """The paragraphs: every item of a list and every heading is one of its own."""
    paragraphs = [""]
    code = False  # in a block that is indented by four
    for line in FENCED.sub("", MAP.sub("", text)).splitlines():
        code = line.startswith("    ") and not ITEM.match(line) and (code or not paragraphs[-1])
        if not line.strip() or code or UNBREAKABLE.match(line):
            paragraphs.append("")
            continue
        if ITEM.match(line) or line.startswith("#"):
            paragraphs.append("")
        paragraphs[-1] += f" {line.strip()}"
    return [one for one in paragraphs if one]


def sentences(text: str) -> list[str]:
    """The sentences of the prose; what stands in backticks is one word."""
    found = []
    for paragraph in prose(text):
        plain = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", paragraph)
        found += re.split(r"(?<=[.!?])[*_)\"']*\s+", re.sub(r"`[^`]*`", "code", plain).strip())
    return found


def length(sentence: str) -> int:
    """Words: whatever has a letter or a digit in it."""
    return len(re.findall(r"\S*\w\S*", sentence))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_a_sentence_ends_at_its_stop_and_not_at_the_end_of_a_line() -> None:
    text = (
        "# A head\n\nOne `a b c` two\nthree. Four\n\n- five. Six 0.5 of\n  seven\n\n    code code\n\n| a |\n"
    )
    assert [length(one) for one in sentences(text)] == [2, 4, 1, 1, 4]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_sentences_are_short(name: str) -> None:
    assert [one for one in sentences(read(name)) if length(one) >= WORDS] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_lines_are_short_where_they_can_be_broken(name: str) -> None:
    text = re.sub(r"^```(?:text|python).*?^```$", "", MAP.sub("", read(name)), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) >= WIDTH and not UNBREAKABLE.match(line)]
    assert [line for line in long if not line.startswith("    ")] == []
