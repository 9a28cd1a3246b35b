"""Every baseline, tuned on the valid parts of the same splits. Test parts stay sealed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from painvrl.baselines.jobs import FIT, START, BaselineCell, BaselineJob, BaselineObjective, key_of, users_of
from painvrl.baselines.offsets import GRID
from painvrl.baselines.paired import comparisons
from painvrl.baselines.port import EXTRA, Baseline
from painvrl.baselines.reference import OWN, reference_points
from painvrl.baselines.registry import BASELINES
from painvrl.baselines.results import (
    CUTOFF,
    IID,
    OOD,
    BaselinePoint,
    BaselineReport,
    ComparisonReport,
    TrialRun,
)
from painvrl.baselines.search import settings_to_try
from painvrl.core.errors import ConfigError
from painvrl.core.settings import Settings
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml, near_matches
from painvrl.data.digest import digest_of
from painvrl.engine.events import Progress
from painvrl.engine.executor import executor_of
from painvrl.engine.outcomes import Failed
from painvrl.engine.saved import RunStore, SavedRun
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import split_of
from painvrl.study.file.space import Space
from painvrl.study.store.lock import study_lock
from painvrl.study.tracked_grid import TrackedGrid
from painvrl.study.tracking.port import DEFAULT_UI_URL, NullTracker, StudyHeader, Tracker


def choose(names: Iterable[str]) -> tuple[Baseline[Any], ...]:
    """The baselines called ``names``; all of them if there are no names.

    Raises:
        ConfigError: an unknown name, or one whose packages are missing.
    """
    known = BASELINES.entries()
    chosen = []
    for name in dict.fromkeys(names):
        if name not in known:
            rule = "is not a baseline" + near_matches(name, known)
            raise ConfigError(rule, key="--baseline", value=name)
        if known[name].missing():
            raise ConfigError(_needs(known[name]), key="--baseline", value=name)
        chosen.append(known[name])
    return tuple(chosen or known.values())


def compare(
    config: TrainConfig,
    baselines: Sequence[Baseline[Any]],
    workspace: Workspace,
    device: torch.device,
    *,
    seeds: int,
    trials: int,
    workers: int = 1,
    memory_fraction: float | None = None,
    own: bool = False,
    space: Space | None = None,
    progress: Progress | None = None,
    tracker: Tracker | None = None,
) -> ComparisonReport:
    """Tune every baseline on the valid parts of the same splits, each setting under the same offsets.

    Every run is kept: the same call computes none again, and one that wants more seeds or settings continues.
    A setting that failed is tried again by the next call.

    Args:
        config: its data, split, features and evaluation count, to which the cut-off 20 is added.
        baselines: those whose packages are missing are reported as skipped.
        workspace: where everything is kept.
        device: where ranking computes, and whatever of a baseline is written in torch.
        seeds: how many, from ``config.seed`` upwards; a seed is a split and an initialisation.
        trials: settings of each baseline, at most.
        workers: settings at a time.
        memory_fraction: of a CUDA device that each worker may use.
        own: tune the model of ``config`` as well, and compare it with the baselines by user.
        space: what it is tuned over; without one it has a single trial.
        progress: is called on every run.
        tracker: mirrors the runs; none by default.

    Raises:
        UserError: the data are missing or break a rule, the split keeps users out of training, whom a
            baseline would know nothing of, or there is one seed for ``own``.
        KeyboardInterrupt: the user stopped it. What is complete is kept, and the same call continues.
    """
    if own and seeds < 2:
        raise ConfigError(
            "must be at least 2 with --own: its intervals are over seeds and users, and what one split shows "
            "another one may turn round",
            key="--seeds",
            value=seeds,
        )
    cutoffs = tuple(sorted({*config.evaluation.ks, CUTOFF}))
    evaluation = config.evaluation.model_copy(update={"ks": cutoffs})
    configs = {
        seed: config.model_copy(update={"evaluation": evaluation, "seed": seed})
        for seed in range(config.seed, config.seed + seeds)
    }
    tried = [
        _Tried(one, () if one.missing() else settings_to_try(one, trials, config.seed)) for one in baselines
    ]
    if own:
        tried.insert(0, _Tried(OWN, reference_points(space, config, trials)))
    splits = (split_of(seeded, cache_dir=workspace.cache) for seeded in configs.values())  # one at a time
    names, of_seeds = zip(*((dataset.name, split.statistics) for dataset, split in splits), strict=True)
    data = names[0]
    tracker = tracker or NullTracker()
    cells = _cells(tried, configs.values())
    complete: Mapping[tuple[str, int], SavedRun] = {}
    failures: Mapping[tuple[str, int], Failed] = {}
    link = None
    if cells:
        name = f"baselines-{data}-{config.split.protocol}"
        # Other seeds, settings and baselines of one file share a folder; another file has its own.
        folder = workspace.create().baselines / digest_of(config.deciding())[:16]
        make = partial(
            BaselineObjective,
            cells[0].job.config,
            cache_dir=workspace.cache,
            store=RunStore(folder / "runs"),
            by_user=own,
        )
        with (
            study_lock(workspace.lock_path(f"baselines {folder.name}"), name),
            executor_of(make, device, workers, memory_fraction) as executor,
        ):
            summary = executor.data
            keys = {cell.job.number: key_of(cell.job, summary, by_user=own) for cell in cells}
            runs = TrackedGrid(
                header=StudyHeader(
                    name=name,
                    objectives=(IID, OOD),
                    yaml=dump_yaml(config),
                    data=summary,
                    kind="baselines",
                ),
                of=summary.all_seeds,
                cells=cells,
                folder=folder,
                key=lambda cell: keys[cell.job.number],
                executor=executor,
                tracker=tracker,
                progress=progress or Progress(),
            )
            with runs.trained():
                complete, failures = runs.grid.complete, runs.grid.failures
            link = tracker.link(DEFAULT_UI_URL)
    reports = [one.report(tuple(configs), complete, failures) for one in tried]
    return ComparisonReport(
        data=data,
        split=config.split.protocol,
        seeds=tuple(configs),
        splits=of_seeds,
        trials=trials,
        baselines=tuple(reports),
        comparisons=comparisons(reports[0], reports[1:], _judged(reports, complete)) if own else (),
        link=link,
    )


@dataclass(frozen=True)
class _Tried:
    """A baseline and the settings that are tried of it; none where its packages are missing."""

    baseline: Baseline[Any]
    settings: tuple[Settings, ...]

    def report(
        self,
        seeds: Sequence[int],
        complete: Mapping[tuple[str, int], SavedRun],
        failures: Mapping[tuple[str, int], Failed],
    ) -> BaselineReport:
        """The points, each over all seeds."""
        name, summary = self.baseline.name, self.baseline.summary
        if not self.settings:
            return BaselineReport(name=name, summary=summary, skipped=_needs(self.baseline))

        def run_of(trial: int, place: int, seed: int) -> TrialRun:
            kept = complete.get((_row(name, trial), seed))
            if kept is None:
                return TrialRun(seed=seed, metrics={}, failure=failures[_row(name, trial), seed].message)
            outcome = kept.outcome
            return TrialRun(seed=seed, metrics=outcome.points[place].metrics, seconds=outcome.seconds[FIT])

        shared = {
            seed: kept.outcome.seconds[START]
            for number in range(len(self.settings))
            for seed in seeds
            if (kept := complete.get((_row(name, number), seed))) is not None
            and START in kept.outcome.seconds
        }
        return BaselineReport(
            name=name,
            summary=summary,
            points=tuple(
                BaselinePoint(
                    trial=number,
                    place=place,
                    settings=setting.model_dump(mode="json"),
                    offset=offset,
                    runs=tuple(run_of(number, place, seed) for seed in seeds),
                )
                for number, setting in enumerate(self.settings)
                for place, offset in enumerate(GRID)
            ),
            shared_seconds=statistics.mean(shared.values()) if shared else 0.0,
        )


def _cells(tried: Sequence[_Tried], configs: Iterable[TrainConfig]) -> list[BaselineCell]:
    """Every setting under every seed; those that share a split, and what is done once a split, in a row."""
    jobs = (
        (trial, one.baseline, setting, config)
        for config in configs
        for one in tried
        for trial, setting in enumerate(one.settings)
    )
    return [
        BaselineCell(
            row=_row(baseline.name, trial),
            seed=config.seed,
            job=BaselineJob(
                number=number,
                point={"baseline": baseline.name, **setting.model_dump(mode="json")},
                config=config,
                baseline=baseline,
                setting=setting,
                place=trial,
            ),
        )
        for number, (trial, baseline, setting, config) in enumerate(jobs)
    ]


def _row(baseline: str, trial: int) -> str:
    return f"{baseline} trial {trial}"


def _judged(
    reports: Sequence[BaselineReport], complete: Mapping[tuple[str, int], SavedRun]
) -> dict[tuple[str, int, int], list[UserValues]]:
    """By baseline, trial and place what every user has got, seed by seed, of the points on the fronts."""
    return {
        (one.name, point.trial, point.place): [
            users_of(complete[_row(one.name, point.trial), run.seed], point.place) for run in point.runs
        ]
        for one in reports
        for point in one.front()
    }


def _needs(baseline: Baseline[Any]) -> str:
    return f"needs {' and '.join(baseline.missing())}: install the extra `{EXTRA}`"
