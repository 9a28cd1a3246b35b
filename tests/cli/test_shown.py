"""What the commands show: no secrets, and nothing that steers a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from painvrl.cli import output, progress, render, root
from painvrl.cli.output import _Stream, as_it_is, with_colours
from painvrl.core.errors import UserError
from painvrl.core.tables import TextTable
from painvrl.core.yamlfile import parse_yaml

Call = Callable[..., Any]
PAINVRL = [sys.executable, "-m", "painvrl.cli"]
SECRET = "hunter2hunter2"
HOSTILE = "Alien\x1b[2J\x9b2J\u202e\r\nerror: fine"
PLAIN = "Alien\\x1b[2J\\x9b2J\\u202e\\r\\nerror: fine"


def guarded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """From here on standard output and error are as the commands have them; what has come out of both."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, _Stream(raw, "utf-8", "in_ascii", write_through=True))
    return lambda: raw.getvalue().decode()


@pytest.mark.slow
def test_a_dry_run_prints_no_password(spec: Path, tmp_path: Path) -> None:
    storage = f"study.storage=postgresql://user:{SECRET}@host/studies?sslpassword={SECRET}"
    options = ("--dry-run", "--set", storage, "--workspace", tmp_path / "none", "--device", "cpu")
    command = [*PAINVRL, "study", "run", *map(str, (spec, *options))]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert SECRET not in done.stdout + done.stderr
    said = parse_yaml(done.stdout)["study"]
    assert said["storage"] == "postgresql://user:***@host/studies?sslpassword=***"  # type: ignore[index]


@pytest.mark.parametrize(
    "options",
    [
        [f"study.storage=postgresql://me:{SECRET}@h/db", "study.trials=0"],
        [f"postgresql://me:{SECRET}@h/db"],
        [f"study.storage=[postgresql://me:{SECRET}@h/db"],
        [f"study.storage=[postgresql://me:{SECRET}@h/db]"],
        [f"study.storage={{password: {SECRET}}}"],
        [f"study.storage={{a: 'postgresql://{'name' * 20}:{SECRET * 3}@h/db'}}"],
        [f"study.trials={{token: {SECRET}}}"],
    ],
)
def test_a_mistake_repeats_no_secret_of_an_option(cli: Call, spec: Path, options: list[str]) -> None:
    answer = cli("study", "validate", spec, *(word for one in options for word in ("--set", one)))
    assert answer.code == 2
    assert answer.err
    assert "hunter2" not in answer.out + answer.err


@pytest.mark.parametrize("content", ["study: {}", "{}", "- {}", "study: [{}]", "{}: 1"])
def test_a_file_of_the_wrong_shape_shows_no_secret(cli: Call, tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content.replace("{}", f"postgresql://me:{SECRET}@host/db"))
    answer = cli("study", "validate", path)
    assert answer.code == 2
    assert SECRET not in answer.out + answer.err


@pytest.mark.parametrize(
    "storage",
    [
        "me:{}@host",
        "postgresql://me:{}@host:port/db",
        "postgresql://me:a@{}@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=me&password={}",
    ],
)
def test_a_storage_that_cannot_be_had_shows_no_password(cli: Call, tmp_path: Path, storage: str) -> None:
    pytest.importorskip("psycopg")
    (tmp_path / "a.yaml").write_text("study: {}")
    answer = cli("workspace", "upgrade", "--storage", storage.format(SECRET), "--workspace", tmp_path)
    assert answer.code == 2
    assert SECRET not in answer.out + answer.err


@pytest.mark.parametrize("uri", ["http://me:{}@127.0.0.1:1", "http://{}@127.0.0.1:1", "http://me:{}@h:x"])
def test_a_tracking_server_that_does_not_answer_shows_no_password(
    cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(SECRET))
    answer = cli("ui", "--workspace", tmp_path)
    assert answer.code == 2
    assert "MLFLOW_TRACKING_URI: " in answer.err
    assert SECRET not in answer.out + answer.err


def test_the_log_of_a_crash_has_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["painvrl", "--set", f"a=postgresql://me:{SECRET}@host"])
    log = Path(root._log(ValueError(f"password={SECRET}"))).read_text()
    assert SECRET not in log
    assert "ValueError: password=***" in log


def test_whatever_is_printed_shows_no_secret_and_steers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = guarded(monkeypatch)
    print(f"token={SECRET} \x1b[2J")  # noqa: T201 (as a library does)
    print(f"http://me:{SECRET}@host \x9b", file=sys.stderr)  # noqa: T201
    assert terminal() == "token=*** \\x1b[2J\nhttp://***@host \\x9b\n"


def test_a_name_with_a_line_break_makes_no_second_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = guarded(monkeypatch)
    root._complain(str(UserError(HOSTILE)))
    render.data_warnings([HOSTILE])
    render.show(HOSTILE, TextTable(columns=["item", HOSTILE], rows=[["1", HOSTILE]]))
    progress.Spinner(None).echo(HOSTILE)
    lines = terminal().splitlines()
    assert lines[:3] == [f"error: {PLAIN}", f"warning: {PLAIN}", PLAIN]
    assert sum(PLAIN in line for line in lines) == len([line for line in lines if line.strip(" ─-")]) == 6


def test_json_keeps_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = guarded(monkeypatch)
    value = {"title": HOSTILE, "id": f"token={SECRET}&x", HOSTILE: 1}
    render.print_json(value)
    assert json.loads(terminal()) == value
    assert not set(terminal()) & set("\x1b\x9b\u202e\r")


def test_rich_still_steers_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = guarded(monkeypatch)
    Console(file=as_it_is(sys.stderr), force_terminal=True, color_system="standard").print("[bold]a[/bold]")
    assert terminal() == "\x1b[1ma\x1b[0m\n"


def test_a_picture_keeps_its_colours_and_nothing_else() -> None:
    assert with_colours("\x1b[31mred\x1b[0m\x1b[2J\n") == "\x1b[31mred\x1b[0m\\x1b[2J\n"


def test_the_standard_streams_are_guarded() -> None:
    code = "import sys; from painvrl.cli.output import guard_output; guard_output(); print('\\x1b[2J')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "\\x1b[2J\n"
    assert output.as_it_is(sys.stdout) is sys.stdout
