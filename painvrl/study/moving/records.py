"""A study's trials and attributes in another database, in one transaction: all of them or none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy
from optuna.storages._rdb import models
from sqlalchemy import Connection, Table

_OF_A_STUDY = (models.StudyDirectionModel, models.StudyUserAttributeModel, models.StudySystemAttributeModel)
_OF_A_TRIAL = (
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialParamModel,
    models.TrialValueModel,
    models.TrialIntermediateValueModel,
)

_POPULATION = ":parent:"
"""In the names of attributes in which Optuna's genetic samplers keep trials by the database's own ids."""


def copy_records(name: str, source: Connection, target: Connection) -> None:
    """Copy a study, row by row.

    Args:
        name: of the study, which the target does not have.
        source: where it is.
        target: where to; the transaction is the caller's. Both have Optuna's tables.
    """
    studies = _table(models.StudyModel)
    row = source.execute(studies.select().where(studies.c.study_name == name)).mappings().one()
    study = _insert(target, studies, dict(row))
    trials = _table(models.TrialModel)
    of_study = trials.c.study_id == row["study_id"]
    numbered = source.execute(trials.select().where(of_study).order_by(trials.c.trial_id)).mappings().all()
    ids = {trial["trial_id"]: _insert(target, trials, {**trial, "study_id": study}) for trial in numbered}
    for model in _OF_A_STUDY:
        table = _table(model)
        rows = source.execute(table.select().where(table.c.study_id == row["study_id"])).mappings()
        _insert_all(target, table, ({**_renumbered(dict(each), ids), "study_id": study} for each in rows))
    for model in _OF_A_TRIAL:
        table = _table(model)
        its = table.c.trial_id.in_(sqlalchemy.select(trials.c.trial_id).where(of_study))
        rows = source.execute(table.select().where(its)).mappings()
        _insert_all(target, table, ({**each, "trial_id": ids[each["trial_id"]]} for each in rows))


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


def _without_key(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    (key,) = table.primary_key
    return {column: value for column, value in row.items() if column != key.name}


def _insert(target: Connection, table: Table, row: Mapping[str, Any]) -> int:
    made = target.execute(table.insert().values(_without_key(table, row))).inserted_primary_key
    assert made is not None
    return int(made[0])


def _insert_all(target: Connection, table: Table, rows: Iterator[dict[str, Any]]) -> None:
    if found := [_without_key(table, row) for row in rows]:
        target.execute(table.insert(), found)


def _renumbered(row: Mapping[str, Any], ids: Mapping[int, int]) -> Mapping[str, Any]:
    if _POPULATION not in row.get("key", ""):
        return row
    return {**row, "value_json": json.dumps([ids[one] for one in json.loads(row["value_json"])])}
