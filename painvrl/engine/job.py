"""A job: what is to be computed, on what data, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

from painvrl.core.tables import TextTable
from painvrl.engine.outcomes import Outcome
from painvrl.engine.sweep import Scored, Sweep
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point

OnRung: TypeAlias = Callable[[str, Mapping[str, float]], str | None]
"""Called at a rung with the valid metrics there; says why the trial is to stop, or ``None``."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a trial computes. ``number``, ``point`` and ``preset`` are for people; ``config`` decides all.

    ``key``: what the worker that trains it keeps its outcome under; a study's name for its trials. ``rungs``:
    where it is to be judged, as ``training/epoch``. ``timeout``: seconds that it may take; looked at when a
    stage begins and at every evaluation. ``sweep``: what is tried on the trained model; ``at``: points of
    what acts after training, at which it is scored instead, as another training has found them. ``seeds``:
    how often it is trained, under the configuration's seed and those after it; it comes to the means.
    ``run_id``: the tracker's run of an attempt that was interrupted; it goes on.
    """

    number: int
    point: Point
    config: TrainConfig
    key: str = ""
    rungs: frozenset[str] = frozenset()
    timeout: float | None = None
    preset: str | None = None
    sweep: Sweep | None = None
    at: tuple[Point, ...] = ()
    seeds: int = 1
    run_id: str | None = None

    @property
    def weighs_a_branch(self) -> bool:
        """Whether a point of the trial may weigh a branch that the configuration itself leaves out."""
        path = "fusion.variant_weight"
        swept = self.sweep is not None and path in self.sweep.hyperparameters
        return swept or any(point.get(path) for point in self.at)

    @property
    def trial(self) -> int:
        """What people call the trial."""
        return self.number

    @property
    def run_name(self) -> str:
        """What a tracker calls its run, after the study's name."""
        return f"{self.number:03d}"

    @property
    def seed(self) -> int:
        """The seed of split and initialisation: the study's own, so that all trials share the split."""
        return self.config.seed

    def repeated(self, scored: Sequence[Scored]) -> Iterator[Job]:
        """The same training under each further seed, scored at the points that were found under the first.

        Nothing is judged there: it has passed its rungs.
        """
        at = tuple(one.point.values for one in scored)
        for seed in range(self.seed + 1, self.seed + self.seeds):
            config = self.config.model_copy(update={"seed": seed})
            yield replace(self, config=config, at=at, rungs=frozenset())


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What a study's trials are trained on.

    Attributes:
        fingerprint: of the data set's content and of the split, test parts included.
        tables: the split's statistics, what filters took and what was joined, for people.
        statistics: the split's statistics as JSON-ready values.
        warnings: what of the data looks wrong, a sentence each.
        parts: what the metrics of the valid parts are called before their slash; empty if unknown.
        all_seeds: digest of what the data are under every seed.
        numbers: digest of code and device; see :func:`painvrl.run.pretrained.numbers_of`.
    """

    fingerprint: str
    tables: tuple[TextTable, ...] = ()
    statistics: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    all_seeds: str = ""
    numbers: str = ""


class Objective(Protocol):
    """Computes trials on the data that it names."""

    @property
    def data(self) -> DataSummary:
        """The data behind every trial."""

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        """Compute one job. A failure of its configuration is an outcome; other errors may come out."""
