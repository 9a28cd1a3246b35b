"""What every section of the report reads: a study's trials, sorted by what they are good for.

There are two views of them. A *training* is a trial that trained a model: it took time, was sampled, and has
environments and a mask. A *point* is a training at values of what acts after it: it has objectives, and may
be on the front. Where nothing was swept each training is its own only point.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from painvrl.run.distributions import Distribution
from painvrl.study.choice.candidates import axes_of
from painvrl.study.store.records import TrialRecord, feasible, front_of, trained
from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Trials:
    """A study's trials.

    Attributes:
        objectives: names of what was maximised.
        space: the knobs. sampled: those of them whose values a training was made with.
        records: all trials, by number.
        points: those that keep to the constraints.
        front: the points that no other dominates.
        trainings: the complete trials that one of the points is of.
        searched: those of them that trained a point of the space, not a preset.
        iid, ood: the two metrics that the report weighs against each other; ``None`` where not
            every point has one.
    """

    objectives: tuple[str, ...]
    space: Mapping[str, Distribution]
    sampled: Mapping[str, Distribution]
    records: tuple[TrialRecord, ...]
    points: tuple[TrialRecord, ...]
    front: tuple[TrialRecord, ...]
    trainings: tuple[TrialRecord, ...]
    searched: tuple[TrialRecord, ...]
    iid: str | None
    ood: str | None

    @property
    def on_front(self) -> frozenset[str]:
        """Names of the points on the front."""
        return frozenset(point.name for point in self.front)

    @property
    def of_front(self) -> tuple[TrialRecord, ...]:
        """The trainings with a point on the front."""
        numbers = {point.number for point in self.front}
        return tuple(training for training in self.trainings if training.number in numbers)

    @property
    def swept(self) -> bool:
        """Whether a training has points of its own."""
        return any(training.points for training in self.trainings)


def trials_of(study: StoredStudy) -> Trials:
    """Read a study's trials."""
    return sorted_trials(study.trials(), study.objectives, study.space.root, study.swept)


def sorted_trials(
    records: tuple[TrialRecord, ...],
    objectives: tuple[str, ...],
    space: Mapping[str, Distribution],
    swept: Container[str] = (),
) -> Trials:
    """Sort ``records`` by what they are good for; ``swept``: the knobs that act after training."""
    good = tuple(feasible(records))
    axes = axes_of(objectives)
    iid = axes.iid or _counterpart("iid", axes.ood or "")
    ood = axes.ood or _counterpart("ood", axes.iid or "")
    of_good = {point.number for point in good}
    trainings = tuple(record for record in trained(records) if record.number in of_good)
    sampled = {path: knob for path, knob in space.items() if path not in swept}
    return Trials(
        objectives=objectives,
        space=space,
        sampled=sampled,
        records=records,
        points=good,
        front=front_of(records),
        trainings=trainings,
        searched=tuple(
            record for record in trainings if record.preset is None and record.point.keys() & sampled.keys()
        ),
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
