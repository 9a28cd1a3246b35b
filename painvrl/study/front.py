"""What a study has found so far: tables and counts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from painvrl.core.tables import Block, Result, TextTable, number, numbers
from painvrl.engine.events import Standing
from painvrl.engine.outcomes import point_name
from painvrl.run.distributions import Value
from painvrl.stats.dominance import hypervolume, spread
from painvrl.study.choice.candidates import axes_of
from painvrl.study.choice.picks import Pick
from painvrl.study.choice.selection import iid_only, values_of
from painvrl.study.store.records import (
    TakenFrom,
    TrialRecord,
    TrialState,
    complete,
    feasible,
    finished_here,
    front_of,
    trained,
)
from painvrl.study.store.storage import Attr, StoredStudy
from painvrl.study.store.warm_start import WarmStart, warm_start_of

SHOWN = 20
"""Points of a front that people are shown at once."""


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """A point of a complete trial.

    Attributes:
        trial: the number of its trial.
        name: of the point: ``12``, or ``12.3`` of a swept trial.
        values: of the objectives. metrics: all those of the valid parts.
        preset: the preset that it trained instead of a point.
        violated: what of the study's constraints it breaks.
        taken_from: where it was trained, if not by this study.
    """

    trial: int
    name: str
    run_id: str | None
    values: Mapping[str, float]
    point: Mapping[str, Value]
    metrics: Mapping[str, float]
    preset: str | None = None
    violated: tuple[str, ...] = ()
    taken_from: TakenFrom | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is its trial as the configuration says, and not scored otherwise."""
        return self.name in {point_name(self.trial), point_name(self.trial, 0)}


@dataclass(frozen=True, kw_only=True)
class FrontTable(Result):
    """The front.

    Attributes:
        rows: its points, the best IID first.
        dominated: the other points of complete trials, those that break a constraint among them.
        iid_only: the point that the best IID metric alone would have picked.
        hypervolume: between the front and zero.
        picks: names of points that somebody picked, by alias.
        seeds: that all values are means over.
    """

    study: str
    objectives: tuple[str, ...]
    rows: tuple[FrontRow, ...]
    dominated: tuple[FrontRow, ...]
    iid_only: FrontRow | None
    hypervolume: float
    picks: Mapping[str, str] = field(default_factory=dict)
    seeds: int = 1

    def blocks(self, *, everything: bool = False) -> Iterator[Block]:
        """One row a point, objectives first, then the hyperparameters; the IID-only choice below it.

        Of more than :data:`SHOWN` points so many are shown, and it is said, but where ``everything`` is
        wanted: points that somebody picked, and others that are well spread.
        """
        rows = self.rows if everything else self._spread()
        yield self._table(rows)
        if len(rows) < len(self.rows):
            share = hypervolume([list(row.values.values()) for row in rows]) / (self.hypervolume or 1.0)
            yield (
                f"{len(rows)} of {len(self.rows)} points are shown, with {share:.1%} of the hypervolume "
                "(greedy hypervolume subset, with the best of each objective and every pick); "
                f"`painvrl study front {self.study} --all` shows all"
            )
        if any(len(row.point) < len(self._searched(rows)) for row in rows):
            yield "an empty cell: the point has no such hyperparameter, or its preset's own value"
        if self.iid_only is not None:
            values = numbers(self.iid_only.values)
            yield f"chosen by IID alone, without a look at OOD: trial {self.iid_only.name} ({values})"

    def _spread(self) -> tuple[FrontRow, ...]:
        """At most :data:`SHOWN` of the rows, unless more were picked."""
        if len(self.rows) <= SHOWN:
            return self.rows
        picked = [place for place, row in enumerate(self.rows) if row.name in self.picks.values()]
        values = [[row.values[name] for name in self.objectives] for row in self.rows]
        return tuple(self.rows[place] for place in spread(values, SHOWN, kept=picked))

    @staticmethod
    def _searched(shown: Sequence[FrontRow]) -> list[str]:
        """The hyperparameters that one of the rows has a value of."""
        return sorted({hyperparameter for row in shown for hyperparameter in row.point})

    def _table(self, shown: Sequence[FrontRow]) -> TextTable:
        hyperparameters = self._searched(shown)
        columns: dict[str, Callable[[FrontRow], str]] = {"trial": lambda row: row.name}
        if any(row.preset is not None for row in shown):
            columns["preset"] = lambda row: row.preset or ""
        if any(row.taken_from is not None for row in shown):
            columns["taken over from"] = lambda row: str(row.taken_from or "")
        rows = [
            [
                *(cell(row) for cell in columns.values()),
                *(number(row.values[name]) for name in self.objectives),
                *(number(row.point.get(hyperparameter, "")) for hyperparameter in hyperparameters),
            ]
            for row in shown
        ]
        means = f", means over {self.seeds} seeds" if self.seeds > 1 else ""
        caption = (
            f"front of {self.study}: {counted(self.rows)}, hypervolume {number(self.hypervolume)}{means}"
        )
        return TextTable(columns=[*columns, *self.objectives, *hyperparameters], rows=rows, caption=caption)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value of one objective, and the point that reached it."""

    objective: str
    trial: int
    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that failed, and why."""

    trial: int
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class StudyStatus(Result):
    """How far a study is.

    Attributes:
        requested: finished trials that the last command asked for. finished: complete, pruned or failed,
            those taken over left out.
        counts: trials by state, those without a trial too; those taken over are among them.
        best: among the points that keep to the constraints.
        front_size: points on the front. front_trainings: trials that they are of.
        seconds_per_trial: median over complete trials, tracking included.
        sampler, sampler_reason: of the next trial, as the last command chose it, and why.
        split: the split's statistics as the last run noted it; ``None`` if no run did.
        trained_as: of each preset that was not trained again the trial that had trained the same.
        warm_start: the trials of another study that it began with; ``None`` if it began with none.
    """

    study: str
    objectives: tuple[str, ...]
    requested: int
    finished: int
    counts: Mapping[str, int]
    best: tuple[Best, ...]
    front_size: int
    front_trainings: int
    hypervolume: float
    seconds_per_trial: float | None
    failures: tuple[Failure, ...]
    sampler: str | None = None
    sampler_reason: str | None = None
    split: Mapping[str, object] | None = None
    trained_as: Mapping[str, int] = field(default_factory=dict)
    warm_start: WarmStart | None = None

    @property
    def repeats(self) -> str | None:
        """How often a trial was asked for that had been trained, and which presets were."""
        count = self.counts.get("repeated", 0)
        presets = "".join(f"; preset {name} is trial {trial}" for name, trial in self.trained_as.items())
        return f"asked for again and not trained twice: {count}{presets}" if count else None

    def blocks(self) -> Iterator[Block]:
        """The counts, the best values and the failures."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        yield f"study {self.study}: {counts or 'no trials'}; {self.requested} requested"
        if self.sampler is not None:
            yield f"sampler: {self.sampler} ({self.sampler_reason})"
        if self.warm_start is not None:
            yield f"of these taken over: {self.warm_start}"
        if self.repeats is not None:
            yield self.repeats
        if self.seconds_per_trial is not None:
            yield f"median trial: {self.seconds_per_trial:.1f} s"
        if self.front_size:
            points = f"{self.front_size} points{of_trainings(self.front_size, self.front_trainings)}"
            yield f"front: {points}, hypervolume {number(self.hypervolume)}"
            rows = [[best.objective, number(best.value), best.name] for best in self.best]
            yield TextTable(columns=["objective", "best", "trial"], rows=rows)
        for failure in self.failures:
            yield f"trial {failure.trial} failed ({failure.reason}): {failure.message}"


def counted(rows: Sequence[FrontRow]) -> str:
    """How many points, and of how many trainings where several share one: ``41 points of 6 trainings``."""
    points = f"{len(rows)} point{'' if len(rows) == 1 else 's'}"
    return points + of_trainings(len(rows), len({row.trial for row in rows}))


def of_trainings(points: int, trainings: int) -> str:
    """What stands behind a number of points where several share a training; else nothing."""
    return f" of {trainings} training{'' if trainings == 1 else 's'}" if trainings < points else ""


def front_table(
    study: StoredStudy, picks: Sequence[Pick] = (), records: Sequence[TrialRecord] | None = None
) -> FrontTable:
    """The front of a study, empty if no trial is complete.

    Args:
        study: which.
        picks: those that it has stored.
        records: its trials, where they have been read.
    """
    records = study.trials() if records is None else records
    front = front_of(records)
    axes = axes_of(study.objectives)
    order = study.objectives.index(axes.iid or axes.ood or study.objectives[0])
    members = {record.name for record in front}
    best_first = sorted(front, key=lambda record: -(record.values or ())[order])
    alone = iid_only(study.objectives, records)
    return FrontTable(
        study=study.name,
        objectives=study.objectives,
        rows=tuple(_row(study, record) for record in best_first),
        dominated=tuple(_row(study, record) for record in complete(records) if record.name not in members),
        iid_only=None if alone is None else _row(study, alone),
        hypervolume=_hypervolume(front),
        picks={pick.alias: pick.name for pick in picks},
        seeds=study.identity.seeds,
    )


def status(study: StoredStudy, records: Sequence[TrialRecord] | None = None) -> StudyStatus:
    """How far a study is; ``records``: its trials, where they have been read."""
    records = study.trials() if records is None else records
    counts = Counter(record.state for record in records)
    front = front_of(records)
    seconds = [record.seconds for record in trained(records) if record.seconds is not None]
    return StudyStatus(
        study=study.name,
        objectives=study.objectives,
        requested=study.requested,
        finished=len(finished_here(records)),
        counts={state.value: counts[state] for state in TrialState},
        best=best_of(study.objectives, feasible(records)),
        front_size=len(front),
        front_trainings=len({point.number for point in front}),
        hypervolume=_hypervolume(front),
        seconds_per_trial=statistics.median(seconds) if seconds else None,
        failures=tuple(
            Failure(trial=record.number, reason=record.reason, message=record.message or "")
            for record in records
            if record.reason is not None
        ),
        sampler=study.sampler.get("sampler"),
        sampler_reason=study.sampler.get("reason"),
        split=study.study.user_attrs.get(Attr.SPLIT, {}).get("card"),
        trained_as={
            record.preset: record.repeats
            for record in records
            if record.preset is not None and record.repeats is not None
        },
        warm_start=warm_start_of(study.study),
    )


def standing_of(study: StoredStudy, trial: int = -1) -> Standing:
    """What a study has found so far, with the share of ``trial`` in it."""
    records = study.trials()
    front = front_of(records)
    return Standing(
        on_front=sum(point.number == trial for point in front),
        front_size=len(front),
        hypervolume=_hypervolume(front),
        best={best.objective: best.value for best in best_of(study.objectives, front)},
    )


def best_of(objectives: Sequence[str], records: Sequence[TrialRecord]) -> tuple[Best, ...]:
    """The best of each objective among complete records, the first of equal ones; nothing without records."""
    best = []
    for place, objective in enumerate(objectives if records else ()):
        top = max(records, key=lambda record: (record.values or ())[place])
        value = (top.values or ())[place]
        best.append(Best(objective=objective, trial=top.number, name=top.name, value=value))
    return tuple(best)


def _row(study: StoredStudy, record: TrialRecord) -> FrontRow:
    return FrontRow(
        trial=record.number,
        name=record.name,
        run_id=record.run_id,
        values=values_of(study.objectives, record),
        point=dict(record.point),
        metrics=dict(record.metrics),
        preset=record.preset,
        violated=record.violated,
        taken_from=record.taken_from,
    )


def _hypervolume(front: tuple[TrialRecord, ...]) -> float:
    return hypervolume([list(record.values or ()) for record in front])
