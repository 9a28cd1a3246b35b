"""The test parts are poison: who opens their seal dies, and their rows are garbage wherever they are reached.

Every command of ``painvrl study``, and ``data inspect``, must answer as it does without poison. A new command
has to say here how it is called.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch

from painvrl.cli.study import app as study_app
from painvrl.data.dataset import Dataset
from painvrl.data.guard import AccessLog, GuardedParts
from painvrl.data.interactions import among
from painvrl.data.splits import Split, make_split
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import prepare

Call = Callable[..., Any]

# How each command is called, in this order; SPEC is the study's file, and the workspace is an option of all
# but those in WITHOUT_WORKSPACE.
CALLS: dict[str, list[list[str]]] = {
    "run": [["SPEC"], ["SPEC", "--quiet"], ["SPEC", "--dry-run"]],
    "front": [[], ["tiny"], ["--json"]],
    "status": [[], ["SPEC"], ["--json"]],
    "validate": [["SPEC"], ["SPEC", "--data"]],
    "schema": [[]],
    "pick": [["--knee"], ["--ood", "--as", "mine"], ["--list", "--json"], ["--clear", "mine"]],
    "confirm": [["--seeds-at-most", "2", "--candidates", "front"]],
    "report": [[], ["--json"]],
    "work": [["tiny"]],  # refused: the study is in the workspace's own database
    "move": [["tiny", "--to", "THERE"]],
    "compare": [["tiny", "tiny"], ["tiny", "tiny", "--json"], ["tiny", "tiny", "--html", "OUT.html"]],
}
WITHOUT_WORKSPACE = {"schema"}

GARBAGE = -(10**9)  # no user and no item: whoever counts or indexes with it crashes


class Poisoned(Exception):
    """Somebody reached for a test part."""


def die(*_: object, **__: object) -> None:
    raise Poisoned("the seal was opened")


def poisoned_split(dataset: Dataset, config: Any, *, seed: int) -> Split:
    """The split as it is, but for the test rows: behind the seal and in the data set itself."""
    split = make_split(dataset, config, seed=seed)
    parts = split.sealed._GuardedParts__parts
    cells = torch.cat([part.interactions.cells() for part in parts.values()])
    sealed = GuardedParts(
        parts={name: _with_garbage(part) for name, part in parts.items()},
        fingerprint=split.sealed.fingerprint,
    )
    everything = dataset.interactions
    test = among(everything.cells(), cells.unique())
    assert test.any()
    everything.user[test] = GARBAGE
    everything.item[test] = GARBAGE
    return replace(split, sealed=sealed)


def _with_garbage(part: Any) -> Any:
    rows = part.interactions
    nobody, nothing = torch.full_like(rows.user, GARBAGE), torch.full_like(rows.item, GARBAGE)
    return replace(part, interactions=replace(rows, user=nobody, item=nothing))


@pytest.fixture
def rows_are_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("painvrl.run.prepare.make_split", poisoned_split)


@pytest.fixture
def seal_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedParts, "open", die)


def registered() -> list[str]:
    return [command.name or "" for command in study_app.registered_commands]


def answers(cli: Call, workspace: Path, spec: Path) -> dict[str, tuple[int, str]]:
    """What every command answers, one after the other, without what differs between two equal runs."""
    found = {}
    for name in registered():
        for arguments in CALLS[name]:
            words = [str(spec) if word == "SPEC" else word for word in arguments]
            words = [str(workspace / word) if word in {"OUT.html", "THERE"} else word for word in words]
            place = [] if name in WITHOUT_WORKSPACE else ["--workspace", workspace]
            device = ["--device", "cpu"] if name in {"run", "confirm"} else []
            answer = cli("study", name, *words, *place, *device)
            text = (answer.out + answer.err).replace(str(workspace), "WORKSPACE")
            found[" ".join([name, *arguments])] = (answer.code, without_clock_and_run_ids(text))
    for option in ([], ["--json"]):
        answer = cli("data", "inspect", spec, *option, "--workspace", workspace)
        found[" ".join(["data inspect", *option])] = (answer.code, answer.out + answer.err)
    return found


def without_clock_and_run_ids(text: str) -> str:
    text = re.sub(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "RUN", unquote(text))
    text = re.sub(r'("[a-z_]*seconds[a-z_]*": )[0-9.]+', r"\1SECONDS", text)
    return re.sub(r"\d+\.\d+ s\b", "SECONDS", re.sub(r" +(?=\d+\.\d+ s\b)", " ", text))


def test_every_command_says_here_how_it_is_called() -> None:
    assert sorted(CALLS) == sorted(registered())


@pytest.mark.slow
def test_no_command_of_a_study_looks_at_a_test_part(
    cli: Call,
    tmp_path: Path,
    spec: Path,
    empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = [tmp_path / name for name in ("clean", "toxic")]  # of one length: tables hold the path
    for place in places:
        place.mkdir()
        shutil.copy(empty_mlflow, place)
    clean = answers(cli, places[0], spec)
    assert {what: code for what, (code, _) in clean.items() if code != 0} == {"work tiny": 2}
    assert all(text.strip() for _, text in clean.values())
    monkeypatch.setattr("painvrl.run.prepare.make_split", poisoned_split)
    monkeypatch.setattr(GuardedParts, "open", die)
    poisoned = answers(cli, places[1], spec)
    assert poisoned == clean
    assert not any((place / "test_reads.jsonl").exists() for place in places)


def test_the_poison_is_in_the_data(tiny_config: TrainConfig, tmp_path: Path, rows_are_garbage: None) -> None:
    prepared = prepare(tiny_config, cache_dir=tmp_path, device=torch.device("cpu"))
    bad = prepared.dataset.interactions.user == GARBAGE
    statistics = {part.name: part.interactions for part in prepared.split.statistics.parts}
    assert int(bad.sum()) == statistics["iid_test"] + statistics["ood_test"]
    with pytest.raises((RuntimeError, IndexError)):
        prepared.dataset.interactions.user_degree()
    opened = prepared.split.sealed.open(AccessLog(tmp_path / "ledger"), "test")
    assert all((part.interactions.item == GARBAGE).all() for part in opened.parts.values())


def test_training_for_good_dies_of_the_poisoned_seal(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seal_kills: None
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    answer = cli("train", "--best", "--workspace", workspace, "--device", "cpu")
    assert answer.code == 1
    assert "Poisoned: the seal was opened" in answer.err


def test_training_for_good_dies_of_the_garbage_rows(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows_are_garbage: None
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cli("train", "--best", "--workspace", workspace, "--device", "cpu").code == 1
