from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def test_a_complete_installation_is_healthy(cli: Call, tmp_path: Path) -> None:
    answer = cli("doctor", "--json", "--device", "cpu")
    found = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert found["healthy"] is True
    names = {check["name"] for check in found["checks"]}
    assert {
        "painvrl",
        "torch",
        "mlflow",
        "device",
        "workspace",
        "disk",
        "threads",
        "extra movielens",
    } <= names
    assert list(tmp_path.iterdir()) == [], "looking changes nothing"


def test_the_text_has_a_line_a_check(cli: Call) -> None:
    checks = json.loads(cli("doctor", "--json").out)["checks"]
    lines = cli("doctor").out.splitlines()
    assert len(lines) == len(checks) + 1
    assert [line.split()[0] for line in lines[:-1]] == [check["status"] for check in checks]
    assert lines[-1] == "painvrl is ready"


def test_something_broken_exits_with_one_and_says_what_to_do(cli: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = cli("doctor", "--workspace", tmp_path / "file")
    assert answer.code == 1
    assert any(line.startswith("fail") and "--workspace" in line for line in answer.out.splitlines())
    assert answer.out.splitlines()[-1] == "something essential is broken"


def test_a_device_that_is_not_there_is_found(cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = cli("doctor", "--device", "cuda", "--json")
    assert answer.code == 1
    device = next(check for check in json.loads(answer.out)["checks"] if check["name"] == "device")
    assert device["status"] == "fail"
    assert "no such device" in device["detail"]
