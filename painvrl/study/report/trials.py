"""What every section of the report reads: a study's trials, sorted by what they are good for.

There are two views of them. A *training* is a trial that trained a model: it took time, was sampled, and has
environments and a mask. A *point* is a training at values of what acts after it: it has objectives, and may
be on the front. Where nothing was swept each training is its own only point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from painvrl.run.distributions import Distribution
from painvrl.study.choice.candidates import axes_of
from painvrl.study.store.records import TrialRecord, feasible, front_of, trained
from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Trials:
    """A study's trials.

    Attributes:
        objectives: names of what was maximised.
        space: the hyperparameters. sampled: those of them whose values a training was made with.
        records: all trials, by number.
    """

    objectives: tuple[str, ...]
    space: Mapping[str, Distribution]
    sampled: Mapping[str, Distribution]
    records: tuple[TrialRecord, ...]

    @cached_property
    def points(self) -> tuple[TrialRecord, ...]:
        """Those that keep to the constraints."""
        return tuple(feasible(self.records))

    @cached_property
    def front(self) -> tuple[TrialRecord, ...]:
        """The points that no other dominates."""
        return front_of(self.records)

    @cached_property
    def on_front(self) -> frozenset[str]:
        """Names of the points on the front."""
        return frozenset(point.name for point in self.front)

    @cached_property
    def trainings(self) -> tuple[TrialRecord, ...]:
        """The complete trials that one of the points is of."""
        numbers = {point.number for point in self.points}
        return tuple(record for record in trained(self.records) if record.number in numbers)

    @cached_property
    def searched(self) -> tuple[TrialRecord, ...]:
        """Those of them that trained a point of the space, not a preset."""
        by_space = [record for record in self.trainings if record.preset is None]
        return tuple(record for record in by_space if record.point.keys() & self.sampled.keys())

    @cached_property
    def of_front(self) -> tuple[TrialRecord, ...]:
        """The trainings with a point on the front."""
        numbers = {point.number for point in self.front}
        return tuple(training for training in self.trainings if training.number in numbers)

    @cached_property
    def swept(self) -> bool:
        """Whether a training has points of its own."""
        return any(training.points for training in self.trainings)

    @cached_property
    def iid(self) -> str | None:
        """The IID metric that the report weighs against the OOD one; ``None`` where a point has none.

        It is an objective, or the counterpart of one, which is measured even where it is no objective.
        """
        iid, ood = axes_of(self.objectives)
        return self._measured(iid or f"iid/{(ood or '').partition('/')[2]}")

    @cached_property
    def ood(self) -> str | None:
        """The OOD metric, as well."""
        iid, ood = axes_of(self.objectives)
        return self._measured(ood or f"ood/{(iid or '').partition('/')[2]}")

    def _measured(self, metric: str) -> str | None:
        return metric if all(metric in point.metrics for point in self.points) else None


def trials_of(study: StoredStudy) -> Trials:
    """Read a study's trials."""
    return Trials(
        objectives=study.objectives,
        space=study.space.root,
        sampled=study.sampled.root,
        records=study.trials(),
    )


def name_of(record: TrialRecord) -> str:
    """A trial as pictures and tables call it."""
    return f"trial {record.number}" + (f" ({record.preset})" if record.preset else "")
