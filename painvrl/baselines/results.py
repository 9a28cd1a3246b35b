"""What tuning the baselines came to: every point on every seed, the best ones, and the front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from painvrl.baselines.offsets import Offset
from painvrl.data.split_statistics import SplitStatistics
from painvrl.engine.outcomes import point_name
from painvrl.evaluation.metrics import name as metric_name
from painvrl.run.distributions import Value
from painvrl.stats.dominance import non_dominated
from painvrl.stats.intervals import Interval

CUTOFF = 20
IID, OOD = (metric_name(part, "ndcg", CUTOFF) for part in ("iid", "ood"))
"""What points are chosen by, in the mean over seeds: the best of each, and all that no other beats on
both."""


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One point on one seed's split.

    Attributes:
        metrics: of the valid parts, ``iid/...`` and ``ood/...``; empty if it failed.
        seconds: to fit the setting and rank all its points, without what all settings share; of one that
            failed none.
        failure: why it failed.
    """

    seed: int
    metrics: Mapping[str, float]
    seconds: float | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaselinePoint:
    """One setting under one offset, on every seed's split.

    Attributes:
        trial: the number of the setting.
        place: of the offset in the grid; at 0 is the plain model.
        settings: of the baseline.
        offset: in units of the scores' own spread.
        runs: a seed each.
    """

    trial: int
    place: int
    settings: Mapping[str, Value]
    offset: Offset
    runs: tuple[TrialRun, ...]

    @property
    def name(self) -> str:
        """``3.1``, as the points of a study are called."""
        return point_name(self.trial, self.place)

    @property
    def complete(self) -> bool:
        """Whether it was measured on every seed."""
        return all(run.failure is None for run in self.runs)

    @property
    def seconds(self) -> float:
        """To fit the setting and rank all its points, in the mean over seeds; only of a complete point."""
        return statistics.mean(run.seconds for run in self.runs if run.seconds is not None)

    def mean(self, metric: str) -> float:
        """Over seeds; only of a complete point."""
        return statistics.mean(run.metrics[metric] for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class BaselineReport:
    """A baseline's points, or why there are none.

    Attributes:
        points: trial by trial, each in the order of the grid.
        shared_seconds: what all settings share, in the mean over seeds.
        skipped: why the baseline did not run.
    """

    name: str
    summary: str
    points: tuple[BaselinePoint, ...] = ()
    shared_seconds: float = 0.0
    skipped: str | None = None

    @property
    def trials(self) -> int:
        """How many settings were tried."""
        return len({point.trial for point in self.points})

    def front(self) -> tuple[BaselinePoint, ...]:
        """The complete points that no other beats on both means, from the best IID down.

        Of points with equal means the first: an offset may move nothing.
        """
        found: dict[tuple[float, ...], BaselinePoint] = {}
        for point in self.points:
            if point.complete:
                found.setdefault(tuple(point.mean(metric) for metric in (IID, OOD)), point)
        member = non_dominated(list(found))
        kept = [means for means, on_front in zip(found, member, strict=True) if on_front]
        return tuple(found[means] for means in sorted(kept, reverse=True))

    def best(self, metric: str) -> BaselinePoint | None:
        """The point of the front with the greatest mean; None if no point is complete."""
        return max(self.front(), key=lambda point: point.mean(metric), default=None)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values: every point with every run; points are named."""
        best = {metric: point and point.name for metric in (IID, OOD) for point in [self.best(metric)]}
        return {
            **asdict(self),
            "points": [{"name": point.name, **asdict(point)} for point in self.points],
            "best": best,
            "front": [point.name for point in self.front()],
        }


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """A baseline's point against the own point whose worse side, IID or OOD, is best.

    Attributes:
        rival: the baseline's. own: the own one.
        iid, ood: NDCG of the own point less the baseline's.
        beats: own points of the front that the baseline's point surely beats.
    """

    baseline: str
    rival: BaselinePoint
    own: BaselinePoint
    iid: Interval
    ood: Interval
    beats: tuple[BaselinePoint, ...]

    @property
    def verdict(self) -> Literal["ahead", "behind", "neither"]:
        """Whether the own point is surely ahead on both, or behind on both."""
        if min(self.iid.low, self.ood.low) > 0:
            return "ahead"
        return "behind" if max(self.iid.high, self.ood.high) < 0 else "neither"

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        named = {
            "point": self.rival.name,
            "own": self.own.name,
            "beats": [point.name for point in self.beats],
        }
        differences = {"iid": asdict(self.iid), "ood": asdict(self.ood), "verdict": self.verdict}
        return {"baseline": self.baseline, **named, **differences}


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """All baselines on the same splits.

    ``split``: the protocol. ``trials``: settings tried of each baseline, at most. ``comparisons``: every
    point of the baselines' fronts against the reference model, which then stands first among the baselines.
    ``splits``: of the split of each seed. ``link`` shows the runs in MLflow's UI.
    """

    data: str
    split: str
    seeds: tuple[int, ...]
    trials: int
    baselines: tuple[BaselineReport, ...]
    comparisons: tuple[PairedComparison, ...] = ()
    splits: tuple[SplitStatistics, ...] = ()
    link: str | None = None

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        own = {"data": self.data, "split": self.split, "seeds": list(self.seeds), "trials": self.trials}
        listed = {"baselines": [one.as_dict() for one in self.baselines]}
        splits = {"splits": [statistics.as_dict() for statistics in self.splits]}
        comparisons = {"comparisons": [one.as_dict() for one in self.comparisons]}
        return {**own, **splits, "chosen_by": [IID, OOD], **listed, **comparisons}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the data looks wrong under any of the seeds, a sentence each."""
        return tuple(
            dict.fromkeys(text for statistics in self.splits for text in statistics.provenance.warnings)
        )
