"""Commands that are killed in the middle of a trial, and called again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint
from painvrl.run.config import TrainConfig

Call = Callable[..., Any]
pytestmark = pytest.mark.slow  # every command is a process of its own
MORTAL = Path(__file__).parent / "mortal.py"


def painvrl(*arguments: object, last: int = 0, by: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, which dies after its ``last`` save."""
    return subprocess.run(
        [str(one) for one in (sys.executable, MORTAL, *arguments)],
        env=os.environ | {"MORTAL": f"{last} {by}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def trials_of(cli: Call, workspace: Path) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Points and metrics of the complete trials, by number."""
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    rows = sorted(front["rows"] + front["dominated"], key=lambda row: int(row["trial"]))
    return [(row["point"], row["metrics"]) for row in rows]


def test_a_study_that_is_killed_within_a_trial_goes_on_within_it_and_comes_to_the_same(
    cli: Call, spec: Path, new_workspace: Path, finished_study: tuple[Path, Any]
) -> None:
    saves_of_a_trial = 18  # the trials after it share its backbone and have fewer
    command = ("study", "run", spec, "--workspace", new_workspace, "--device", "cpu")
    killed = painvrl(*command, last=saves_of_a_trial + 9)
    assert killed.returncode == -9
    assert [line[:5] for line in killed.stdout.splitlines() if line.startswith("[")] == ["[1/3]"]
    assert len(list(Workspace(new_workspace).run_states.glob("*.pt"))) == 1
    again = painvrl(*command)
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert "trial 1 was left behind by a process that died; it is tried again" in lines
    assert "trial 2 (2 of 3) continues from epoch 6 of invariant" in lines
    assert [line[:5] for line in lines if line.startswith("[")] == ["[2/3]", "[3/3]"]
    assert trials_of(cli, new_workspace) == trials_of(cli, finished_study[0])
    status = json.loads(cli("study", "status", "--json", "--workspace", new_workspace).out)
    counts = {state: count for state, count in status["counts"].items() if count}
    assert counts == {"complete": 3, "interrupted": 1}
    assert list(Workspace(new_workspace).run_states.iterdir()) == []


@pytest.mark.parametrize("by", ["SIGTERM", "SIGHUP"])
def test_a_study_that_is_terminated_blames_no_trial(
    cli: Call, spec: Path, new_workspace: Path, by: str
) -> None:
    command = ("study", "run", spec, "--workspace", new_workspace, "--device", "cpu")
    for _ in range(3):  # three processes that died over a trial would count as its failure
        stopped = painvrl(*command, last=1, by=by)
        assert (stopped.returncode, stopped.stderr.splitlines()[-1][:20]) == (130, "painvrl: interrupted")
        Path("killed").unlink()
    status = json.loads(cli("study", "status", "--json", "--workspace", new_workspace).out)
    counts = {state: count for state, count in status["counts"].items() if count}
    assert set(counts) <= {"complete", "interrupted", "waiting"}
    assert counts["interrupted"] == 3


def test_a_worker_that_is_killed_within_a_trial_costs_what_it_had_not_kept(
    cli: Call, spec: Path, new_workspace: Path, finished_study: tuple[Path, Any]
) -> None:
    done = painvrl(
        *("study", "run", spec, "--workspace", new_workspace, "--device", "cpu", "--workers", 2), last=7
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("it is tried again") == 1
    assert len(re.findall(r"^trial \d \(\d of 3\) continues from ", done.stdout, re.MULTILINE)) == 1
    by_point = [sorted(map(str, trials_of(cli, place))) for place in (new_workspace, finished_study[0])]
    assert by_point[0] == by_point[1]
    assert list(Workspace(new_workspace).run_states.iterdir()) == []


@pytest.mark.parametrize(
    ("last", "by", "places"),
    [
        (8, "SIGHUP", ["step 3 of round 1: mask"]),
        (12, "SIGINT", ["epoch 6 of invariant"]),
        (21, "SIGTERM", ["the end of variant", "epoch 9 of pretrain"]),
    ],
)
def test_a_training_that_is_interrupted_goes_on_and_says_so(
    cli: Call,
    tmp_path: Path,
    new_workspace: Path,
    tiny_config: TrainConfig,
    last: int,
    by: str,
    places: list[str],
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(dump_yaml(tiny_config))
    command = ("train", path, "--refit", "train+valid", "--workspace", new_workspace, "--device", "cpu")
    other = shutil.copytree(new_workspace, tmp_path / "other")
    assert cli("train", path, "--refit", "train+valid", "--workspace", other).code == 0
    stopped = painvrl(*command, last=last, by=by)
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1] == (
        "painvrl: interrupted; the same command continues where it was kept last"
    )
    again = painvrl(*command)
    assert again.returncode == 0, again.stderr
    reported = [line for line in again.stderr.splitlines() if line.startswith("continues")]
    assert reported == [f"continues from {place}" for place in places]
    assert "continues from " not in again.stdout
    one, calm = (
        load_checkpoint(latest_checkpoint(Workspace(folder).checkpoints)) for folder in (new_workspace, other)
    )
    assert one.metrics == calm.metrics
    assert (one.user_vectors == calm.user_vectors).all()
    assert (one.item_vectors == calm.item_vectors).all()
    assert list(Workspace(new_workspace).run_states.iterdir()) == []
