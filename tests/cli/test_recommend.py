from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import load_checkpoint, save_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared

Call = Callable[..., Any]


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared) -> Path:
    folder = Workspace(tmp_path / "workspace").checkpoints / "first"
    return save_checkpoint(folder, tiny_result, tiny_prepared)


def test_titles_and_scores_of_unseen_items_best_first(
    cli: Call, checkpoint: Path, tiny_prepared: Prepared
) -> None:
    answer = cli("recommend", "--user", 15, "-k", 4, "--json")
    found = json.loads(answer.out)
    expected = load_checkpoint(checkpoint).recommend("15", k=4)
    assert found["user"] == "15"
    assert found["checkpoint"] == str(checkpoint)
    assert [item["title"] for item in found["items"]] == [one.title for one in expected]
    assert [item["score"] for item in found["items"]] == [one.score for one in expected]
    rows = tiny_prepared.dataset.interactions
    seen = {str(item) for item in rows.item[rows.user == 15].tolist()}
    assert seen.isdisjoint(item["item"] for item in found["items"])


def test_the_table_lists_the_same_items_as_the_json(cli: Call, checkpoint: Path) -> None:
    items = json.loads(cli("recommend", "--user", 15, "--json").out)["items"]
    lines = [line.split() for line in cli("recommend", "--user", 15).out.splitlines()]
    rows = [words for words in lines if words and words[0].isdigit()]
    assert len(rows) == 10
    assert [words[2] for words in rows] == [item["item"] for item in items]
    assert [words[1] for words in rows] == [f"{item['score']:.4f}" for item in items]


def test_the_latest_checkpoint_is_the_default_and_another_can_be_named(
    cli: Call, checkpoint: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    second = save_checkpoint(checkpoint.parent / "second", tiny_result, tiny_prepared)
    assert json.loads(cli("recommend", "--user", 1, "--json").out)["checkpoint"] == str(second)
    named = cli("recommend", "--user", 1, "--json", "--checkpoint", checkpoint)
    assert json.loads(named.out)["checkpoint"] == str(checkpoint)


def test_an_unknown_user_is_one_line_and_exit_code_two(cli: Call, checkpoint: Path) -> None:
    answer = cli("recommend", "--user", "nobody")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: --user: ")
    assert "no such user" in answer.err
    assert "(found 'nobody')" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_damaged_checkpoint_is_one_line_and_exit_code_two(cli: Call, checkpoint: Path) -> None:
    (weights,) = checkpoint.glob("*/weights.safetensors")
    weights.write_bytes(b"not weights")
    answer = cli("recommend", "--user", 1)
    assert (answer.code, answer.out) == (2, "")
    assert "damaged" in answer.err


def everyone(checkpoint: Path, k: int) -> list[tuple[object, ...]]:
    """What the checkpoint recommends to all users, as rows of a table."""
    loaded = load_checkpoint(checkpoint)
    return [
        (user, one.rank, one.item, one.title, one.score)
        for user in loaded.user_ids
        for one in loaded.recommend(user, k)
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_several_users_are_answered_in_their_order(
    cli: Call, checkpoint: Path, tmp_path: Path, end: bytes
) -> None:
    users = tmp_path / "users.txt"
    users.write_bytes(b"\xef\xbb\xbf15" + end + end + b"3")
    by_option = cli("recommend", "--user", 15, "--user", 3, "-k", 2, "--json")
    by_file = cli("recommend", "--users", users, "-k", 2, "--json")
    assert by_option == by_file
    found = json.loads(by_file.out)
    assert found["checkpoint"] == str(checkpoint)
    for user, one in zip(("15", "3"), found["users"], strict=True):
        alone = json.loads(cli("recommend", "--user", user, "-k", 2, "--json").out)
        assert alone == {**one, "checkpoint": str(checkpoint)}
        assert one["user"] == user
    table = [line.split() for line in cli("recommend", "--users", users, "-k", 2).out.splitlines()]
    expected = [(one["user"], item["item"]) for one in found["users"] for item in one["items"]]
    assert [(words[0], words[3]) for words in table if words and words[0].isdigit()] == expected


def test_users_come_from_standard_input(cli: Call, checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "painvrl.cli", "recommend", "--users", "-", "--json"],
        input="15\n3\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == cli("recommend", "--user", 15, "--user", 3, "--json").out


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_table_of_all_users_holds_what_the_checkpoint_recommends(
    cli: Call, checkpoint: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "new" / f"all.{suffix}"
    answer = cli("recommend", "--all", "-k", 3, "--output", path)
    assert (answer.code, answer.out, answer.err) == (
        0,
        f"items of 60 users: {path}\n",
        f"by the model {checkpoint}\n",
    )
    texts = {"user": str, "item": str}
    frame = pd.read_parquet(path) if suffix == "parquet" else pd.read_csv(path, dtype=texts)
    assert list(frame.columns) == ["user", "rank", "item", "title", "score"]
    assert list(frame.itertuples(index=False, name=None)) == everyone(checkpoint, 3)
    said = cli("recommend", "--all", "-k", 3, "--output", path, "--json").out
    assert json.loads(said) == {"checkpoint": str(checkpoint), "users": 60, "output": str(path)}


@pytest.mark.parametrize("title", ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", "a\u2028b"])
def test_a_title_that_would_end_a_line_of_a_table_comes_back_whole(
    cli: Call, checkpoint: Path, tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared, title: str
) -> None:
    titles = tuple(title for _ in tiny_prepared.dataset.titles)
    dataset = replace(tiny_prepared.dataset, titles=titles)
    save_checkpoint(checkpoint, tiny_result, replace(tiny_prepared, dataset=dataset))
    cli("recommend", "--all", "-k", 2, "--output", tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert [row[3] for row in rows[1:]] == [title] * 120
    assert {len(row) for row in rows} == {5}


def test_all_users_are_those_who_have_scores(
    cli: Call, checkpoint: Path, tiny_result: RunResult, tiny_prepared: Prepared
) -> None:
    users = tiny_result.parts.users.clone()
    users[4] = 0
    result = replace(tiny_result, parts=replace(tiny_result.parts, users=users))
    save_checkpoint(checkpoint, result, tiny_prepared)
    answer = cli("recommend", "--all", "-k", 1, "--json")
    assert answer.err.startswith("left out: 1 user whom the model was not trained on\n")
    found = [one["user"] for one in json.loads(answer.out)["users"]]
    assert found == [str(user) for user in range(60) if user != 4]


def test_a_mistake_in_a_file_of_users_names_its_line(cli: Call, checkpoint: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    for content, message in (
        (b"15\n\nnobody\n", f"error: {users}: line 3: {checkpoint} knows no such user"),
        (b"\n", f"error: {users}: holds no user\n"),
        (b"\xff\n", f"error: {users}: is not UTF-8\n"),
    ):
        users.write_bytes(content)
        answer = cli("recommend", "--users", users, "--output", tmp_path / "x.csv")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith(message)
    users.unlink()
    assert cli("recommend", "--users", users).err == f"error: {users}: no such file\n"
    assert not (tmp_path / "x.csv").exists()


def test_users_are_named_in_one_way_and_tables_have_a_known_format(cli: Call, checkpoint: Path) -> None:
    for arguments in ([], ["--user", 1, "--all"], ["--users", "x", "--all"]):
        answer = cli("recommend", *arguments)
        assert answer.code == 2
        assert "name the users by one of --user, --users and --all" in answer.err
    answer = cli("recommend", "--all", "--output", "all.json")
    assert answer.err == "error: --output: must end in .parquet or .csv (found 'all.json')\n"


def test_explained_scores_have_their_parts_in_every_form(cli: Call, checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    found = json.loads(cli("recommend", "--user", 15, "--explain", "--json").out)
    plain = json.loads(cli("recommend", "--user", 15, "--json").out)
    assert found.pop("notes") == []
    for item, bare in zip(found["items"], plain["items"], strict=True):
        parts = item.pop("parts")
        assert parts == loaded.explain("15", item["item"])
        assert sum(parts.values()) == pytest.approx(item["score"], abs=1e-6)
        assert item == bare
    header, *lines = (
        line.split() for line in cli("recommend", "--user", 15, "--explain").out.splitlines() if line.split()
    )
    assert header == ["rank", "score", *loaded.parts, "item", "title"]
    (first,) = (words for words in lines if words[0] == "1")
    parts = loaded.explain("15", plain["items"][0]["item"])
    assert [float(word) for word in first[2:5]] == pytest.approx(list(parts.values()), abs=5e-5)
    cli("recommend", "--all", "-k", 1, "--explain", "--output", tmp_path / "all.csv")
    assert list(pd.read_csv(tmp_path / "all.csv").columns)[4:] == ["score", *loaded.parts]


def test_a_part_that_is_not_divided_is_said_to_be_so(
    cli: Call, checkpoint: Path, tiny_config: TrainConfig, tiny_prepared: Prepared, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(tiny_config.model_dump() | {"fusion": {"kind": "sum"}})
    save_checkpoint(checkpoint, run(config, tiny_prepared), tiny_prepared)
    table = tmp_path / "x.csv"
    for arguments in ([], ["--json"], ["--output", table], ["--output", table, "--json"]):
        explained = cli("recommend", "--user", 15, "--explain", *arguments)
        assert "the part `content` is not divided into invariant and variant" in explained.out
        assert "not divided" not in cli("recommend", "--user", 15, *arguments).out


def test_it_says_whose_items_they_are_and_why_a_user_may_be_missing(cli: Call, checkpoint: Path) -> None:
    assert cli("recommend", "--user", 15).err == f"by the model {checkpoint}\n"
    assert cli("recommend", "--user", "K075").err.endswith(
        "; filters of the data, such as data.core, may have removed others (found 'K075')\n"
    )
