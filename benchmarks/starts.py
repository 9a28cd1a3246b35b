"""Many commands that start one study at the same moment: ``python -m benchmarks.starts --starts 20``.

In a PostgreSQL all of them work on it. In a SQLite file one does, and the others say who. Either way there
must be one study in the end, with every trial trained once, one run of it in MLflow, and no error but that
of the study's lock. Exit code 1 if not.

    python -m benchmarks.starts --starts 20 --storage postgresql://...
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.outages import CHEAP_STUDY
from painvrl.core.workspace import Workspace
from painvrl.study.store.records import TrialState
from painvrl.study.store.storage import list_studies, open_study
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.port import PARENT

HELD = "is being run by another process"


@dataclass(frozen=True, kw_only=True)
class Started:
    """What became of them; all is well if ``wrong`` is empty."""

    seconds: float
    ended: int
    refused: int
    states: dict[str, int]
    wrong: tuple[str, ...]


def start_together(starts: int, trials: int, folder: Path, storage: str | None = None) -> Started:
    """Start a study so often at once, and compare what storage and tracker have of it."""
    workspace = Workspace(folder / "workspace").create()
    spec = folder / "starts.yaml"
    spec.write_text(yaml.safe_dump(_spec(trials, storage)), encoding="utf-8")
    command = [sys.executable, "-m", "painvrl.cli", "study", "run", str(spec), "--quiet", "--device", "cpu"]
    command += ["--workspace", str(workspace.root)]
    begun = time.monotonic()
    with ExitStack() as stack:
        errors = [stack.enter_context((folder / f"said-{each}").open("w+")) for each in range(starts)]
        processes = []
        for error in errors:
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=error))
            stack.callback(processes[-1].kill)
        for process in processes:
            process.wait()
        said = [(folder / f"said-{each}").read_text(encoding="utf-8") for each in range(starts)]
    seconds = time.monotonic() - begun
    refused = [code.returncode == 2 and HELD in text for code, text in zip(processes, said, strict=True)]
    ended = [process.returncode == 0 for process in processes]
    wrong = [
        f"exit code {process.returncode}: {text.strip()[-500:]}"
        for process, text, fine in zip(processes, said, map(max, refused, ended), strict=True)
        if not fine
    ]
    if storage is not None and any(refused):
        wrong.append(f"{sum(refused)} were refused, though the study is shared")
    if (names := list_studies(workspace, storage=storage)) != ("starts",):
        wrong.append(f"the studies are {names}")
        return Started(seconds=seconds, ended=sum(ended), refused=sum(refused), states={}, wrong=tuple(wrong))
    stored = open_study("starts", workspace, storage=storage)
    records = stored.trials()
    states = Counter(record.state.value for record in records)
    if states != {TrialState.COMPLETE.value: trials}:
        wrong.append(f"the trials are {dict(states)}")
    if len({str(sorted(record.point.items())) for record in records}) != len(records):
        wrong.append("a point was trained twice")
    wrong += _runs(workspace, stored.parent_run, trials)
    return Started(
        seconds=seconds, ended=sum(ended), refused=sum(refused), states=dict(states), wrong=tuple(wrong)
    )


def _spec(trials: int, storage: str | None) -> dict[str, object]:
    return {
        "study": {"name": "starts", "trials": trials, "sampler": "random", "storage": storage},
        **CHEAP_STUDY,
    }


def _runs(workspace: Workspace, parent: str | None, trials: int) -> list[str]:
    with mlflow_calls(workspace.tracking_uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=workspace.tracking_uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=5000)
    studies = [run.info.run_id for run in runs if PARENT not in run.data.tags]
    children = [run for run in runs if run.data.tags.get(PARENT) == parent]
    wrong = [] if studies == [parent] else [f"{len(studies)} runs of the study are in MLflow"]
    if len(children) != trials or any(run.info.status != "FINISHED" for run in children):
        wrong.append(f"of {trials} trials MLflow has {Counter(run.info.status for run in children)}")
    return wrong


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--storage", help="a PostgreSQL's URL; by default a SQLite file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = start_together(asked.starts, asked.trials, Path(folder), asked.storage)
    print(f"{started.ended} ended well, {started.refused} were refused: {started.states}")
    for each in started.wrong:
        print(f"WRONG: {each}")
    sys.exit(1 if started.wrong else 0)


if __name__ == "__main__":
    main()
