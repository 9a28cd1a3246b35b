"""A study in another place: ``painvrl study move``.

It is copied, and stays where it was until somebody deletes it there. To a folder go all its parts: trials,
picks and notes, MLflow's runs under their ids, checkpoints, what each user got, confirmations and states of
trials that were stopped half-way. To a database's URL go the trials with all that is noted of them; files
and runs stay in the workspace.

The trials come last, in one transaction: a study that is in the new place is there as a whole. A process
that is killed before that leaves files that the next call writes over.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna

from painvrl.core.errors import ConfigError, PlaceError, StudyError
from painvrl.core.tables import Block, Result
from painvrl.core.workspace import Workspace
from painvrl.run.checkpoint import study_of
from painvrl.study.moving.records import copy_records
from painvrl.study.store.database import connect, readable_errors, sole_creator, sqlite_file
from painvrl.study.store.lock import study_run
from painvrl.study.store.storage import StoredStudy, identity_of, list_studies, open_study
from painvrl.study.tracking.mlflow_copy import copy_runs
from painvrl.study.tracking.port import resolve_tracking_uri

OPTION = "--to"


@dataclass(frozen=True, kw_only=True)
class Moved(Result):
    """What was copied, and what is left.

    Attributes:
        study: its name.
        trials: how many it has.
        runs: how many of MLflow's runs were copied; ``None`` where they stay in the workspace or server.
        files: folders and files that were copied.
        place: where it is now, without a password.
        left: what is left in the old place.
        goes_on: how the study goes on there.
    """

    study: str
    trials: int
    runs: int | None
    files: tuple[str, ...]
    place: str
    left: tuple[str, ...]
    goes_on: str

    def blocks(self) -> Iterator[Block]:
        """What is where, a line each."""
        yield f"{self.study}: {self.trials} trials are in {self.place}"
        if self.runs is None:
            yield "MLflow's runs and the files stay where they are"
        else:
            yield f"with {self.runs} of MLflow's runs, and {', '.join(self.files) or 'no files'}"
        for each in self.left:
            yield f"left in the old place: {each}"
        yield f"it goes on with: {self.goes_on}"


def move_study(
    name: str, workspace: Workspace, to: str, *, storage: str | None = None, delete: bool = False
) -> Moved:
    """Copy a study to another database or workspace.

    Args:
        name: of the study.
        workspace: where it is.
        to: a folder, which is made, or the URL of a database.
        storage: the URL of the study's database in place of the workspace's own.
        delete: delete the trials in the old place afterwards. Files and runs are never deleted.

    Raises:
        ConfigError: it is there already, or the place is the same.
        StudyError: it is being run, or a database refuses.
        PlaceError: something cannot be written.
    """
    there = None if "://" in to else Workspace(Path(to))
    url = to if there is None else there.storage_url
    with readable_errors(url):
        sqlite_file(url)  # a mistake in the URL is said before anything is done
    study = open_study(name, workspace, storage=storage)
    _check(study, url, to)
    runs: int | None = None
    files: tuple[str, ...] = ()
    with study_run(study, workspace) as mine:
        if not mine:
            raise StudyError("is being run by another process; wait for it or stop it", key=name)
        try:
            if there is not None:
                files = tuple(_copy_files(name, workspace, there.create()))
                runs = _copy_runs(study, workspace, there)
        except OSError as error:
            raise PlaceError.of(error, "the study cannot be moved", file=to) from None
        copied = _copy_trials(study, url, there or workspace)
        if delete:
            study.storage.delete_study(study.storage.get_study_id_from_name(name))
    shown = str(there.root) if there is not None else url
    option = f"--workspace {shown}" if there is not None else f"--set study.storage={shown}"
    return Moved(
        study=name,
        trials=len(copied.trials()),
        runs=runs,
        files=files,
        place=shown,
        left=tuple(_left(study, workspace, files, runs, deleted=delete)),
        goes_on=f"painvrl study run SPEC.yaml {option}",
    )


def _check(study: StoredStudy, url: str, to: str) -> None:
    if url == study.storage.url or (sqlite_file(url) or url) == sqlite_file(study.storage.url):
        raise ConfigError("is where the study is; name another place", key=OPTION, value=to)
    if study.name in list_studies(Workspace(Path()), storage=url):
        rule = f"there is a study {study.name!r} already; name another place"
        raise ConfigError(rule, key=OPTION, value=url)


def _copy_trials(study: StoredStudy, url: str, workspace: Workspace) -> StoredStudy:
    with readable_errors(url), sole_creator(url):
        connection = connect(url)
        with study.storage.engine.connect() as source, connection.engine.begin() as target:
            copy_records(study.name, source, target)
        loaded = optuna.load_study(study_name=study.name, storage=connection)
        copied = StoredStudy(study=loaded, storage=connection, identity=identity_of(loaded))
    before = open_study(study.name, workspace, storage=study.storage.url)
    same = copied.trials() == before.trials() and loaded.user_attrs == before.study.user_attrs
    if not same:
        rule = "the copy is not what the study is; nothing was deleted, and the copy is to be thrown away"
        raise StudyError(rule, key=study.name)
    return copied


def _copy_files(name: str, source: Workspace, target: Workspace) -> Iterator[str]:
    """Copy a study's files; what was copied, as paths below the workspace."""
    paths = [one / name for one in (source.users, source.confirmations, source.spool)]
    paths += [source.reports / f"{name}.html", source.run_states]
    paths += [folder for folder in sorted(source.checkpoints.glob("*")) if study_of(folder) == name]
    for path in paths:
        if not path.exists():
            continue
        below = path.relative_to(source.root)
        if path.is_dir():
            shutil.copytree(path, target.root / below, dirs_exist_ok=True)
        else:
            (target.root / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target.root / below)
        yield str(below)
    if source.test_reads.exists():
        known = target.test_reads.read_bytes().splitlines() if target.test_reads.exists() else []
        new = [line for line in source.test_reads.read_bytes().splitlines() if line and line not in known]
        with target.test_reads.open("ab") as log:
            log.write(b"".join(b"\n" + line for line in new) + b"\n")
        yield str(source.test_reads.name)


def _copy_runs(study: StoredStudy, source: Workspace, target: Workspace) -> int | None:
    own = resolve_tracking_uri(source) == source.tracking_uri
    if not own:
        return None  # a store that both use
    if study.parent_run is None or not source.mlflow_db.exists():
        return 0
    return copy_runs(study.parent_run, source, target)


def _left(
    study: StoredStudy, workspace: Workspace, files: tuple[str, ...], runs: int | None, *, deleted: bool
) -> Iterator[str]:
    if not deleted:
        place = sqlite_file(study.storage.url) or study.storage.url
        yield f"the study itself, in {place} (--delete deletes it)"
    if runs:
        yield f"{runs} runs, in {workspace.mlflow_db}"
    for file in files:
        yield str(workspace.root / file)
