"""Studies of the published sizes: do they come through, how long is an epoch, how much memory do they take?

Runs `painvrl study run` on studies/tiktok.yaml, kwai.yaml and movielens-paper.yaml, each in a process of its
own and without presets, over folders that :mod:`benchmarks.published_folders` draws. Two figures of memory:
what was resident at the highest, pages of mapped files included, which the system takes back when it needs
them; and what of it was the process's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.published_folders import PUBLISHED, write_folder

ROOT = Path(__file__).parent.parent
DATA = Path("/var/tmp/painvrl-bench")
EPOCHS = {"kwai": 5}
"""Caps on every stage, by study."""
STAGES = ("training.max_epochs", "environments.steps", "mask.steps")
PEAKS = {"resident": "VmHWM", "own": "RssAnon"}
COMMAND = "from painvrl.cli import main; main()"


def measure(
    study: str, *, data: Path, scale: float, trials: int, epochs: int | None, settings: list[str]
) -> dict[str, Any]:
    """Draw the data, run the study in an empty workspace, and say what it took."""
    size = PUBLISHED[study].scaled(scale)
    folder, workspace = data / study, data / f"{study}-workspace"
    write_folder(folder, size)
    shutil.rmtree(workspace, ignore_errors=True)
    settings = [
        f"config.data.path={folder}",
        "presets=[]",
        *([] if epochs is None else [f"config.{stage}={epochs}" for stage in STAGES]),
        *settings,
    ]
    command = [
        *(sys.executable, "-c", COMMAND, "study", "run", ROOT / "studies" / f"{study}.yaml"),
        *("--workspace", workspace, "--device", "cpu", "--trials", trials),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    words = [str(word) for word in command]
    took, peaks = watched(words, data / f"{study}.log")
    watched([*words, "--dry-run"], data / f"{study}-plan.log")
    return {
        "study": study,
        "users": size.users,
        "items": size.items,
        "interactions": size.interactions,
        "settings": settings,
        **took,
        "epoch_seconds": epoch_seconds((data / f"{study}-plan.log").read_text(encoding="utf-8")),
        "peak_gib": {name: round(peak, 2) for name, peak in peaks.items()},
        "trials": finished_trials(workspace),
    }


def watched(command: list[str], log: Path) -> tuple[dict[str, float], dict[str, float]]:
    """What ``command`` took in seconds by the clock and of processors, and its peaks in GiB.

    What it says goes to ``log``.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    peaks = dict.fromkeys(PEAKS, 0.0)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT)
        while process.poll() is None:
            for name, kib in _memory(process.pid).items():
                peaks[name] = max(peaks[name], kib / 2**20)
            time.sleep(0.2)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, log.read_bytes())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = {"seconds": time.perf_counter() - start, "processor_seconds": processors}
    return {name: round(value, 1) for name, value in took.items()}, peaks


def epoch_seconds(plan: str) -> float:
    """Seconds of an epoch of the pretraining, as the plan of ``--dry-run`` has timed it, without rankings."""
    found = re.search(r"epochs x ([\d.]+) s", plan)
    assert found is not None, plan
    return float(found[1])


def _memory(pid: int) -> dict[str, int]:
    """KiB by name of :data:`PEAKS`; nothing of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    values = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    return {name: int(values[field][0]) for name, field in PEAKS.items() if field in values}


def finished_trials(workspace: Path) -> list[dict[str, Any]]:
    """Of each trial the seconds by stage, rankings included; a kept pretraining takes next to none."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "tags.kind = 'trial'", order_by=["attributes.start_time"])
    return [
        {
            "status": run.info.status,
            "seconds": {
                name.partition("/")[2]: round(seconds, 1)
                for name, seconds in run.data.metrics.items()
                if name.startswith("seconds/")
            },
        }
        for run in runs
    ]


def show(found: dict[str, Any]) -> None:
    """A study's figures."""
    peaks = ", ".join(f"{peak:.2f} GiB {name}" for name, peak in found["peak_gib"].items())
    print(
        f"{found['study']}: {found['seconds']:.0f} s, {found['processor_seconds']:.0f} s of processors, "
        f"an epoch {found['epoch_seconds']:.2f} s; {peaks}"
    )
    for number, trial in enumerate(found["trials"]):
        print(f"  trial {number}: {json.dumps(trial)}", flush=True)


def main() -> None:
    """Measure, print, and write ``results/published.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--data", type=Path, default=DATA, help="folder for the drawn data and workspaces")
    parser.add_argument("--scale", type=float, default=1.0, help="of users, items and interactions")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--epochs", type=int, help=f"at most, of every stage; by default {EPOCHS}")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as in study run")
    parser.add_argument("--results", default="published", help="name of the file in results/")
    parser.add_argument("--no-results", action="store_true", help="print only")
    asked = parser.parse_args()
    studies = []
    for study in asked.studies:
        epochs = EPOCHS.get(study) if asked.epochs is None else asked.epochs
        studies.append(
            measure(
                study,
                data=asked.data.absolute(),
                scale=asked.scale,
                trials=asked.trials,
                epochs=epochs,
                settings=asked.set,
            )
        )
        show(studies[-1])
    if not asked.no_results:
        from benchmarks.machine import write_results

        print(write_results(asked.results, {"scale": asked.scale, "studies": studies}))


if __name__ == "__main__":
    main()
