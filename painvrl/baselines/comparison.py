"""Every baseline, tuned on the valid parts of the same splits. Test parts stay sealed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from painvrl.baselines.duel import duels
from painvrl.baselines.offsets import GRID, measured_under_offsets
from painvrl.baselines.own import OWN, own_points
from painvrl.baselines.port import EXTRA, Baseline, Fit, Inputs
from painvrl.baselines.registry import BASELINES
from painvrl.baselines.report import (
    CUTOFF,
    IID,
    OOD,
    BaselinePoint,
    BaselineReport,
    ComparisonReport,
    TrialRun,
)
from painvrl.baselines.search import settings_to_try
from painvrl.core.device import is_out_of_memory
from painvrl.core.errors import ConfigError, TrialFailure
from painvrl.core.progress import NullObserver, Observer
from painvrl.core.settings import Settings
from painvrl.data.card import SplitCard
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import prepare
from painvrl.study.file.space import Space


def choose(names: Iterable[str]) -> tuple[Baseline[Any], ...]:
    """The baselines called ``names``; all of them if there are no names.

    Raises:
        ConfigError: an unknown name, or one whose packages are missing.
    """
    known = BASELINES.entries()
    chosen = []
    for name in dict.fromkeys(names):
        if name not in known:
            rule = f"is not a baseline; known: {', '.join(known)}"
            raise ConfigError(rule, key="--baseline", value=name)
        if known[name].missing():
            raise ConfigError(_needs(known[name]), key="--baseline", value=name)
        chosen.append(known[name])
    return tuple(chosen or known.values())


def compare(
    config: TrainConfig,
    baselines: Sequence[Baseline[Any]],
    *,
    seeds: int,
    trials: int,
    cache_dir: Path,
    device: torch.device,
    own: bool = False,
    space: Space | None = None,
    observer: Observer | None = None,
) -> ComparisonReport:
    """Tune every baseline on the valid parts of the same splits, each setting under the same offsets.

    Args:
        config: its data, split, features and evaluation count, to which the cut-off 20 is added.
        baselines: those whose packages are missing are reported as skipped.
        seeds: how many, from ``config.seed`` upwards; a seed is a split and an initialisation.
        trials: settings of each baseline, at most.
        cache_dir: of prepared data.
        device: where ranking computes, and whatever of a baseline is written in torch.
        own: tune the model of ``config`` as well, and compare it with the baselines by user.
        space: what it is tuned over; without one it has a single trial.
        observer: hears of every trial as a stage.

    Raises:
        UserError: the data is missing or breaks a rule, the split keeps users out of training, whom a
            baseline would know nothing of, or there is one seed for ``own``.
    """
    if own and seeds < 2:
        raise ConfigError(
            "must be at least 2 with --own: its intervals are over seeds and users, and what one split shows "
            "another one may turn round",
            key="--seeds",
            value=seeds,
        )
    observer = observer or NullObserver()
    cutoffs = tuple(sorted({*config.evaluation.ks, CUTOFF}))
    evaluation = config.evaluation.model_copy(update={"ks": cutoffs})
    tunings = [
        _Tuning(one, () if one.missing() else settings_to_try(one, trials, config.seed)) for one in baselines
    ]
    if own:
        tunings.insert(0, _Tuning(OWN, own_points(space, config, trials)))
    all_seeds = tuple(range(config.seed, config.seed + seeds))
    data = ""
    cards: list[SplitCard] = []
    for seed in all_seeds:
        observer.stage(f"seed {seed}: data")
        seeded = config.model_copy(update={"evaluation": evaluation, "seed": seed})
        inputs = Inputs(seeded, prepare(seeded, cache_dir=cache_dir, device=device))
        _refuse_support(inputs)
        data = inputs.prepared.dataset.name
        cards.append(inputs.prepared.split.card)
        for tuning in tunings:
            tuning.run(inputs, observer, by_user=own)
    reports = [tuning.report() for tuning in tunings]
    judged = {
        (tuning.baseline.name, *point): each for tuning in tunings for point, each in tuning.judged.items()
    }
    return ComparisonReport(
        data=data,
        split=config.split.protocol,
        seeds=all_seeds,
        cards=tuple(cards),
        trials=trials,
        baselines=tuple(reports),
        duels=duels(reports[0], reports[1:], judged) if own else (),
    )


def _refuse_support(inputs: Inputs) -> None:
    if inputs.prepared.split.support is not None:
        raise ConfigError(
            "baselines need a split whose users all have training rows; they do not fold users in",
            key="split.protocol",
            value=inputs.config.split.protocol,
        )


@dataclass(frozen=True)
class _Tuning:
    """A baseline, the settings to try, and what every seed came to so far.

    Attributes:
        seeds: for each seed and setting a run at each offset of the grid.
        judged: by the number of the setting and the place of the offset, what every user has got, seed by
            seed, where it is asked for.
    """

    baseline: Baseline[Any]
    settings: tuple[Settings, ...]
    shared_seconds: list[float] = field(default_factory=list)
    seeds: list[list[Sequence[TrialRun]]] = field(default_factory=list)
    judged: dict[tuple[int, int], list[UserValues]] = field(default_factory=dict)

    def run(self, inputs: Inputs, observer: Observer, *, by_user: bool) -> None:
        """Try every setting on the split of one seed."""
        if not self.settings:
            return
        label = f"seed {inputs.config.seed}: {self.baseline.name}"
        observer.stage(label)
        start = time.perf_counter()
        fit = _started(self.baseline, inputs)
        self.shared_seconds.append(time.perf_counter() - start)
        runs: list[Sequence[TrialRun]] = []
        for number, setting in enumerate(self.settings):
            observer.stage(f"{label}, trial {number + 1} of {len(self.settings)}")
            measured, judged = _measured(fit, setting, inputs)
            runs.append(measured)
            if by_user:
                for place, each in enumerate(judged):
                    self.judged.setdefault((number, place), []).append(each)
        self.seeds.append(runs)

    def report(self) -> BaselineReport:
        """The points, each over all seeds."""
        name, summary = self.baseline.name, self.baseline.summary
        if not self.settings:
            return BaselineReport(name=name, summary=summary, skipped=_needs(self.baseline))
        return BaselineReport(
            name=name,
            summary=summary,
            points=tuple(
                BaselinePoint(
                    trial=number,
                    place=place,
                    settings=setting.model_dump(mode="json"),
                    offset=offset,
                    runs=tuple(seed[number][place] for seed in self.seeds),
                )
                for number, setting in enumerate(self.settings)
                for place, offset in enumerate(GRID)
            ),
            shared_seconds=statistics.mean(self.shared_seconds),
        )


def _needs(baseline: Baseline[Any]) -> str:
    return f"needs {' and '.join(baseline.missing())}: install the extra `{EXTRA}`"


def _started(baseline: Baseline[Any], inputs: Inputs) -> Fit[Any]:
    """What fits a setting; where nothing can be started, every setting fails for the same reason."""
    try:
        with _full_memory_fails():
            return baseline.start(inputs)
    except TrialFailure as failure:
        reason = str(failure)  # the error itself would keep alive what its frames hold

        def fail(_: Settings) -> NoReturn:
            raise TrialFailure(reason)

        return fail


def _measured(
    fit: Fit[Any], setting: Settings, inputs: Inputs
) -> tuple[list[TrialRun], tuple[UserValues, ...]]:
    """Fit one setting and rank it under each offset of the grid; nobody is judged by one that fails."""
    seed, plan = inputs.config.seed, inputs.prepared.valid_plan
    start = time.perf_counter()
    try:
        with _full_memory_fails():
            found = measured_under_offsets(plan, fit(setting), inputs.item_degree, (IID, OOD))
    except TrialFailure as failure:
        spent = time.perf_counter() - start
        return [TrialRun(seed=seed, metrics={}, seconds=spent, failure=str(failure)) for _ in GRID], ()
    spent = time.perf_counter() - start
    runs = [TrialRun(seed=seed, metrics=metrics, seconds=spent) for metrics, _ in found]
    return runs, tuple(users for _, users in found)


@contextmanager
def _full_memory_fails() -> Iterator[None]:
    """One setting may be too large for the machine while the others are not."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrialFailure(": ".join(["out of memory", *str(error).splitlines()[:1]])) from error
