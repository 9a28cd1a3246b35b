from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import parse_yaml
from painvrl.data.proposal import Proposal
from painvrl.data.proposal.entries import Entry, plain
from painvrl.study.file.proposed import name_of, study_file, write_study
from painvrl.study.file.spec import load_spec

ODD = "a: b # c\n'\"{}*\u2028é"


def proposal(column: str = "user") -> Proposal:
    """Of a table whose user column has that name."""
    return Proposal(
        name="shop",
        data=(
            Entry(key="kind", value="table"),
            Entry(key="path", value="log.csv"),
            Entry(key="user", value=column, why=f"{column}\nno key: here"),
            Entry(key="item_table", value=(Entry(key="path", value="i.csv"), *ITEM_TABLE)),
        ),
        split=(Entry(key="protocol", value="popularity", why="why not"),),
    )


ITEM_TABLE = (Entry(key="key", value="id"), Entry(key="text", value=[ODD, "name"], why="two"))


@pytest.mark.parametrize("column", ["user", ODD, "1", "on", "", "x" * 300, "null", "- a"])
def test_every_name_of_a_column_comes_back_as_it_is(tmp_path: Path, column: str) -> None:
    path = tmp_path / "shop.yaml"
    write_study(study_file(proposal(column), name="shop", path=path), path)
    data = load_spec(path).config.data.model_dump(mode="json")
    assert (data["user"], data["item_table"]["text"]) == (column, [ODD, "name"])
    assert parse_yaml(path.read_text(encoding="utf-8"))["config"]["data"] == plain(proposal(column).data)  # type: ignore[index]


def test_what_is_searched_and_measured_is_what_the_shipped_study_has(
    repository: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shop.yaml"
    write_study(study_file(proposal(), name="shop", path=path), path)
    own, shipped = load_spec(path), load_spec(repository / "studies" / "movielens.yaml")
    for name in ("objectives", "space", "presets", "points", "constraints", "pruning", "sweep"):
        assert getattr(own, name) == getattr(shipped, name), name
    kept = {"data", "split"}
    assert own.config.model_dump(exclude=kept) == shipped.config.model_dump(exclude=kept)
    assert own.study.trials == shipped.study.trials


def test_the_first_line_names_a_schema_that_is_written_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "shop.yaml"
    schema = tmp_path / "new" / "schema.json"
    text = study_file(proposal(), name="shop", path=path)
    assert text.splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    assert write_study(text, path) == [path, schema]
    schema.write_text("mine")
    assert write_study(text, path, force=True) == [path]
    assert schema.read_text() == "mine"


def test_a_file_that_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already; --force overwrites it"):
        write_study("other", path)
    assert path.read_text() == "mine"
    write_study("other", path, force=True)
    assert path.read_text() == "other"


@pytest.mark.parametrize(
    ("text", "name"),
    [("shop", "shop"), ("Über uns/2", "ber-uns-2"), ("...", "own-data"), ("a" * 200, "a" * 100)],
)
def test_any_text_becomes_the_name_of_a_study(text: str, name: str) -> None:
    assert name_of(text) == name
