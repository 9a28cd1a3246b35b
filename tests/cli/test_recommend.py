from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import load_checkpoint, save_checkpoint
from painvrl.run.pipeline import RunResult
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
    assert "no such user" in answer.err
    assert "(found 'no one')" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_damaged_checkpoint_is_one_line_and_exit_code_two(cli: Call, checkpoint: Path) -> None:
    (checkpoint / "weights.safetensors").write_bytes(b"not weights")
    answer = cli("recommend", "--user", 1)
    assert (answer.code, answer.out) == (2, "")
    assert "damaged" in answer.err
