"""A mistake of the user is one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.cli import root
from painvrl.core.errors import NothingFeasible, PainvrlError, UserError

Call = Callable[..., Any]


def mistake(answer: Any) -> str:
    """The one line that a mistake prints."""
    assert answer.code == 2
    assert answer.out == ""
    lines = [str(line) for line in answer.err.splitlines()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "run", "none.yaml"], "none.yaml: no such file"),
        (["train", "none.yaml"], "none.yaml: no such file"),
        (["train"], "needs a configuration file, or --best"),
        (["train", "a.yaml", "--best"], "either a configuration file or --best"),
        (["train", "a.yaml", "--prefer", "ood"], "--prefer: only works with --best"),
        (["train", "a.yaml", "--trial", "3"], "--trial: only works with --best"),
        (["train", "a.yaml", "--run", "abc"], "--run: only works with --best"),
        (["train", "a.yaml", "--study", "abc"], "--study: only works with --best"),
        (["train", "--best", "--trial", "3", "--run", "abc"], "only one of --trial and --run"),
        (["train", "--best", "--trial", "3", "--prefer", "iid"], "only one of --prefer and --trial"),
        (
            ["train", "--best", "--device", "abacus"],
            "(found 'abacus')",
        ),
        (["study", "front"], "painvrl study run"),
        (["study", "status", "nowhere"], "painvrl study run"),
        (["train", "--best"], "painvrl study run"),
        (["recommend", "--user", "1"], "painvrl train --best"),
        (["recommend", "--user", "1", "--checkpoint", "."], "is no checkpoint"),
        (["ui"], "painvrl study run"),
        (["serve"], "painvrl train --best"),
        (["serve", "tiny"], "painvrl train --best"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(cli: Call, arguments: list[str], message: str) -> None:
    assert message in mistake(cli(*arguments))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("sparsity: 0.5", "sparsity: 1.5", "config.mask.sparsity: must be less than 1 (found 1.5)"),
        ("id_dim: 4", "id_dims: 4", "config.backbone.id_dims: is not a known key"),
        ("high: 0.8", "high: -0.8", "space.mask.sparsity"),
        ("iid/ndcg_at_20", "iid_test/ndcg_at_20", "is sealed"),
        ("trials: 3", "trials: [3", "expected ',' or ']'"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(
    cli: Call, spec: Path, before: str, after: str, message: str
) -> None:
    text = spec.read_text()
    assert before in text
    spec.write_text(text.replace(before, after, 1))
    line = mistake(cli("study", "run", spec))
    assert re.match(rf"error: {re.escape(str(spec))}:\d+:\d+: ", line)
    assert message in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["study", "nope"],
        ["train", "--nope"],
        ["recommend"],
        ["study", "run"],
        ["ui", "--port", "x"],
    ],
)
def test_a_wrong_word_is_a_usage_error(cli: Call, arguments: list[str]) -> None:
    answer = cli(*arguments)
    assert answer.code == 2
    assert "Usage: painvrl" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("is wrong", file="a.yaml"), 2, "error: a.yaml: is wrong\n"),
        (NothingFeasible("nothing"), 3, "error: nothing\n"),
        (PainvrlError("broken"), 1, "error: broken\n"),
        (KeyboardInterrupt(), 130, "\npainvrl: interrupted; the same command starts from the beginning\n"),
    ],
)
def test_every_kind_of_error_has_its_exit_code(
    cli: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("painvrl.cli.installation.diagnose", fail)
    answer = cli("doctor")
    assert (answer.code, answer.out, answer.err) == (code, "", text)


def test_a_bug_prints_two_lines_and_keeps_the_traceback_in_a_file(
    cli: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug\nof several lines")

    monkeypatch.setattr("painvrl.cli.installation.diagnose", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = cli("doctor")
    assert answer.code == 1
    first, second = answer.err.splitlines()
    assert first == "error: ZeroDivisionError: a bug"
    log = Path(second.rsplit(" ", 1)[1])
    assert log.parent == tmp_path
    assert "Traceback (most recent call last)" in log.read_text()
    assert "a bug\nof several lines" in log.read_text()


def test_the_help_lists_every_exit_code(cli: Call) -> None:
    out = cli("--help").out
    codes = (root.INTERNAL_ERROR, root.USAGE, root.NOTHING_FEASIBLE, root.INTERRUPTED)
    assert all(f" {code} " in " ".join(out.split()) for code in (0, *codes))


@pytest.mark.slow
def test_control_c_leaves_a_study_that_the_same_command_goes_on_with(
    cli: Call, spec: Path, new_workspace: Path
) -> None:
    workspace = new_workspace
    spec.write_text(spec.read_text().replace("trials: 3", "trials: 400", 1))
    command = [sys.executable, "-m", "painvrl.cli", "study", "run", str(spec), "--workspace", str(workspace)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    for line in process.stdout:
        assert time.monotonic() < deadline
        if line.startswith("[2/400]"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "painvrl: interrupted; the same command continues"
    assert "Traceback" not in err

    landed = cli("study", "status", "--workspace", workspace).out
    assert "complete" in landed
    again = cli("study", "run", spec, "--workspace", workspace, "--trials", 1)
    assert again.code == 0
    assert "continues" in again.out
