"""What tuning the baselines came to: every trial on every seed, the best ones, and the front."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from painvrl.data.card import SplitCard
from painvrl.evaluation.bootstrap import Difference
from painvrl.evaluation.metrics import name as metric_name
from painvrl.study.file.space import Value
from painvrl.study.front import non_dominated

CUTOFF = 20
IID, OOD = (metric_name(part, "ndcg", CUTOFF) for part in ("iid", "ood"))
"""What trials are chosen by, in the mean over seeds: the best of each, and all that no other beats on
both."""


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One setting on one seed's split.

    Attributes:
        metrics: of the valid parts, ``iid/...`` and ``ood/...``; empty if it failed.
        seconds: to fit and rank, without what all settings share.
        failure: why it failed.
    """

    seed: int
    metrics: Mapping[str, float]
    seconds: float
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class BaselineTrial:
    """One setting on every seed's split."""

    settings: Mapping[str, Value]
    runs: tuple[TrialRun, ...]

    @property
    def complete(self) -> bool:
        """Whether it was measured on every seed."""
        return all(run.failure is None for run in self.runs)

    @property
    def seconds(self) -> float:
        """To fit and rank, in the mean over seeds."""
        return statistics.mean(run.seconds for run in self.runs)

    def mean(self, metric: str) -> float:
        """Over seeds; only of a complete trial."""
        return statistics.mean(run.metrics[metric] for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class BaselineReport:
    """A baseline's trials, or why there are none.

    Attributes:
        shared_seconds: what all settings share, in the mean over seeds.
        skipped: why the baseline did not run.
    """

    name: str
    summary: str
    trials: tuple[BaselineTrial, ...] = ()
    shared_seconds: float = 0.0
    skipped: str | None = None

    def front(self) -> tuple[int, ...]:
        """Numbers of the complete trials that no other beats on both means, from the best IID down."""
        done = [number for number, trial in enumerate(self.trials) if trial.complete]
        means = [[self.trials[number].mean(metric) for metric in (IID, OOD)] for number in done]
        kept = [number for number, on_front in zip(done, non_dominated(means), strict=True) if on_front]
        return tuple(sorted(kept, key=lambda number: -self.trials[number].mean(IID)))

    def best(self, metric: str) -> int | None:
        """The trial of the front with the greatest mean; None if no trial is complete."""
        return max(self.front(), key=lambda number: self.trials[number].mean(metric), default=None)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values: every trial with every run."""
        chosen = {"best": {metric: self.best(metric) for metric in (IID, OOD)}, "front": list(self.front())}
        return {**asdict(self), **chosen}


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A baseline's trial against the own trial whose worse side, IID or OOD, is best.

    Attributes:
        trial: the baseline's, by number. own: the own one.
        iid, ood: NDCG of the own trial less the baseline's.
        beats: own trials of the front that the baseline's trial surely beats.
    """

    baseline: str
    trial: int
    own: int
    iid: Difference
    ood: Difference
    beats: tuple[int, ...]

    @property
    def verdict(self) -> Literal["ahead", "behind", "neither"]:
        """Whether the own trial is surely ahead on both, or behind on both."""
        if min(self.iid.low, self.ood.low) > 0:
            return "ahead"
        return "behind" if max(self.iid.high, self.ood.high) < 0 else "neither"

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """All baselines on the same splits.

    ``split``: the protocol. ``trials``: settings tried of each baseline, at most. ``duels``: every trial of
    the baselines' fronts against the file's own model, which then stands first among the baselines.
    ``cards``: of the split of each seed.
    """

    data: str
    split: str
    seeds: tuple[int, ...]
    trials: int
    baselines: tuple[BaselineReport, ...]
    duels: tuple[Duel, ...] = ()
    cards: tuple[SplitCard, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        own = {"data": self.data, "split": self.split, "seeds": list(self.seeds), "trials": self.trials}
        listed = {"baselines": [one.as_dict() for one in self.baselines]}
        splits = {"splits": [card.as_dict() for card in self.cards]}
        duels = {"duels": [one.as_dict() for one in self.duels]}
        return {**own, **splits, "chosen_by": [IID, OOD], **listed, **duels}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the data looks wrong under any of the seeds, a sentence each."""
        return tuple(dict.fromkeys(text for card in self.cards for text in card.provenance.warnings))
