from __future__ import annotations

import pytest

from painvrl.core.tables import TextTable, markdown_page, number

TABLE = TextTable(columns=["part", "n"], rows=[["train", "1"], ["x", "23"]])
CAPTIONED = TextTable(columns=["part", "n"], rows=[], caption="counts")


def test_as_text_its_columns_are_aligned() -> None:
    assert TABLE.to_text() == "part   n\ntrain  1\nx      23\n"
    assert TextTable(columns=[], rows=[]).to_text() == "\n"


def test_as_markdown_numbers_are_to_the_right_and_the_caption_is_a_sentence() -> None:
    assert TABLE.to_markdown() == "| part | n |\n| --- | ---: |\n| train | 1 |\n| x | 23 |\n"
    assert CAPTIONED.to_markdown() == "counts.\n\n| part | n |\n| --- | ---: |\n"


def test_a_page_has_its_blocks_an_empty_line_apart() -> None:
    page = markdown_page("Parts", [CAPTIONED, TABLE], ["one", "two"])
    assert page == f"# Parts\n\n{CAPTIONED.to_markdown()}\n{TABLE.to_markdown()}\n- one\n- two\n"
    assert markdown_page("Parts", [TABLE], []) == f"# Parts\n\n{TABLE.to_markdown()}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345678, "0.1235"),
        (0.0, "0.0000"),
        (0.00012345, "0.000123"),
        (940.4321, "940"),
        (-0.5, "-0.5000"),
        (3, "3"),
        (True, "True"),
        ("branch", "branch"),
    ],
)
def test_numbers_are_short_and_keep_their_size(value: object, shown: str) -> None:
    assert number(value) == shown
