"""Choosing a trial: a rule or a number makes a pick, which the study keeps and MLflow shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from painvrl.core.errors import StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.choice.picks import Pick, remove_pick, store_pick, stored_picks
from painvrl.study.choice.rules import Rule, name_of
from painvrl.study.choice.selection import Selection, candidates_of, select
from painvrl.study.store.records import front_of, named
from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A pick as it stands.

    Attributes:
        pick: what was stored.
        standing: of its trial now: ``front``, ``dominated``, ``infeasible``, another state, or ``gone``.
        run_id: of its trial in MLflow.
        warning: why MLflow does not show it.
        replaced: the pick of another trial that had the alias before.
    """

    pick: Pick
    standing: str
    run_id: str | None = None
    warning: str | None = None
    replaced: Pick | None = None

    def as_dict(self) -> dict[str, object]:
        """The pick as JSON-ready values."""
        return {**self.pick.model_dump(mode="json"), "standing": self.standing, "run_id": self.run_id}

    def __str__(self) -> str:
        """For people."""
        standing = {"front": "on the front", "gone": "no longer there"}.get(self.standing, self.standing)
        pick = self.pick
        return f"{pick.alias} = trial {pick.name} ({standing}), by {pick.rule}: {pick.reason}"


def choose(study: StoredStudy, workspace: Workspace, what: Rule | str, *, alias: str | None = None) -> Kept:
    """Pick a trial by a rule or by its number, store the pick, and tag the trial's run.

    Args:
        study: with at least one complete trial.
        workspace: whose MLflow store holds the runs.
        what: a rule, or the name of a trial or point.
        alias: what to store it under; by default the rule's name, ``trial`` for a number.

    Raises:
        ConfigError: MLflow would refuse the alias, or the rule does not fit the study.
        StudyError: there is no such trial, or it has no result.
        NothingFeasible: there is nothing to choose from.
    """
    if isinstance(what, str):
        chosen, rule = select(study, trial=what), f"trial {what}"
        reason = "; ".join([chosen.reason, *_losses(study, chosen)])
    else:
        chosen, rule = select(study, prefer=what), what.label
        reason = chosen.reason
    pick = Pick(
        alias=alias or name_of(rule),
        trial=chosen.trial,
        place=chosen.place,
        rule=rule,
        reason=reason,
        values=chosen.values,
    )
    before = next((one for one in stored_picks(study) if one.alias == pick.alias), None)
    store_pick(study, pick)
    kept = _kept(study, pick, warning=_tag(study, workspace, pick.alias, chosen.run_id, pick.reason))
    return kept if before is None or before.name == pick.name else replace(kept, replaced=before)


def kept_picks(study: StoredStudy) -> tuple[Kept, ...]:
    """The stored picks, by alias."""
    return tuple(_kept(study, pick) for pick in stored_picks(study))


def forget(study: StoredStudy, workspace: Workspace, alias: str) -> Kept:
    """Remove a pick, and the tag of its run. A model that has the alias in MLflow keeps it.

    Raises:
        StudyError: there is no such pick.
    """
    pick = remove_pick(study, alias)
    return _kept(study, pick, warning=_tag(study, workspace, alias, None, ""))


def _losses(study: StoredStudy, chosen: Selection) -> Iterator[str]:
    """What a trial that was named by hand gives up, if there is a front to compare it with."""
    if front := front_of(study.trials()):
        values = [chosen.values[name] for name in study.objectives]
        yield candidates_of(front, study.objectives).against_the_best(values)


def _tag(study: StoredStudy, workspace: Workspace, alias: str, run_id: str | None, reason: str) -> str | None:
    """Tag the run. The pick is stored already: of a store that does not answer there is a warning."""
    from painvrl.study.tracking.mlflow_notes import tag_pick

    try:
        tag_pick(study, workspace, alias=alias, run_id=run_id, reason=reason)
    except StudyError as error:
        return str(error)
    return None


def _kept(study: StoredStudy, pick: Pick, *, warning: str | None = None) -> Kept:
    records = study.trials()
    record = named(records, pick.name)
    if record is None:
        standing = "gone"
    elif record.values is None:
        standing = record.state.value
    elif record.violated:
        standing = "infeasible"
    else:
        standing = "front" if record in front_of(records) else "dominated"
    run_id = None if record is None else record.run_id
    return Kept(pick=pick, standing=standing, run_id=run_id, warning=warning)
