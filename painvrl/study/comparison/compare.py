"""Comparing two studies: their fronts side by side, and whether the second one regressed.

The rule: B regressed if the whole interval of the relative difference of hypervolumes lies below ``-margin``.

A study that tried more points finds more, whoever wrote the code. So the difference is one of the first
``n`` finished trials of both, where ``n`` is what the smaller one has; pruned and failed trials count, since
they were paid for. Trials that were taken over from another study do not: it would be compared with itself.
A trial that was swept counts once, whatever its points: it was trained once. The table
shows both studies as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.core.rng import derive_seed
from painvrl.core.tables import Block, Result, TextTable, number
from painvrl.engine.user_value_store import UserStore
from painvrl.evaluation.metrics import list_wise
from painvrl.evaluation.user_draws import drawn_volumes, same_users
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import additive_epsilon, coverage, hypervolume
from painvrl.stats.intervals import Bounded
from painvrl.stats.volume_gap import gap
from painvrl.study.choice.rules import KNEE
from painvrl.study.choice.selection import Placed, candidates_of, placed, values_of
from painvrl.study.front import Best, best_of
from painvrl.study.store.records import FINISHED, TrialRecord, feasible, finished_here, front_of, trained
from painvrl.study.store.storage import StoredStudy

DRAWS = 1000
MIN_TRIALS = 10
"""With fewer trials the interval is a rough one: see the lab book."""

Users = Literal["paired", "independent", "unknown"]


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """A study to compare, what its users got, and where it lies (for people)."""

    study: StoredStudy
    users: UserStore
    where: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two studies, all its trials counted.

    Attributes:
        where: its workspace or storage.
        finished, complete: trials. taken_over: those of them that another study has trained.
        front: the best first objective first.
        ends: the front's best of each objective.
        knee: the trial that the rule ``knee`` picks.
        hypervolume: between the front and zero.
    """

    study: str
    where: str
    finished: int
    complete: int
    front: tuple[Placed, ...]
    ends: tuple[Best, ...]
    knee: Placed
    hypervolume: float
    taken_over: int = 0


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """What the comparison of A and B came to.

    Attributes:
        differences: between the studies beside their trials, a phrase each, from A to B.
        coverage_by_a, coverage_by_b: the share of the other's front that A's, or B's, equals or dominates.
        epsilon_of_a, epsilon_of_b: what every objective of A's, or B's, front lacks to cover the other's.
        trials: of each study, the first finished ones whose hypervolumes are compared.
        same_points: how many of them both studies tried.
        users: how other users were drawn for the interval; ``unknown``: not at all, for want of their values.
        absolute, relative: hypervolume of B less that of A; ``relative`` is ``None`` where A has none.
        level: of their intervals. margin: what B may lose.
        regressed: the whole interval of ``relative`` lies below ``-margin``.
        notes: what to know about it, a sentence each.
    """

    a: Side
    b: Side
    objectives: tuple[str, ...]
    differences: tuple[str, ...]
    coverage_by_a: float
    coverage_by_b: float
    epsilon_of_a: float
    epsilon_of_b: float
    trials: int
    same_points: int
    users: Users
    absolute: Bounded
    relative: Bounded | None
    level: float
    margin: float
    regressed: bool
    notes: tuple[str, ...]

    @property
    def rule(self) -> str:
        """What B's front would have to do to count as regressed."""
        return (
            f"B regressed if the whole {self.level:.0%} interval of the relative difference lies below "
            f"{-self.margin if self.margin else 0:.1%}"
        )

    def blocks(self) -> Iterator[Block]:
        """Both fronts side by side, what each attains of the other, and the difference."""
        yield TextTable(columns=["", "A", "B"], rows=list(self._rows()), caption="two fronts")
        for phrase in self.differences:
            yield f"from A to B: {phrase}"
        if not self.differences:
            yield "A and B have the same data, configuration and space"
        users = {
            "paired": "the same users drawn for both",
            "independent": "users drawn for each",
            "unknown": "users not drawn",
        }[self.users]
        yield (
            f"hypervolume of B less that of A, {self.trials} trials each "
            f"({self.same_points} at the same points, {users}): {self.absolute:+.3g}, "
            f"relative {'-' if self.relative is None else f'{self.relative:+.1%}'}"
        )
        for note in self.notes:
            yield f"note: {note}"
        yield f"{'regressed' if self.regressed else 'not regressed'}: {self.rule}"

    def _rows(self) -> Iterator[list[str]]:
        sides = (self.a, self.b)
        yield ["study", *(side.study for side in sides)]
        yield ["workspace", *(side.where for side in sides)]
        yield ["finished trials", *(str(side.finished) for side in sides)]
        yield ["complete trials", *(str(side.complete) for side in sides)]
        yield ["points on the front", *(str(len(side.front)) for side in sides)]
        for ends in zip(self.a.ends, self.b.ends, strict=True):
            yield [f"best {ends[0].objective}", *(f"{number(end.value)} (trial {end.name})" for end in ends)]
        yield ["knee", *(f"trial {side.knee.name}" for side in sides)]
        for name in self.objectives:
            yield [f"knee's {name}", *(number(side.knee.values[name]) for side in sides)]
        yield ["hypervolume", *(number(side.hypervolume) for side in sides)]
        yield ["share of the other front attained", f"{self.coverage_by_a:.0%}", f"{self.coverage_by_b:.0%}"]
        yield ["lacks to attain all of it", number(self.epsilon_of_a), number(self.epsilon_of_b)]


def compare(
    a: ComparedStudy, b: ComparedStudy, *, margin: float = 0.0, level: float = 0.95, draws: int = DRAWS
) -> Comparison:
    """Compare two studies of the same objectives.

    Args:
        a: what was.
        b: what is.
        margin: the share of A's hypervolume that B may lose.
        level: of the intervals.
        draws: samples of users.

    Raises:
        ConfigError: ``margin``, ``level`` or ``draws`` is out of range.
        StudyError: the objectives are not the same.
        NothingFeasible: one of them has no feasible trial.
    """
    _check(margin, level, draws)
    objectives = a.study.objectives
    if set(objectives) != set(b.study.objectives):
        rule = f"the fronts do not compare: {a.study.name!r} has the objectives {', '.join(objectives)}"
        raise StudyError(rule, key=b.study.name, value=", ".join(b.study.objectives))
    records = a.study.trials(), b.study.trials()
    sides = tuple(_side(one, own) for one, own in zip((a, b), records, strict=True))
    front_a, front_b = (_table(objectives, side.front) for side in sides)
    finished = [finished_here(own) for own in records]
    trials = min(len(own) for own in finished)
    if trials == 0:
        (name,) = [one.study.name for one, own in zip((a, b), finished, strict=True) if not own][:1]
        raise StudyError("has no trial of its own: all were taken over from another study", key=name)
    first_a, first_b = (own[:trials] for own in finished)
    pairs = _same_points(first_a, first_b)
    users, drawn, why = _draw(a, b, first_a, first_b, draws)
    absolute, relative = gap(
        _values(a.study, first_a),
        _values(b.study, first_b),
        pairs=pairs,
        draws=drawn,
        level=level,
    )
    return Comparison(
        a=sides[0],
        b=sides[1],
        objectives=objectives,
        differences=_differences(a.study, b.study),
        coverage_by_a=coverage(front_a, front_b),
        coverage_by_b=coverage(front_b, front_a),
        epsilon_of_a=additive_epsilon(front_a, front_b),
        epsilon_of_b=additive_epsilon(front_b, front_a),
        trials=trials,
        same_points=len(pairs),
        users=users,
        absolute=absolute,
        relative=relative,
        level=level,
        margin=margin,
        regressed=relative is not None and relative.high is not None and relative.high < -margin,
        notes=(*why, *_notes(a, b, sides, trials, relative)),
    )


def _check(margin: float, level: float, draws: int) -> None:
    if not 0 <= margin < 1:
        raise ConfigError("must be a share from 0 to below 1", key="margin", value=margin)
    if not 0.5 <= level < 1:
        raise ConfigError("must be a share from 0.5 to below 1", key="level", value=level)
    if draws < 2:
        raise ConfigError("must be at least 2", key="draws", value=draws)


def _values(study: StoredStudy, records: Sequence[TrialRecord]) -> NDArray[np.float64]:
    """``[T, P, M]`` in the study's order, which no volume depends on: feasible points, then zeros."""
    of_trial = defaultdict[int, list[tuple[float, ...]]](list)
    for point in feasible(records):
        of_trial[point.number].append(point.values or ())
    most = max(map(len, of_trial.values()), default=1)
    table = np.zeros((len(records), most, len(study.objectives)))
    for row, record in enumerate(records):
        if points := of_trial.get(record.number):
            table[row, : len(points)] = points
    return table


def _same_points(a: Sequence[TrialRecord], b: Sequence[TrialRecord]) -> list[tuple[int, int]]:
    """Rows of both that tried the same point, in their order; a point tried twice pairs twice."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(b):
        waiting[_name_of(record)].append(row)
    return [
        (row, waiting[key].pop(0)) for row, record in enumerate(a) if waiting.get(key := _name_of(record))
    ]


def _name_of(record: TrialRecord) -> str:
    return repr((record.preset, sorted(record.point.items())))


def _draw(
    a: ComparedStudy,
    b: ComparedStudy,
    first_a: Sequence[TrialRecord],
    first_b: Sequence[TrialRecord],
    draws: int,
) -> tuple[Users, tuple[NDArray[np.float64], NDArray[np.float64]] | None, tuple[str, ...]]:
    """Both hypervolumes under other users, how these were drawn, and what to say about it."""
    if of_lists := list_wise(a.study.objectives):
        note = (
            f"{of_lists[0]} has no value of a single user: the interval leaves out the chance of having "
            "these users, and may be too narrow by that"
        )
        return "unknown", None, (note,)
    kept: list[list[UserValues]] = []
    for one, records in ((a, first_a), (b, first_b)):
        points = feasible(records)
        asked = [(point.name, values_of(one.study.objectives, point)) for point in points]
        found = list(one.users.load_each(asked))
        known = [each for each in found if each is not None]
        if missing := len(found) - len(known):
            what = "trials" if all(point.place is None for point in points) else "points"
            note = (
                f"what each user got is not kept of {missing} of the {len(found)} {what} of "
                f"{one.study.name!r} ({one.where}): the interval leaves out the chance of having them, "
                "and may be too narrow by that"
            )
            return "unknown", None, (note,)
        if not same_users(known):
            rule = "its trials were judged by different users"
            raise StudyError(rule, file=one.users.folder, key=one.study.name)
        kept.append(known)
    # The users may be the same people in two data sets and not be known for it; then the interval is wider.
    paired = _split_of(a.study) == _split_of(b.study) and same_users([*kept[0], *kept[1]])
    rng = np.random.default_rng(derive_seed(0, "comparison"))
    drawn = drawn_volumes(kept[0], kept[1], a.study.objectives, paired=paired, draws=draws, rng=rng)
    return ("paired" if paired else "independent"), drawn, ()


def _split_of(study: StoredStudy) -> str:
    """The fingerprint of the split, which the one of the data ends with."""
    return study.identity.data.rpartition("-")[2]


def _differences(a: StoredStudy, b: StoredStudy) -> tuple[str, ...]:
    """As phrases from A to B; the order of the objectives is none."""
    other = b.identity.model_copy(update={"objectives": a.identity.objectives})
    return tuple(f"{key} was {was} and is {now}" for key, was, now in a.identity.changes(other))


def _notes(
    a: ComparedStudy, b: ComparedStudy, sides: Sequence[Side], trials: int, relative: Bounded | None
) -> list[str]:
    notes = []
    if a.study.identity.data != b.study.identity.data:
        what = "the data" if _split_of(a.study) == _split_of(b.study) else "the data or the split"
        notes.append(f"{what} are not the same: a difference may be theirs, and not that of the code")
    notes += [
        f"{side.taken_over} trials of {side.study!r} ({side.where}) were taken over from another study; the "
        "difference leaves them out, the table shows them"
        for side in sides
        if side.taken_over
    ]
    notes += [
        f"{side.study!r} ({side.where}) has {count} finished trials; the difference is one of the "
        f"first {trials} of both"
        for side in sides
        if (count := side.finished - side.taken_over) > trials
    ]
    if relative is None:
        notes.append("A's front has no hypervolume to lose: one of its objectives is 0 everywhere")
    elif relative.low is None:
        notes.append("too few trials for an interval; nothing counts as regressed without one")
    elif trials < MIN_TRIALS:
        notes.append(f"with {trials} trials the interval is a rough one")
    return notes


def _side(one: ComparedStudy, records: Sequence[TrialRecord]) -> Side:
    """What a study has found.

    Args:
        one: where it lies.
        records: its trials. Nothing is read again: a trial that lands meanwhile may move the knee off this
            front.

    Raises:
        NothingFeasible: no trial is feasible.
    """
    study = one.study
    on_front = front_of(records)
    if not on_front:
        raise NothingFeasible(f"the study {study.name!r} ({one.where}) has no feasible trial to compare")
    front = [placed(study.objectives, record) for record in on_front]
    first = study.objectives[0]
    knee = KNEE.choose(candidates_of(on_front, study.objectives))
    return Side(
        study=study.name,
        where=one.where,
        finished=sum(record.state in FINISHED for record in records),
        complete=len(trained(records)),
        front=tuple(sorted(front, key=lambda point: -point.values[first])),
        ends=best_of(study.objectives, on_front),
        knee=front[knee.place],
        hypervolume=hypervolume([list(point.values.values()) for point in front]),
        taken_over=sum(record.taken_from is not None for record in records),
    )


def _table(objectives: Sequence[str], front: Sequence[Placed]) -> NDArray[np.float64]:
    """``[T, M]``, the columns in the order of ``objectives``."""
    return np.array([[point.values[name] for name in objectives] for point in front])
