"""Standard output that is full, gone or not UTF-8."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from painvrl.cli import output, render

PAINVRL = [sys.executable, "-m", "painvrl.cli"]
FULL = Path("/dev/full")

on_linux = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def run(*arguments: object, encoding: str = "utf-8", **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, whose streams are real ones."""
    command = [*PAINVRL, *map(str, arguments)]
    return subprocess.run(command, encoding=encoding, check=False, **{"stderr": subprocess.PIPE, **options})


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["study", "front", "--json"], ["study", "front"]]
)
def test_a_full_device_is_one_line_whatever_is_printed(workspace: Path, arguments: list[str]) -> None:
    environment = os.environ | {"PAINVRL_WORKSPACE": str(workspace)}
    with FULL.open("w") as full:
        done = run(*arguments, stdout=full, env=environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "error: standard output: cannot be written: No space left on device; free some space"
    )


@on_linux
def test_where_nothing_can_be_said_the_exit_code_says_it() -> None:
    with FULL.open("w") as full:
        assert run("--version", stdout=full, stderr=full).returncode == 2


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_whoever_leaves_the_pipe_hears_no_more() -> None:
    done = run("--version", stdout=closed_pipe())
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
def test_a_command_whose_reader_leaves_ends_quietly(workspace: Path) -> None:
    done = run("study", "front", "--workspace", workspace, stdout=closed_pipe())
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
def test_a_study_whose_reader_leaves_says_that_it_goes_on(workspace: Path, spec: Path) -> None:
    command = ("study", "run", spec, "--trials", "4", "--device", "cpu", "--workspace", workspace)
    done = run(*command, stdout=closed_pipe())
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()  # above it: that the workspace was copied
    assert line == "error: standard output: no one reads it any more; the same command continues"
    done = run(*command, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "3 of 4 trials are there" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf_8_gets_plain_forms(workspace: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PAINVRL_WORKSPACE": str(workspace)}
    done = run("study", "front", "--plot", encoding=encoding, stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "front of tiny" in done.stdout
    assert "* picked" not in done.stdout
    assert "o front: trial" in done.stdout
    assert "\\u" not in done.stdout
    done = run("study", "front", "日本é", encoding=encoding, stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert "found '\\u65e5\\u672c" in done.stderr


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"title": "日本 é ±", "id": "\udcff"}
    for encoding in ("utf-8", "latin-1", "ascii"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, "in_ascii"))
        render.print_json(value)
        assert json.loads(raw.getvalue()) == value
        monkeypatch.undo()


def test_letters_are_escaped_and_drawings_are_plain() -> None:
    assert output.takes_unicode()
    assert "─┼ é±日".encode("ascii", "in_ascii") == rb"-+ \xe9+-\u65e5"
    assert "é±日".encode("latin-1", "in_ascii") == b"\xe9\xb1\\u65e5"
    assert "é".encode("plain_ascii", "in_ascii") == rb"\xe9"
