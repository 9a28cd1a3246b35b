"""Who runs a study: locks that the operating system, or the database, drops when their holder dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from painvrl.core.errors import PlaceError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import are_shared, readable_errors, sole_runner, sqlite_file
from painvrl.study.store.storage import StoredStudy

SPARE = 2**20
"""Bytes of the disk that are held while a study in a file runs."""


@contextmanager
def study_lock(path: Path, study: str) -> Iterator[None]:
    """Hold the study's lock; trials found running meanwhile belong to no one alive.

    The holder's number lies beside it: some systems let no one else read a file that is locked.

    Raises:
        StudyError: another process holds it.
        PlaceError: the file cannot be made.
    """
    holder, lock = path.with_suffix(".pid"), FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
    except Timeout:
        number = holder.read_text(encoding="utf-8").strip() if holder.exists() else None
        rule = "is being run by another process; wait for it or stop it"
        raise StudyError(rule, key=study, value=number and f"process {number}") from None
    except OSError as error:
        lock.release()
        raise PlaceError.of(error, "the study's lock cannot be made", file=path) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def held_study(spec: StudySpec, workspace: Workspace, name: str | None = None) -> Iterator[None]:
    """Run a study, or one of its versions by ``name``: alone, or in a PostgreSQL beside other runners.

    Raises:
        StudyError: another process holds it, or it cannot be locked.
    """
    held, url = name or spec.study.name, spec.study.storage or workspace.storage_url
    with ExitStack() as locks:
        if are_shared(url):
            locks.enter_context(sole_runner(url, held, among_runners=True))
        else:
            locks.enter_context(study_lock(lock_path(spec, workspace, name), held))
        yield


def lock_path(spec: StudySpec, workspace: Workspace, name: str | None = None) -> Path:
    """Where the study's lock lies: beside a storage that is a file, whoever's workspace opens it.

    ``name``: of one of the study's versions.
    """
    return _beside(spec.study.storage or workspace.storage_url, workspace).lock_path(name or spec.study.name)


@contextmanager
def spare_room(spec: StudySpec, workspace: Workspace, name: str) -> Iterator[Callable[[], None]]:
    """Hold some of the disk of a study in a file, so that its trials can be ended when the disk is full.

    A disk that has less gives what it has. Where none can be held, the study runs without.

    Yields:
        What sets it free before the end does.
    """
    spare = lock_path(spec, workspace, name).with_suffix(".spare")

    def free() -> None:
        with suppress(OSError):
            spare.unlink()

    if not are_shared(spec.study.storage or workspace.storage_url):
        with suppress(OSError):
            spare.write_bytes(os.urandom(SPARE))  # zeros may take no room
    try:
        yield free
    finally:
        free()


@contextmanager
def study_run(study: StoredStudy, workspace: Workspace) -> Iterator[bool]:
    """Hold a stored study, so that nobody runs it meanwhile; ``False`` if somebody does."""
    url = study.storage.url
    with ExitStack() as held:
        try:
            held.enter_context(study_lock(_beside(url, workspace).lock_path(study.name), study.name))
            held.enter_context(sole_runner(url, study.name))
            mine = True
        except StudyError:
            mine = False
        yield mine


def is_run(study: StoredStudy, workspace: Workspace) -> bool:
    """Whether a process runs the study. The lock is taken for a moment to see that nobody holds it."""
    with study_run(study, workspace) as mine:
        return not mine


def _beside(url: str, workspace: Workspace) -> Workspace:
    with readable_errors(url):
        file = sqlite_file(url)
    return workspace if file is None else Workspace(file.parent)
