"""What pruning and the choice of the sampler cost and give: ``python -m benchmarks.pruning [--seeds 10]``.

Runs the whole of ``studies/movielens.yaml`` in several arms under several seeds (a seed is that of the
sampler, and of split and initialisation together), without MLflow: ``tpe`` with pruning and without it,
``random`` and ``nsga2``. Every process has one thread, and two run at a time, so that the arms of a seed meet
the same machine. Then it trains to their ends the points that pruning stopped: what would they have added?

Prints the ratios of pruned to unpruned (wall time, hypervolume) with 95% t intervals, the same ratio for
two unpruned studies whose samplers have other seeds (what chance alone does to it), and hypervolume
against epochs spent. ``--output`` keeps every number; a study that stands there is not run again. Reads
valid parts only.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import CACHE, print_table
from painvrl.study.file.spec import StudySpec, load_spec
from painvrl.study.front import hypervolume
from painvrl.study.runner import run_study
from painvrl.study.tracking.port import NullTracker
from painvrl.study.trial.objective import OnRung, TrainingObjective, TrialJob
from painvrl.study.trial.outcomes import Completed, Failed, Outcome
from painvrl.workspace import Workspace

# An arm: sampler, whether it prunes, and by how much the sampler's seed is moved.
ARMS = {
    "tpe": ("tpe", False, 0),
    "tpe, pruned": ("tpe", True, 0),
    "random": ("random", False, 0),
    "nsga2": ("nsga2", False, 0),
    "tpe, other seed": ("tpe", False, 1000),
}
EPOCHS = (1000, 2000, 4000, 6000, 8000)
_T95 = {4: 2.776, 9: 2.262}


class Diary:
    """An objective that notes of every trial what it took and what it came to."""

    def __init__(self, inner: TrainingObjective, objectives: Sequence[str]) -> None:
        self.data, self.rows = inner.data, list[dict[str, Any]]()
        self._inner, self._objectives = inner, objectives

    def __call__(self, job: TrialJob, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        """Train, and note it."""
        outcome = self._inner(job, on_stage, on_rung)
        values, epochs = None, {}
        if not isinstance(outcome, Failed):
            for point in outcome.curves:
                epochs[point.curve] = point.step
            epochs = {name: step for name, step in epochs.items() if not name.startswith("mask")}
        if isinstance(outcome, Completed):
            values = [outcome.metrics[name] for name in self._objectives]
        seconds = 0.0 if isinstance(outcome, Failed) else sum(outcome.seconds.values())
        self.rows.append(
            {"point": dict(job.point), "values": values, "epochs": sum(epochs.values()), "seconds": seconds}
        )
        return outcome


def spec_of(arm: str, seed: int) -> StudySpec:
    """The shipped study as an arm runs it."""
    sampler, pruned, moved = ARMS[arm]
    spec = load_spec(Path("studies/movielens.yaml"))
    study = spec.study.model_copy(update={"seed": seed + moved, "sampler": sampler})
    config = spec.config.model_copy(update={"seed": seed})
    return spec.model_copy(update={"study": study, "config": config, "pruning": pruned})


def run(arm: str, seed: int) -> dict[str, Any]:
    """One study, in a workspace that is thrown away."""
    torch.set_num_threads(1)
    spec = spec_of(arm, seed)
    device = torch.device("cpu")
    diary = Diary(TrainingObjective(spec.config, cache_dir=CACHE, device=device), spec.objectives)
    with tempfile.TemporaryDirectory() as folder:
        run_study(spec, Workspace(Path(folder)), device, tracker=NullTracker(), objective=diary)
    return {"arm": arm, "seed": seed, "trials": diary.rows}


def finish(seed: int, points: Sequence[dict[str, Any]]) -> list[list[float]]:
    """The objectives of points that were pruned, trained to the end."""
    torch.set_num_threads(1)
    from painvrl.study.file.space import apply

    spec = spec_of("tpe", seed)
    objective = TrainingObjective(spec.config, cache_dir=CACHE, device=torch.device("cpu"))
    found = []
    for number, point in enumerate(points):
        job = TrialJob(number=number, point=point, config=apply(spec.config, point))
        outcome = objective(job, lambda _: None, lambda *_: None)
        if isinstance(outcome, Completed):
            found.append([outcome.metrics[name] for name in spec.objectives])
    return found


def volume(trials: Sequence[dict[str, Any]]) -> float:
    """The hypervolume of the complete ones."""
    return hypervolume([trial["values"] for trial in trials if trial["values"] is not None])


def after(trials: Sequence[dict[str, Any]], epochs: float) -> float:
    """The hypervolume when so many epochs had been spent."""
    spent, done = 0, []
    for trial in trials:
        spent += trial["epochs"]
        if spent > epochs:
            break
        done.append(trial)
    return volume(done)


def interval(values: Sequence[float]) -> str:
    """Mean and 95% t interval."""
    mean, n = statistics.mean(values), len(values)
    if n < 2:
        return f"{mean:.3f}"
    half = _T95.get(n - 1, 2.262) * statistics.stdev(values) / math.sqrt(n)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def report(kept: dict[str, Any]) -> None:
    """Print the tables of what was kept."""
    studies = {(one["arm"], one["seed"]): one["trials"] for one in kept["studies"]}

    def ratios(arm: str, of: Callable[[Sequence[dict[str, Any]]], float]) -> list[float]:
        seeds = sorted(seed for name, seed in studies if name == arm and ("tpe", seed) in studies)
        return [of(studies[arm, seed]) / of(studies["tpe", seed]) for seed in seeds]

    rows = []
    for arm in ARMS:
        if arm == "tpe" or not any(name == arm for name, _ in studies):
            continue
        wall = ratios(arm, lambda trials: sum(trial["seconds"] for trial in trials))
        rows.append([arm, str(len(wall)), interval(wall), interval(ratios(arm, volume))])
    print_table(
        "Ratios to tpe without pruning, 95% t intervals", ["arm", "seeds", "wall time", "hypervolume"], rows
    )
    kept_share = [
        volume(studies["tpe, pruned", int(seed)])
        / hypervolume([t["values"] for t in studies["tpe, pruned", int(seed)] if t["values"]] + values)
        for seed, values in kept["finished"].items()
    ]
    if kept_share:
        print(f"\nof the hypervolume of all its points pruning kept {interval(kept_share)}")
    grid = [
        [
            arm,
            *(
                interval([after(t, epochs) * 1e4 for (name, _), t in studies.items() if name == arm])
                for epochs in EPOCHS
            ),
        ]
        for arm in ARMS
        if any(name == arm for name, _ in studies)
    ]
    print_table("Hypervolume x 10,000 against epochs spent", ["arm", *map(str, EPOCHS)], grid)


def main() -> None:
    """Measure what is not there yet, keep it, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--other-seeds", type=int, default=5, help="of the arms without pruning beside tpe")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/pruning.json"))
    asked = parser.parse_args()
    kept: dict[str, Any] = {"studies": [], "finished": {}}
    if asked.output.exists():
        kept = json.loads(asked.output.read_text(encoding="utf-8"))
    there = {(one["arm"], one["seed"]) for one in kept["studies"]}
    pairs = [(arm, seed) for seed in range(asked.seeds) for arm in ("tpe, pruned", "tpe")]
    others = [(arm, seed) for arm in ("random", "nsga2") for seed in range(asked.other_seeds)]
    chance = [("tpe, other seed", seed) for seed in range(asked.other_seeds)]
    first = 2 * min(asked.seeds, asked.other_seeds)
    wanted = [*pairs[:first], *others, *pairs[first:], *chance]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.jobs, mp_context=context) as pool:

        def keep() -> None:
            waiting = asked.output.with_suffix(".tmp")
            waiting.write_text(json.dumps(kept), encoding="utf-8")
            waiting.replace(asked.output)

        for future in as_completed([pool.submit(run, *one) for one in wanted if one not in there]):
            kept["studies"].append(future.result())
            keep()
        pruned = {
            one["seed"]: [trial["point"] for trial in one["trials"] if trial["values"] is None]
            for one in kept["studies"]
            if one["arm"] == "tpe, pruned" and str(one["seed"]) not in kept["finished"]
        }
        waiting = {pool.submit(finish, seed, points): seed for seed, points in pruned.items()}
        for future in as_completed(waiting):
            kept["finished"][str(waiting[future])] = future.result()
            keep()
    report(kept)


if __name__ == "__main__":
    main()
