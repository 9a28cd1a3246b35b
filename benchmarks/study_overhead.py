"""What a study costs beside its trainings: sampler, storage, MLflow, imports, reports.

A study runs as `painvrl study run` would run it, one worker, in a workspace without studies or runs;
only the cache of prepared data is shared. Each moment counts for one part: a query that a sampler makes
is the storage's. What is neither training, nor preparation of data, nor the import of what training needs
is machinery, whatever part it falls into.

The figures say nothing while anything else computes on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRAINING, DATA, TRAINER = "training", "data", "imports of the trainer"
NO_MACHINERY = (TRAINING, DATA, TRAINER)
IMPORTS, SAMPLER, STORAGE, RECORDS = "imports", "sampler", "storage", "records"
BEFORE, LOOP, AFTER = "before the trials", "between the trials", "after the trials"
SAMPLERS = ("tpe", "gp")
SPEC = Path("studies/movielens.yaml")
CACHE = Path("workspace/cache")


@dataclass
class Stopwatch:
    """Counts each moment for the innermost part that is open.

    Attributes:
        seconds: by part, exclusive of the parts inside it.
        calls: how often each part was opened.
    """

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is part ``name``; the part around it stands still."""
        self._turn()
        self._open.append(name)
        self.calls[name] += 1
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def rename(self, name: str) -> None:
        """From here on the outermost open part is ``name``."""
        self._turn()
        self._open[0] = name

    def wrap(self, owner: Any, names: str, part: str | Callable[[str], str]) -> None:
        """Make the named methods of a class (or functions of a module) parts."""
        for name in names.split():
            label = part if isinstance(part, str) else part(name)
            setattr(owner, name, self.timed(getattr(owner, name), label))

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """``function`` as a part."""

        def inside(*arguments: Any, **options: Any) -> Any:
            with self.part(part):
                return function(*arguments, **options)

        return inside

    def _turn(self) -> None:
        now = self.clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def instrument(watch: Stopwatch) -> None:
    """Time what a study is made of, from here on and for the whole process."""
    import optuna
    from optuna.storages import RDBStorage
    from optuna.storages._cached_storage import _CachedStorage

    from painvrl.engine.training import TrainingObjective
    from painvrl.study import runner
    from painvrl.study.store.storage import StoredStudy
    from painvrl.study.tracking.mlflow_tracker import MlflowTracker

    watch.wrap(TrainingObjective, "__init__", DATA)
    watch.wrap(TrainingObjective, "__call__", TRAINING)
    for sampler in (optuna.samplers.TPESampler, optuna.samplers.GPSampler):
        hooks = "infer_relative_search_space sample_relative sample_independent before_trial after_trial"
        watch.wrap(sampler, hooks, SAMPLER)
    for storage in (RDBStorage, _CachedStorage):  # Optuna puts the second before the first
        watch.wrap(storage, " ".join(public_methods(storage)), STORAGE)
    watch.wrap(StoredStudy, "trials", RECORDS)
    watch.wrap(MlflowTracker, "__init__ " + " ".join(public_methods(MlflowTracker)), mlflow_part)
    loop = runner.run_jobs

    def between(*arguments: Any) -> None:
        watch.rename(LOOP)
        try:
            loop(*arguments)
        finally:
            watch.rename(AFTER)

    runner.run_jobs = between


def public_methods(owner: type) -> list[str]:
    """Names of the methods that others call."""
    return [name for name, value in vars(owner).items() if callable(value) and not name.startswith("_")]


def mlflow_part(method: str) -> str:
    """The part of a tracker's method."""
    return f"mlflow: {method.strip('_')}"


def measure(spec: Path, sampler: str, trials: int, cache: Path, workspace: Path) -> dict[str, object]:
    """Run the study in this process, which must not have imported painvrl.study yet."""
    watch = Stopwatch()
    start = time.perf_counter()
    with watch.part(BEFORE):
        with watch.part(TRAINER):
            import torch

            import painvrl.run.pipeline  # noqa: F401 (timed)
        with watch.part(IMPORTS):
            import mlflow.tracking  # noqa: F401 (timed)

            from painvrl.core.workspace import Workspace
            from painvrl.study.file.spec import load_spec
            from painvrl.study.runner import run_study

            instrument(watch)
        (workspace / "cache").symlink_to(cache.absolute())
        loaded = load_spec(spec)
        study = loaded.study.model_copy(update={"sampler": sampler})
        summary = run_study(
            loaded.model_copy(update={"study": study}),
            Workspace(workspace),
            torch.device("cpu"),
            trials=trials,
        )
    total = time.perf_counter() - start
    return {
        "sampler": sampler,
        "trials": summary.status.finished,
        **shares(watch.seconds, total),
        "calls": dict(watch.calls),
    }


def shares(seconds: dict[str, float], total: float) -> dict[str, object]:
    """What is machinery, as a share of ``total`` seconds; and where it goes."""
    parts = {name: value for name, value in seconds.items() if name not in NO_MACHINERY}
    machinery = total - sum(seconds.get(name, 0.0) for name in NO_MACHINERY)
    parts["rest"] = machinery - sum(parts.values())  # between the clocks: next to nothing
    return {
        "total_seconds": round(total, 3),
        "training_seconds": round(seconds[TRAINING], 3),
        "data_seconds": round(seconds.get(DATA, 0.0), 3),
        "trainer_import_seconds": round(seconds.get(TRAINER, 0.0), 3),
        "machinery_seconds": round(machinery, 3),
        "machinery_share": round(machinery / total, 5),
        "parts": {name: round(parts[name], 3) for name in sorted(parts, key=parts.__getitem__, reverse=True)},
    }


def in_own_process(sampler: str, asked: argparse.Namespace) -> dict[str, Any]:
    """``measure`` in a new process: imports cost once a process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "benchmarks.study_overhead", "--only", sampler, "--workspace", folder),
            *("--spec", asked.spec, "--trials", asked.trials, "--cache", asked.cache),
        ]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def show(found: dict[str, Any]) -> None:
    """A study's figures, the largest first."""
    print(
        f"\n{found['sampler']}: {found['trials']} trials in {found['total_seconds']:.0f} s; "
        f"machinery {found['machinery_seconds']:.1f} s, {100 * found['machinery_share']:.2f}%"
    )
    for name, seconds in found["parts"].items():
        print(f"  {name:24} {seconds:8.2f} s {100 * seconds / found['total_seconds']:6.2f}%", flush=True)


def main() -> None:
    """Measure, print, and write ``results/study_overhead.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", type=Path, default=SPEC)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=CACHE, help="of prepared data, shared by all")
    parser.add_argument("--only", choices=SAMPLERS, help="in this process, as JSON")
    parser.add_argument("--workspace", type=Path, help="with --only: an empty folder to keep")
    parser.add_argument("--no-results", action="store_true", help="print only")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    if asked.only is not None:
        place = tempfile.TemporaryDirectory() if asked.workspace is None else nullcontext(asked.workspace)
        with place as folder:
            print(json.dumps(measure(asked.spec, asked.only, asked.trials, asked.cache, Path(folder))))
        return
    studies = []
    for sampler in asked.samplers:
        studies.append(in_own_process(sampler, asked))
        show(studies[-1])
    if not asked.no_results:
        from benchmarks.machine import write_results

        print(write_results("study_overhead", {"spec": str(asked.spec), "studies": studies}))


if __name__ == "__main__":
    main()
