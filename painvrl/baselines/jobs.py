"""Fitting one setting of a baseline on one split: the job, and what computes it.

Settings of one baseline share what is done once a split (an index, a decomposition, a training), and all
baselines share the split. Both stay until a job wants others, so jobs of one kind should follow each other.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from painvrl.baselines.offsets import GRID, measured_under_offsets
from painvrl.baselines.port import Baseline, Fit, Inputs
from painvrl.baselines.results import IID, OOD
from painvrl.core.device import is_out_of_memory
from painvrl.core.errors import ConfigError, TrialFailure
from painvrl.core.registry import foreign_sources
from painvrl.core.settings import Settings
from painvrl.data.digest import digest_of
from painvrl.engine.grid import Cell
from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, Failed, Outcome, SweptPoint
from painvrl.engine.saved import RunStore, SavedRun, run_key
from painvrl.engine.training import summary_of
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import prepare

START, FIT = "start", "fit"
"""What takes time: what all settings share, which the job has that met it first, and one setting with the
ranking of all its points."""


@dataclass(frozen=True, kw_only=True)
class BaselineJob(Job):
    """One setting of a baseline under the seed of its configuration.

    ``place``: the number of the setting among those of its baseline.
    """

    baseline: Baseline[Any]
    setting: Settings
    place: int

    @property
    def trial(self) -> int:
        """Settings are counted by baseline, as in the table."""
        return self.place

    @property
    def run_name(self) -> str:
        """Baseline, setting and seed."""
        return f"{self.baseline.name}-{self.place}-seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class BaselineCell(Cell):
    """A run of the grid of all settings and seeds."""

    job: BaselineJob


def key_of(job: BaselineJob, data: DataSummary, *, by_user: bool) -> str:
    """What a job's run is kept under: equal only where the same is computed."""
    of_users = (IID, OOD) if by_user else ()
    grid = [[one.popularity, one.cold] for one in GRID]
    versions = _versions(("numpy", "scipy", *job.baseline.modules))
    return digest_of(
        run_key(job.config, data, of_users, 0),
        job.baseline.name,
        job.setting.model_dump(mode="json"),
        grid,
        foreign_sources(job.baseline),
        versions,
    )


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """The packages that bring each module. Looking through all that is installed takes seconds."""
    return packages_distributions()


def _versions(modules: Iterable[str]) -> list[list[str]]:
    """The releases of the packages that bring these modules; one that no package brings has none."""
    of_module = _distributions()
    return [[name, version(name)] for module in modules for name in sorted(set(of_module.get(module, ())))]


class BaselineObjective:
    """Fits settings of baselines, ranks each under all offsets, and keeps what came out.

    Args:
        config: of the first jobs; its data are described.
        cache_dir: of prepared data.
        device: where ranking computes, and whatever of a baseline is written in torch.
        store: where complete runs go.
        by_user: keep what each user has got as well.

    Raises:
        UserError: the data are missing or break a rule, or the split keeps users out of training, whom a
            baseline would know nothing of.
    """

    def __init__(
        self, config: TrainConfig, *, cache_dir: Path, device: torch.device, store: RunStore, by_user: bool
    ) -> None:
        self._cache_dir = cache_dir
        self._device = device
        self._store = store
        self._of_users = (IID, OOD) if by_user else ()
        self._inputs = self._inputs_of(config)
        self._started: _Started | None = None
        self.data: DataSummary = summary_of(self._inputs.prepared)

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        """Fit one setting; one that fails is an outcome, and any other error comes out."""
        assert isinstance(job, BaselineJob)
        if job.config != self._inputs.config:
            on_stage("data")
            self._started = None  # what it holds makes room for the next split
            self._inputs = self._inputs_of(job.config)
        seconds = {}
        if self._started is None or self._started.name != job.baseline.name:
            on_stage(START)
            self._started = None
            self._started = _start(job.baseline, self._inputs)
            seconds[START] = self._started.seconds
        on_stage(FIT)
        start = time.perf_counter()
        try:
            with _full_memory_fails():
                measured = measured_under_offsets(
                    self._inputs.prepared.valid_plan,
                    self._started.fit(job.setting),
                    self._inputs.item_degree,
                    self._of_users,
                )
        except TrialFailure as failure:
            return Failed(reason=failure.reason, message=str(failure))
        seconds[FIT] = time.perf_counter() - start
        points = tuple(
            SweptPoint(values={"popularity": one.popularity, "cold": one.cold}, metrics=metrics)
            for one, (metrics, _) in zip(GRID, measured, strict=True)
        )
        outcome = Completed(metrics=points[0].metrics, points=points, seconds=seconds)
        self._store.store(job.key, _kept(outcome, [users for _, users in measured]))
        return outcome

    def _inputs_of(self, config: TrainConfig) -> Inputs:
        prepared = prepare(config, cache_dir=self._cache_dir, device=self._device)
        if prepared.split.support is not None:
            raise ConfigError(
                "baselines need a split whose users all have training rows; they do not fold users in",
                key="split.protocol",
                value=config.split.protocol,
            )
        return Inputs(config, prepared)


def users_of(run: SavedRun, place: int) -> UserValues:
    """What each user has got at one of the offsets of a run that was kept by user."""
    values = {name: of_points[place] for name, of_points in run.values.items()}
    return UserValues(users=run.users, values=values, means=run.means)


def _kept(outcome: Completed, users: Sequence[UserValues]) -> SavedRun:
    """The run with its users' values ``[G, U]``, a row an offset."""
    values = {name: np.stack([each.values[name] for each in users]) for name in users[0].values}
    return SavedRun(outcome=outcome, users=users[0].users, values=values, means=users[0].means)


@dataclass(frozen=True)
class _Started:
    """What all settings of a baseline share on a split, and the seconds that it took."""

    name: str
    fit: Fit[Any]
    seconds: float


def _start(baseline: Baseline[Any], inputs: Inputs) -> _Started:
    """What fits a setting; where nothing can be started, every setting fails for the same reason."""
    start = time.perf_counter()
    try:
        with _full_memory_fails():
            fit = baseline.start(inputs)
    except TrialFailure as failure:
        reason = str(failure)  # the error itself would keep alive what its frames hold

        def fit(_: Settings) -> NoReturn:
            raise TrialFailure(reason)

    return _Started(baseline.name, fit, time.perf_counter() - start)


@contextmanager
def _full_memory_fails() -> Iterator[None]:
    """One setting may be too large for the machine while the others are not."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrialFailure(": ".join(["out of memory", *str(error).splitlines()[:1]])) from error
