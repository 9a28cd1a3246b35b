"""Picking one trial: by hand, by a tag, by a stored pick, or by a rule on the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.engine.outcomes import point_name
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point
from painvrl.study.choice.candidates import Candidates, axes_of
from painvrl.study.choice.picks import Pick, pick_named
from painvrl.study.choice.rules import KNEE, Rule, name_of, rule_named
from painvrl.study.store.records import TrialRecord, feasible, front_of, named, why_no_front
from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A point, by the number of its trial and its own name, and its objectives."""

    trial: int
    name: str
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A chosen point.

    Attributes:
        trial: the number of its trial.
        place: among the points of a swept trial.
        config: what it is; training it repeats its metrics, of several seeds those under the first.
        point: values of the hyperparameters.
        values: of the objectives. metrics: everything measured on the valid parts.
        first: the same under the first of the study's seeds, where there are several.
        run_id: its MLflow run.
        reason: why it was chosen, one sentence, and whether another point dominates it.
        alias: what its model is called in MLflow; ``None`` for a trial that was named by hand.
        iid_only: what a choice that never looks at OOD data would have got: the best IID metric of all.
    """

    trial: int
    place: int | None
    config: TrainConfig
    point: Point
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    first: Mapping[str, float]
    run_id: str | None
    reason: str
    alias: str | None
    iid_only: Placed | None

    @property
    def name(self) -> str:
        """What the point is called."""
        return point_name(self.trial, self.place)


Chosen: TypeAlias = tuple[TrialRecord, str, str | None]
"""A record, why it was chosen, and the alias of its model."""


def select(
    study: StoredStudy,
    *,
    trial: str | None = None,
    run_id: str | None = None,
    tagged: Sequence[str] = (),
    pick: str | None = None,
    prefer: str | Rule | None = None,
    picks: Sequence[Pick] = (),
) -> Selection:
    """Pick a point: by the first that is given of trial or run, tag, pick, rule.

    With none of them the only stored pick is taken, and where nothing is stored the knee.

    Args:
        study: with at least one complete trial.
        trial: the name of a trial or of a point, ``12`` or ``12.3``.
        run_id: the MLflow run of a trial or of a point.
        tagged: run ids that somebody tagged ``selected = true``.
        pick: the alias of a stored pick.
        prefer: a rule, or the word of one (see :mod:`painvrl.study.choice.rules`).
        picks: those that the study has stored.

    Raises:
        ConfigError: both ``trial`` and ``run_id``, an unknown ``prefer``, or a rule that the study's
            objectives do not allow.
        StudyError: the trial does not exist, is not complete, or has several points; several runs are tagged;
            there is no such pick, or there are several and nothing names one.
        NothingFeasible: no trial is complete, or a rule is asked and none keeps to the constraints.
    """
    rule = rule_named(prefer) if isinstance(prefer, str) else prefer
    if trial is not None and run_id is not None:
        raise ConfigError("names a trial and a run; give one of them", key="trial", value=trial)
    records = study.trials()
    if not any(record.values is not None for record in records):
        raise NothingFeasible(why_no_front(study.name, records))
    front = front_of(records)
    chosen: Chosen
    if trial is not None:
        chosen = _by_name(study, records, trial), f"trial {trial} was asked for by its number", None
    elif run_id is not None:
        chosen = _by_run(study, records, run_id), f"run {run_id} was asked for", None
    elif tagged:
        chosen = _by_tag(study, records, tagged, over=_weaker(pick, rule))
    elif pick is not None:
        chosen = _by_pick(study, records, pick_named(picks, pick, study=study.name))
    elif rule is not None or not picks:
        chosen = _by_rule(study, front, rule or KNEE)
    elif len(picks) > 1:
        raise StudyError(
            "the study has several picks; name one with --pick, or give a rule with --prefer",
            key="pick",
            value=", ".join(one.alias for one in picks),
        )
    else:
        chosen = _by_pick(study, records, picks[0])
    record, reason, alias = chosen
    alone = iid_only(study.objectives, records)
    return Selection(
        trial=record.number,
        place=record.place,
        config=study.config_of(record),
        point=record.point,
        values=values_of(study.objectives, record),
        metrics=record.metrics,
        first=record.first,
        run_id=record.run_id,
        reason=reason + ("" if record in front else f" ({_why_not(record)})"),
        alias=alias,
        iid_only=None if alone is None else placed(study.objectives, alone),
    )


def iid_only(objectives: Sequence[str], records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best IID metric over all feasible trials, without a look at OOD; ``None`` if there is none.

    The metric is the IID objective that rules look at, or the IID counterpart of the OOD one.
    """
    axes = axes_of(objectives)
    metric = axes.iid or f"iid/{(axes.ood or '').partition('/')[2]}"
    candidates = [record for record in feasible(records) if metric in record.metrics]
    return max(candidates, key=lambda record: record.metrics[metric], default=None)  # the first of equal ones


def values_of(objectives: Sequence[str], record: TrialRecord) -> dict[str, float]:
    """The objectives of a complete trial by name."""
    return dict(zip(objectives, record.values or (), strict=True))


def placed(objectives: Sequence[str], record: TrialRecord) -> Placed:
    """A complete trial, or a point of one, and its objectives."""
    return Placed(trial=record.number, name=record.name, values=values_of(objectives, record))


def _by_name(study: StoredStudy, records: Sequence[TrialRecord], name: str) -> TrialRecord:
    found = named(records, name)
    if found is None:
        raise StudyError(f"the study {study.name!r} has no such trial", key="trial", value=name)
    return _require_point(records, found)


def _by_run(study: StoredStudy, records: Sequence[TrialRecord], run_id: str) -> TrialRecord:
    everything = [each for record in records for each in (*record.points, record)]
    found = next((each for each in everything if each.run_id == run_id), None)
    if found is None:
        raise StudyError(f"no trial of the study {study.name!r} has this run", key="run", value=run_id)
    if found.place is not None and found.run_id == records[found.number].run_id:
        found = records[found.number]  # the run of the trial, which its points share
    return _require_point(records, found)


def _by_tag(
    study: StoredStudy, records: Sequence[TrialRecord], tagged: Sequence[str], *, over: str
) -> Chosen:
    if len(tagged) > 1:
        rule = f"{len(tagged)} runs are tagged selected = true in MLflow; leave the tag on one of them"
        raise StudyError(rule, key="selected", value=", ".join(tagged))
    reason = f"run {tagged[0]} is tagged selected = true in MLflow, which wins over {over}"
    return _by_run(study, records, tagged[0]), reason, None


def _weaker(pick: str | None, rule: Rule | None) -> str:
    """What a tag wins over."""
    if pick is not None:
        return f"the pick {pick!r}"
    return "picks and rules" if rule is None else f"the rule {rule.label!r}"


def _by_pick(study: StoredStudy, records: Sequence[TrialRecord], pick: Pick) -> Chosen:
    try:
        record = _by_name(study, records, pick.name)
    except StudyError as error:
        rule = f"its trial {pick.name} cannot be trained again: {error}"
        raise StudyError(rule, key=f"pick {pick.alias}") from None
    return record, f"it is the pick {pick.alias!r}: {pick.reason}", pick.alias


def candidates_of(front: Sequence[TrialRecord], objectives: Sequence[str]) -> Candidates:
    """What rules choose among."""
    values = np.array([record.values for record in front], dtype=float)
    return Candidates(values=values, objectives=tuple(objectives))


def _by_rule(study: StoredStudy, front: Sequence[TrialRecord], rule: Rule) -> Chosen:
    if not front:
        raise NothingFeasible(why_no_front(study.name, study.trials()))
    verdict = rule.choose(candidates_of(front, study.objectives))
    return front[verdict.place], verdict.reason, name_of(rule.label)


def _require_point(records: Sequence[TrialRecord], record: TrialRecord) -> TrialRecord:
    """``record``, if it is one configuration with a result."""
    if record.values is None:
        why = f" ({record.reason}: {record.message})" if record.reason else ""
        raise StudyError(f"trial {record.number} is {record.state}{why}; it has no result to repeat")
    if record.points:
        members = [point.name for point in front_of(records) if point.number == record.number]
        on_front = f"; on the front are {', '.join(members)}" if members else "; none is on the front"
        raise StudyError(
            f"one training was scored at {len(record.points)} points, {record.points[0].name} to "
            f"{record.points[-1].name}: name one of them{on_front}",
            key="trial",
            value=record.name,
        )
    return record


def _why_not(record: TrialRecord) -> str:
    """Why a complete trial is not on the front."""
    return f"it breaks {', '.join(record.violated)}" if record.violated else "another point dominates it"
