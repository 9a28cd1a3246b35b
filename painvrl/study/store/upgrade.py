"""Studies of an earlier version in today's words: :mod:`painvrl.core.renamed` applied to their database."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnClause, Connection, Update

import painvrl
from painvrl.core.renamed import with_new_names
from painvrl.core.tables import Block, Result, TextTable
from painvrl.core.wholefile import taking_its_place
from painvrl.core.workspace import Workspace
from painvrl.study.store.database import (
    connect,
    is_there,
    readable_errors,
    refuse_cut_off,
    sole_runner,
    sqlite_file,
)
from painvrl.study.store.lock import study_lock
from painvrl.study.store.storage import Attr

OF_A_STUDY = ("study_user_attributes", "study_system_attributes")
OF_A_TRIAL = ("trial_user_attributes", "trial_system_attributes")
"""Tables of Optuna's whose column ``value_json`` holds what we wrote."""


@dataclass(frozen=True, kw_only=True)
class Upgraded(Result):
    """What an upgrade changed.

    Attributes:
        version: of painvrl, which the workspace now is of.
        studies: of each study how many stored values got new names.
        backup: the database as it was; ``None`` if nothing changed or it is no file.
    """

    version: str
    studies: dict[str, int]
    backup: str | None

    def blocks(self) -> Iterator[Block]:
        """A row a study, and where the backup lies."""
        rows = [[name, str(count)] for name, count in self.studies.items()]
        yield TextTable(columns=["study", "values with new names"], rows=rows)
        if self.backup is not None:
            yield f"the database as it was: {self.backup}"
        yield f"the workspace is of painvrl {self.version}"


def upgrade(workspace: Workspace, *, storage: str | None = None) -> Upgraded:
    """Give settings, choices and metrics of all studies of a workspace the names that they have today.

    Every study is locked meanwhile. A SQLite file is copied before anything is written. Runs in MLflow keep
    the old names. So do checkpoints and what each user got, which are read under both. What was kept of
    ablations, confirmations, baselines and interrupted runs is not found under the new names, and is computed
    again when asked for.

    Args:
        workspace: where the studies are, and what gets this version's stamp.
        storage: the URL of a database in place of the workspace's own; then nothing is stamped.

    Raises:
        StudyError: a study is being run, or the database refuses.
        PlaceError: a file cannot be written.
    """
    url = storage or workspace.storage_url
    changed: dict[str, int] = {}
    backup = None
    with readable_errors(url), ExitStack() as held:
        if is_there(url):
            refuse_cut_off(url)
            engine = connect(url).engine
            with engine.connect() as connection:
                ours = _studies(connection)
            for name in ours.values():
                held.enter_context(study_lock(_beside(url, workspace).lock_path(name), name))
                held.enter_context(sole_runner(url, name))
            with engine.connect() as connection:
                found = {name: list(_renamed(connection, number)) for number, name in ours.items()}
            changed = {name: len(rows) for name, rows in found.items()}
            if any(changed.values()):
                backup = _copy(url)  # before the first write: SQLite copies no file that is being written
                with engine.begin() as connection:
                    for row in (row for rows in found.values() for row in rows):
                        connection.execute(row)
    if storage is None:
        workspace.create().stamp_version(painvrl.__version__)
    return Upgraded(
        version=painvrl.__version__, studies=changed, backup=None if backup is None else str(backup)
    )


def _studies(connection: Connection) -> dict[int, str]:
    """Numbers and names of the studies that painvrl made."""
    rows = connection.execute(
        sqlalchemy.text(
            "SELECT s.study_id, s.study_name FROM studies s JOIN study_user_attributes a"
            " ON a.study_id = s.study_id WHERE a.key = :key ORDER BY s.study_id"
        ),
        {"key": Attr.IDENTITY},
    )
    return {int(number): str(name) for number, name in rows}


def _renamed(connection: Connection, study: int) -> Iterator[Update]:
    """For each stored value of a study that has an old name the statement that gives it the new one."""
    of_study = "study_id = :study"
    of_trials = f"trial_id IN (SELECT trial_id FROM trials WHERE {of_study})"
    for where, tables in ((of_study, OF_A_STUDY), (of_trials, OF_A_TRIAL)):
        for table in tables:
            yield from _renamed_in(connection, table, "key", "value_json", where, study)
    yield from _renamed_in(connection, "trial_params", "param_name", "distribution_json", of_trials, study)


def _renamed_in(
    connection: Connection, table: str, key: str, value: str, where: str, study: int
) -> Iterator[Update]:
    columns: dict[str, ColumnClause[Any]] = {one: sqlalchemy.column(one) for one in (key, value)}
    number: ColumnClause[Any] = sqlalchemy.column(_PRIMARY[table])
    rows = sqlalchemy.table(table, number, *columns.values())
    chosen = sqlalchemy.select(number, *columns.values()).where(sqlalchemy.text(where)).select_from(rows)
    for row, name, stored in connection.execute(chosen, {"study": study}).all():
        before = {name: json.loads(stored)}
        ((new_name, new_value),) = with_new_names(before).items()
        if {new_name: new_value} != before:
            now = {key: new_name, value: json.dumps(new_value)}
            yield sqlalchemy.update(rows).where(number == row).values(now)


_PRIMARY = {
    "study_user_attributes": "study_user_attribute_id",
    "study_system_attributes": "study_system_attribute_id",
    "trial_user_attributes": "trial_user_attribute_id",
    "trial_system_attributes": "trial_system_attribute_id",
    "trial_params": "param_id",
}


def _beside(url: str, workspace: Workspace) -> Workspace:
    """The workspace whose locks guard the studies of a database."""
    file = sqlite_file(url)
    return workspace if file is None else Workspace(file.parent)


def _copy(url: str) -> Path | None:
    """A copy of a SQLite file as it was last committed; ``None`` for another database."""
    file = sqlite_file(url)
    if file is None:
        return None
    name = f"{file.name}.before-{painvrl.__version__}"
    copies = (file.with_name(name if number == 1 else f"{name}.{number}") for number in itertools.count(1))
    copy = next(one for one in copies if not one.exists())
    with (
        taking_its_place(copy) as temporary,
        closing(sqlite3.connect(file)) as before,
        closing(sqlite3.connect(temporary)) as after,
    ):
        before.backup(after)
    return copy
