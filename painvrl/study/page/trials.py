"""What every section of the report reads: a study's trials, sorted by what they are good for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from painvrl.study.choice.selection import axes_of
from painvrl.study.file.space import Distribution
from painvrl.study.store.records import TrialRecord, feasible, front_of
from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Trials:
    """A study's trials.

    Attributes:
        objectives: names of what was maximised.
        space: the knobs.
        records: all trials, by number.
        feasible: the complete ones that keep to the constraints.
        front: the feasible ones that no other dominates.
        searched: the feasible ones that trained a point of the space, not a preset.
        iid, ood: the two metrics that the report weighs against each other; ``None`` where not
            every feasible trial has one.
    """

    objectives: tuple[str, ...]
    space: Mapping[str, Distribution]
    records: tuple[TrialRecord, ...]
    feasible: tuple[TrialRecord, ...]
    front: tuple[TrialRecord, ...]
    searched: tuple[TrialRecord, ...]
    iid: str | None
    ood: str | None

    @property
    def on_front(self) -> frozenset[int]:
        """Numbers of the trials on the front."""
        return frozenset(record.number for record in self.front)


def trials_of(study: StoredStudy) -> Trials:
    """Read a study's trials."""
    return sorted_trials(study.trials(), study.objectives, study.space.root)


def sorted_trials(
    records: tuple[TrialRecord, ...], objectives: tuple[str, ...], space: Mapping[str, Distribution]
) -> Trials:
    """Sort ``records`` by what they are good for."""
    good = tuple(feasible(records))
    axes = axes_of(objectives)
    iid = axes.iid or _counterpart("iid", axes.ood or "")
    ood = axes.ood or _counterpart("ood", axes.iid or "")
    return Trials(
        objectives=objectives,
        space=space,
        records=records,
        feasible=good,
        front=front_of(records),
        searched=tuple(record for record in good if record.preset is None and record.point),
        iid=iid if _measured(good, iid) else None,
        ood=ood if _measured(good, ood) else None,
    )


def name_of(record: TrialRecord) -> str:
    """A trial as pictures and tables call it."""
    return f"trial {record.number}" + (f" ({record.preset})" if record.preset else "")


def _counterpart(part: str, metric: str) -> str:
    """The metric of another part: it is measured even where it is no objective."""
    return f"{part}/{metric.partition('/')[2]}"


def _measured(records: Iterable[TrialRecord], metric: str) -> bool:
    return all(metric in record.metrics for record in records)
