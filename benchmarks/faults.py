"""A study under faults at seeded moments: is every trial finished once, with the values of a calm study?

    python -m benchmarks.faults --trials 40 --workers 4 --faults 60

The study's command is started again whenever it ends early, as its user would. Every worker saves at every
save point, and some of these are where a fault falls. So the moments hang on the work that is done, and not
on the speed of the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run import state
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.records import TrialRecord

ROOT = Path(__file__).parent.parent
SCHEDULE = "PAINVRL_BENCHMARK_FAULTS"
"""The variable that names the folder of the faults to come, for the study's command and its workers."""


def _study() -> int:
    """The process that runs the study."""
    return os.getpid() if multiprocessing.parent_process() is None else os.getppid()


def _stopped() -> None:
    os.kill(_study(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGSTOP)


FAULTS: Mapping[str, Callable[[], None]] = {
    "worker killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "study killed": lambda: os.kill(_study(), signal.SIGKILL),
    "connection lost": lambda: os.kill(_study(), signal.SIGHUP),
    "terminated": lambda: os.kill(_study(), signal.SIGTERM),
    "interrupted": lambda: os.kill(_study(), signal.SIGINT),
    "terminated while a worker is stopped": _stopped,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault to come: at the first save point after so many others, in a stage whose name begins so."""

    kind: str
    after: int
    stage: str = ""
    kept: bool = True
    """Whether the state is saved before it falls."""


def schedule(count: int, seed: int, *, apart: int = 7) -> tuple[Fault, ...]:
    """So many faults of all kinds, some ``apart`` save points from each other."""
    draws = random.Random(seed)
    kinds = [
        kind for _ in range(-(-count // len(FAULTS))) for kind in draws.sample(list(FAULTS), len(FAULTS))
    ]
    at, found = 0, []
    for kind in kinds[:count]:
        at += draws.randint(apart // 2 + 1, apart + apart // 2)
        stage = draws.choice(("", "", "round", "leave out"))
        found.append(Fault(kind=kind, after=at, stage=stage, kept=draws.random() < 0.5))
    return tuple(found)


def _install(folder: Path) -> None:
    """Let this process save whenever it can, and suffer what is to come."""
    faults = [Fault(**one) for one in json.loads((folder / "faults.json").read_text(encoding="utf-8"))]
    state.MIN_SECONDS, state.MOST_SHARE = 0.0, float("inf")
    save = state.StateFile.save

    def due(count: int, make: Callable[[], Mapping[str, Any]]) -> Fault | None:
        for place, fault in enumerate(faults):
            mark = folder / f"fell-{place}"
            if mark.exists():
                continue
            stages = [what[1] for what in make()["reported"] if what[0] == "stage"]
            if count < fault.after or not stages[-1].startswith(fault.stage):
                return None
            try:
                mark.touch(exist_ok=False)
            except FileExistsError:  # another worker has it
                return None
            return fault
        return None

    def save_and_suffer(self: state.StateFile, make: Callable[[], Mapping[str, Any]]) -> None:
        with (folder / "saves").open("ab") as file:
            file.write(b".")
            file.flush()
            fault = due(file.tell(), make)
        if fault is None or fault.kept:
            save(self, make)
        if fault is not None:
            FAULTS[fault.kind]()

    state.StateFile.save = save_and_suffer  # type: ignore[method-assign]


def run_under(
    faults: Sequence[Fault], spec: Path, workspace: Path, *, workers: int, most_seconds: float = 3600.0
) -> list[int]:
    """Run a study, and again whenever it ended early; the exit codes.

    Raises:
        RuntimeError: it ended with another error, or more often than there were faults.
    """
    command = [sys.executable, "-m", "benchmarks.faults", "--command", "study", "run", spec, "--quiet"]
    command += ["--workspace", workspace, "--workers", str(workers), "--device", "cpu"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    codes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        plan = json.dumps([asdict(fault) for fault in faults])
        (Path(folder) / "faults.json").write_text(plan, encoding="utf-8")
        while not codes or codes[-1] != 0:
            done = subprocess.run(
                [str(word) for word in command],
                env=os.environ | {SCHEDULE: folder, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=False,
                timeout=most_seconds,
            )
            codes.append(done.returncode)
            if done.returncode not in {0, 130, -signal.SIGKILL} or len(codes) > len(faults) + 1:
                raise RuntimeError(f"exit codes {codes}: {done.stderr}")
        fallen = len(list(Path(folder).glob("fell-*")))
    if fallen < len(faults):
        raise RuntimeError(f"only {fallen} of {len(faults)} faults fell: the study has too few save points")
    return codes


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of a study, by its storage and by MLflow.

    Attributes:
        values: of each finished trial, its preset and point, and its metrics; in their order.
        states: how many trials are in each state.
        runs: how many of MLflow's runs of trials have each status.
        agree: whether MLflow has exactly the finished trials as finished, with their values.
        left: states of runs that were left behind.
    """

    values: list[tuple[str, Mapping[str, float]]]
    states: Mapping[str, int]
    runs: Mapping[str, int]
    agree: bool
    left: int


def account_of(workspace: Path) -> Account:
    """Read a workspace with one study."""
    from painvrl.study.store.records import FINISHED
    from painvrl.study.store.storage import open_study
    from painvrl.study.tracking.mlflow_calls import mlflow_calls

    place = Workspace(workspace)
    records = open_study(None, place).trials()
    finished = [record for record in records if record.state in FINISHED]
    with mlflow_calls(place.tracking_uri):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=place.tracking_uri)
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = client.search_runs(experiments, "tags.kind = 'trial'", max_results=10_000)
    metrics = finished[0].metrics
    tracked = {
        int(run.data.tags["trial"]): {name: run.data.metrics[name] for name in metrics}
        for run in runs
        if run.info.status == "FINISHED"
    }
    return Account(
        values=sorted((_configured(record), record.metrics) for record in finished),
        states=Counter(str(record.state) for record in records),
        runs=Counter(run.info.status for run in runs),
        agree=tracked == {record.number: dict(record.metrics) for record in finished},
        left=len(list(place.run_states.glob("*.pt"))),
    )


def _configured(record: TrialRecord) -> str:
    return str((record.preset, sorted(record.point.items())))


def tiny_study(trials: int) -> StudySpec:
    """A study of trials that take a moment, and go through every stage that is kept."""
    return StudySpec.model_validate(
        {
            "study": {"name": "faults", "trials": trials, "sampler": "random"},
            "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
            "space": {"mask.sparsity": {"type": "float", "low": 0.1, "high": 0.9}},
            "presets": [],
            "pruning": False,
            "config": {
                "data": {"kind": "planted", "n_users": 60, "n_items": 80, "interactions_per_environment": 6},
                "split": {"protocol": "planted"},
                "backbone": {"id_dim": 4, "content_dim": 4},
                "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
                "environments": {
                    "assignment": "column",
                    "column": {"column": "popularity", "bins": 3},
                },
                "mask": {"steps": 5},
                "evaluation": {"loeo": True},
                "rounds": 1,
            },
        }
    )


def compare(
    folder: Path, trials: int, workers: int, faults: Sequence[Fault]
) -> tuple[Account, Account, list[int]]:
    """A calm study and one under ``faults``, in two workspaces below ``folder``."""
    spec = folder / "faults.yaml"
    spec.write_text(dump_yaml(tiny_study(trials)), encoding="utf-8")
    run_under((), spec, folder / "calm", workers=workers)
    codes = run_under(faults, spec, folder / "disturbed", workers=workers)
    return account_of(folder / "calm"), account_of(folder / "disturbed"), codes


def main() -> None:
    """Print what became of both, and end with 1 where they differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2, help="at least 2: one of them is stopped")
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.perf_counter()
    faults = schedule(options.faults, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed, codes = compare(Path(folder), options.trials, options.workers, faults)
    print(f"faults: {dict(Counter(fault.kind for fault in faults))}")
    print(f"the command was started {len(codes)} times; exit codes {dict(Counter(codes))}")
    print(f"trials: {dict(disturbed.states)}; runs in MLflow: {dict(disturbed.runs)}")
    same = calm.values == disturbed.values
    print(f"values equal to the last digit: {same}; MLflow agrees: {disturbed.agree}; left: {disturbed.left}")
    print(f"{time.perf_counter() - begun:.0f} s")
    sys.exit(0 if same and disturbed.agree and disturbed.left == 0 else 1)


if SCHEDULE in os.environ:
    _install(Path(os.environ[SCHEDULE]))
if __name__ == "__main__":
    if sys.argv[1:2] == ["--command"]:
        from painvrl.cli import main as painvrl

        del sys.argv[1]
        painvrl()
    main()
