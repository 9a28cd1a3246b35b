"""One process a study: locks that the operating system, or the database, drops when their holder dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from painvrl.core.errors import PlaceError, StudyError
from painvrl.core.workspace import Workspace
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.database import readable_errors, sole_runner, sqlite_file

if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[str]) -> None:
        # A byte far behind the holder's name, which others must be able to read.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _acquire(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def study_lock(path: Path, study: str) -> Iterator[None]:
    """Hold the study's lock; trials found running meanwhile belong to nobody alive.

    Raises:
        StudyError: another process holds it.
        PlaceError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PlaceError.of(error, "the study's lock cannot be made", file=path) from None
    with file:
        try:
            _acquire(file)
        except OSError:
            file.seek(0)
            holder = file.read().strip()
            rule = "is being run by another process; wait for it or stop it"
            raise StudyError(rule, key=study, value=f"process {holder}" if holder else None) from None
        # The file stays when the lock goes: removing it would let two holders lock two files.
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def held_study(spec: StudySpec, workspace: Workspace, name: str | None = None) -> Iterator[None]:
    """Hold a study, or one of its versions by ``name``: nobody else runs it, here or elsewhere.

    Raises:
        StudyError: another process holds it, or it cannot be locked.
    """
    held = name or spec.study.name
    with (
        study_lock(lock_path(spec, workspace, name), held),
        sole_runner(spec.study.storage or workspace.storage_url, held),
    ):
        yield


def lock_path(spec: StudySpec, workspace: Workspace, name: str | None = None) -> Path:
    """Where the study's lock lies: beside a storage that is a file, whoever's workspace opens it.

    ``name``: of one of the study's versions.
    """
    url, name = spec.study.storage, name or spec.study.name
    with readable_errors(url or workspace.storage_url):
        file = None if url is None else sqlite_file(url)
    return (workspace if file is None else Workspace(file.parent)).lock_path(name)
