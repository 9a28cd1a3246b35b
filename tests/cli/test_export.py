from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import save_checkpoint
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared

Call = Callable[..., Any]


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_result: RunResult, tiny_prepared: Prepared) -> Path:
    """A model that two users have no vector in."""
    users = tiny_result.parts.users.clone()
    users[[4, 9]] = 0
    result = replace(tiny_result, parts=replace(tiny_result.parts, users=users))
    return save_checkpoint(Workspace(tmp_path / "workspace").checkpoints / "first", result, tiny_prepared)


def test_the_latest_checkpoint_is_exported_and_users_without_scores_are_counted(
    cli: Call, checkpoint: Path, tmp_path: Path
) -> None:
    answer = cli("export", "--output", tmp_path / "v.parquet")
    assert (answer.code, answer.err) == (0, "")
    files = [tmp_path / "v.users.parquet", tmp_path / "v.items.parquet"]
    assert answer.out.splitlines() == [
        f"vectors of 60 users and 80 items, 12 columns: {files[0]}, {files[1]}",
        "2 users have a zero vector: the model was not trained on them",
    ]
    assert all(file.is_file() for file in files)


def test_a_named_checkpoint_is_exported_in_the_format_of_the_suffix(
    cli: Call, checkpoint: Path, tmp_path: Path
) -> None:
    named = checkpoint.rename(tmp_path / "elsewhere")
    for suffix, begins in ((".npz", b"PK"), (".safetensors", b"")):
        file = tmp_path / f"v{suffix}"
        found = json.loads(cli("export", named, "--output", file, "--json").out)
        assert found == {
            "checkpoint": str(named),
            "files": [str(file)],
            "users": 60,
            "items": 80,
            "width": 12,
            "untrained": 2,
        }
        assert file.read_bytes().startswith(begins)


def test_what_cannot_be_written_is_one_line_and_exit_code_two(
    cli: Call, checkpoint: Path, tmp_path: Path
) -> None:
    answer = cli("export", "--output", "v.csv")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == ("error: --output: must end in .parquet or .npz or .safetensors (found 'v.csv')\n")
    (tmp_path / "file").write_text("")
    answer = cli("export", "--output", tmp_path / "file" / "v.npz")
    assert answer.code == 2
    assert "the vectors cannot be written" in answer.err
    assert len(answer.err.splitlines()) == 1
