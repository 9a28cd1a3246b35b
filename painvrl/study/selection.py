"""Picking one trial: by hand, by a tag, or by a rule on the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from painvrl.config import TrainConfig
from painvrl.errors import ConfigError, NothingFeasible, StudyError
from painvrl.study.records import TrialRecord, complete, front_of
from painvrl.study.space import Point
from painvrl.study.storage import StoredStudy

PREFERENCES = ("knee", "iid", "ood", "balanced")

_KNEE_MARGIN = 1e-9  # of the front's extent: below it a bend is rounding


@dataclass(frozen=True, kw_only=True)
class IidOnly:
    """What a choice that never looks at OOD data would have got: the best IID metric of all trials."""

    trial: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A chosen trial.

    Attributes:
        trial: its number.
        config: what it trained; training it again repeats its metrics.
        point: values of the knobs.
        values: of the objectives. metrics: everything measured on the valid parts.
        run_id: its MLflow run.
        reason: why it was chosen, one sentence, and whether another trial dominates it.
        iid_only: what an IID-only choice would have got.
    """

    trial: int
    config: TrainConfig
    point: Point
    values: Mapping[str, float]
    metrics: Mapping[str, float]
    run_id: str | None
    reason: str
    iid_only: IidOnly | None


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The two metrics that rules look at; with one missing, the other stands alone."""

    iid: str | None
    ood: str | None


def select(
    study: StoredStudy,
    *,
    prefer: str = "knee",
    trial: int | None = None,
    run_id: str | None = None,
    tagged: Sequence[str] = (),
) -> Selection:
    """Pick a trial. A number or a run wins over a tag, a tag over the rule.

    Args:
        study: with at least one complete trial.
        prefer: ``iid`` and ``ood`` take the best IID or OOD metric of the front (NDCG if it is an
            objective, else the first objective of that part). ``balanced`` takes the largest harmonic
            mean of the two. ``knee`` scales both metrics over the front to [0, 1], draws the line
            between the front's best-IID and best-OOD trial, and takes the trial farthest above it;
            a front without a trial above the line falls back to ``balanced``. With objectives of
            one part only every rule takes the best of it.
        trial: a trial's number.
        run_id: a trial's MLflow run.
        tagged: run ids that somebody tagged ``selected = true``.

    Raises:
        ConfigError: both ``trial`` and ``run_id``, or an unknown ``prefer``.
        StudyError: the trial does not exist or is not complete, or several runs are tagged.
        NothingFeasible: no trial is complete.
    """
    if prefer not in PREFERENCES:
        raise ConfigError(f"must be one of {', '.join(PREFERENCES)}", key="prefer", value=prefer)
    if trial is not None and run_id is not None:
        raise ConfigError("names a trial and a run; give one of them", key="trial", value=trial)
    records = study.trials()
    if not complete(records):
        raise NothingFeasible(f"the study {study.name!r} has no complete trial")
    front = front_of(records)
    if trial is not None:
        chosen, reason = _by_number(study, records, trial), f"trial {trial} was asked for by its number"
    elif run_id is not None:
        chosen, reason = _by_run(study, records, run_id), f"run {run_id} was asked for"
    elif tagged:
        chosen = _by_tag(study, records, tagged)
        reason = f"run {tagged[0]} is tagged selected = true in MLflow, which wins over the rule {prefer!r}"
    else:
        chosen, reason = _by_rule(front, axes_of(study.objectives), study.objectives, prefer)
    return Selection(
        trial=chosen.number,
        config=study.config_of(chosen),
        point=chosen.point,
        values=_named(study, chosen),
        metrics=chosen.metrics,
        run_id=chosen.run_id,
        reason=reason if chosen in front else f"{reason} (another trial dominates it)",
        iid_only=iid_only(study, records),
    )


def iid_only(study: StoredStudy, records: Sequence[TrialRecord]) -> IidOnly | None:
    """The best IID metric over all complete trials, without a look at OOD; ``None`` if there is none.

    The metric is the IID objective that rules look at, or the IID counterpart of the OOD one.
    """
    axes = axes_of(study.objectives)
    metric = axes.iid or f"iid/{(axes.ood or '').partition('/')[2]}"
    candidates = [record for record in complete(records) if metric in record.metrics]
    if not candidates:
        return None
    best = max(candidates, key=lambda record: (record.metrics[metric], -record.number))
    return IidOnly(trial=best.number, values=_named(study, best))


def axes_of(objectives: Sequence[str]) -> Axes:
    """The IID and the OOD objective that rules look at: NDCG if there is one, else the first.

    Objectives of OOD parts with names of their own are looked at where there is none of plain ``ood``.
    """

    def pick(part: str) -> str | None:
        names = [name for name in objectives if name.startswith(f"{part}/")]
        names = names or [name for name in objectives if name.startswith(f"{part}_")]
        return next((name for name in names if "/ndcg_at_" in name), next(iter(names), None))

    return Axes(iid=pick("iid"), ood=pick("ood"))


def _by_number(study: StoredStudy, records: Sequence[TrialRecord], number: int) -> TrialRecord:
    found = next((record for record in records if record.number == number), None)
    if found is None:
        raise StudyError(f"the study {study.name!r} has no such trial", key="trial", value=number)
    return _require_complete(found)


def _by_run(study: StoredStudy, records: Sequence[TrialRecord], run_id: str) -> TrialRecord:
    found = next((record for record in records if record.run_id == run_id), None)
    if found is None:
        raise StudyError(f"no trial of the study {study.name!r} has this run", key="run", value=run_id)
    return _require_complete(found)


def _by_tag(study: StoredStudy, records: Sequence[TrialRecord], tagged: Sequence[str]) -> TrialRecord:
    if len(tagged) > 1:
        rule = f"{len(tagged)} runs are tagged selected = true in MLflow; leave the tag on one of them"
        raise StudyError(rule, key="selected", value=", ".join(tagged))
    return _by_run(study, records, tagged[0])


def _require_complete(record: TrialRecord) -> TrialRecord:
    if record.values is None:
        why = f" ({record.reason}: {record.message})" if record.reason else ""
        raise StudyError(f"trial {record.number} is {record.state}{why}; it has no result to repeat")
    return record


def _by_rule(
    front: Sequence[TrialRecord], axes: Axes, objectives: Sequence[str], prefer: str
) -> tuple[TrialRecord, str]:
    values = np.array([record.values for record in front])
    columns = {name: values[:, place] for place, name in enumerate(objectives)}
    if axes.iid is None or axes.ood is None:
        name = axes.iid or axes.ood or objectives[0]
        return front[_best(columns[name])], f"it has the best {name}; the study has no other part to weigh"
    iid, ood = columns[axes.iid], columns[axes.ood]
    of = f"of the {len(front)} trials on the front"
    if prefer == "iid":
        return front[_best(iid, ood)], f"it has the best {axes.iid} {of}"
    if prefer == "ood":
        return front[_best(ood, iid)], f"it has the best {axes.ood} {of}"
    plane = f"{axes.iid} and {axes.ood}"
    if prefer == "knee":
        height = _above_the_line(iid, ood)
        if height.max() > _KNEE_MARGIN:
            knee = _best(height, iid)
            return front[knee], f"it is the knee {of}: farthest above the line of its ends in {plane}"
    balance = _harmonic_mean(iid, ood)
    bend = "the front has no knee; " if prefer == "knee" else ""
    return front[_best(balance, iid)], f"{bend}it has the largest harmonic mean of {plane} {of}"


def _above_the_line(iid: NDArray[np.float64], ood: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[T]``: signed distance above the line of the ends, both axes scaled to [0, 1]."""
    x, y = _scaled(iid), _scaled(ood)
    right, top = _best(iid, ood), _best(ood, iid)
    along = np.array([x[right] - x[top], y[right] - y[top]])
    length = float(np.hypot(*along))
    if length == 0:
        return np.zeros_like(x)
    # The normal (-along_y, along_x) points up and to the right: along_x > 0 >= along_y.
    height: NDArray[np.float64] = (-along[1] * (x - x[top]) + along[0] * (y - y[top])) / length
    return height


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    extent = float(np.ptp(values))
    return (values - values.min()) / extent if extent > 0 else np.zeros_like(values)


def _harmonic_mean(iid: NDArray[np.float64], ood: NDArray[np.float64]) -> NDArray[np.float64]:
    total = iid + ood
    return np.divide(2 * iid * ood, total, out=np.zeros_like(total), where=total > 0)


def _best(first: NDArray[np.float64], second: NDArray[np.float64] | None = None) -> int:
    """The position of the largest value; ties go to ``second``, then to the earlier trial."""
    ties = np.zeros_like(first) if second is None else second
    return int(np.lexsort((np.arange(len(first)), -ties, -first))[0])


def _named(study: StoredStudy, record: TrialRecord) -> dict[str, float]:
    return dict(zip(study.objectives, record.values or (), strict=True))
