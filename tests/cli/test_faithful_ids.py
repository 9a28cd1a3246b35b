"""Ids and titles as they stand in the files, from the file to what the command line prints."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Call = Callable[..., Any]
WORDS = (
    "00003",
    "3",
    "1.10",
    "1E1",
    "NA",
    "None",
    "inf",
    "1_0",
    "1234567890123456789",
    'b"u1"',
    " a",
    "a",
    "é",
)
TEXTS = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
KEPT = TEXTS.filter(lambda text: not text.startswith(("\ufeff", "-")))


def write(folder: Path, users: list[str], items: list[str], titles: list[str]) -> Path:
    """Everybody takes all items but one, and a configuration that trains on it in a moment."""
    tables: dict[str, list[tuple[object, ...]]] = {
        "x.csv": [("user", "item")],
        "i.csv": [("id", "title", "kind")],
    }
    for place, user in enumerate(users):
        tables["x.csv"] += [(user, item) for at, item in enumerate(items) if at % len(users) != place]
    tables["i.csv"] += [
        (item, title, "ab"[at % 2]) for at, (item, title) in enumerate(zip(items, titles, strict=True))
    ]
    for name, rows in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows(rows)
    config = {
        "data": {
            "kind": "table",
            "path": str(folder / "x.csv"),
            "core": 1,
            "item_table": {
                "path": str(folder / "i.csv"),
                "key": "id",
                "title": "title",
                "categories": "kind",
            },
        },
        "split": {"protocol": "popularity"},
        "preset": "ultragcn",
        "backbone": {"id_dim": 2, "content_dim": 2},
        "training": {"max_epochs": 1},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder / "config.yaml"


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    users=st.lists(KEPT, min_size=8, max_size=8, unique=True),
    items=st.lists(KEPT, min_size=10, max_size=10, unique=True),
    titles=st.lists(TEXTS, min_size=10, max_size=10),
)
def test_recommend_knows_every_user_and_prints_every_item_as_it_stands(
    cli: Call, users, items, titles
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = folder / "workspace"
        trained = cli("train", write(folder, users, items, titles), "--workspace", workspace)
        assert trained.code == 0, trained.err
        title_of = dict(zip(items, titles, strict=True))
        for place, user in enumerate(users):
            answer = cli("recommend", "--user", user, "--json", "--workspace", workspace)
            assert answer.code == 0, answer.err
            found = json.loads(answer.out)
            assert found["user"] == user
            expected = {item for at, item in enumerate(items) if at % len(users) == place}
            assert {one["item"] for one in found["items"]} <= expected
            assert all(one["title"] == title_of[one["item"]] for one in found["items"])


@pytest.mark.slow
def test_a_train_report_says_in_json_what_was_joined_and_what_was_taken(cli: Call, tmp_path: Path) -> None:
    config = write(tmp_path, [f"u{at}" for at in range(8)], [f"0{at}" for at in range(10)], ["t"] * 10)
    with (tmp_path / "x.csv").open("a") as stream:
        stream.write("u0,05\nu0,05\n")
    answer = cli("train", config, "--json")
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    provenance = report["split"]["provenance"]
    assert provenance["removals"][0]["name"] == "data.duplicates"
    assert provenance["removals"][0]["interactions"] == 2
    assert {join["name"]: join["matched"] for join in provenance["joins"]} == {
        "categories": 10,
        "item table": 10,
        "titles": 10,
    }
    assert report["metrics"].keys() >= {"iid/ndcg_at_20", "ood/ndcg_at_20"}


@pytest.mark.slow
def test_what_looks_wrong_is_said_on_the_terminal_also_where_it_is_quiet(cli: Call, tmp_path: Path) -> None:
    config = write(tmp_path, [f"u{at}" for at in range(8)], [f"0{at}" for at in range(10)], ["t"] * 10)
    rows = (tmp_path / "i.csv").read_text().splitlines()
    (tmp_path / "i.csv").write_text("\n".join(rows[:-1]) + "\n")
    answer = cli("train", config, "--json")
    assert "warning: data.item_table: item table describes 9 of 10 items" in answer.err
    text = cli("train", config)
    assert "warning: data.item_table: item table describes 9 of 10 items" in text.err
    assert "9 of 10 items" in text.out
