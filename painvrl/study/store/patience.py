"""Optuna's storage that outlives a restart of its server, and that notices when its file becomes another."""

from __future__ import annotations

import functools
import logging
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine

from painvrl.core.errors import StudyError

_logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 300.0
"""How long a server is waited for that answered before."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between two attempts: they double from the first to the longest."""

_gone_since: float | None = None
"""When the server was lost that is away now. It is waited for once, and not again by what clears up."""

R = TypeVar("R")


class ServerGone(StudyError):
    """The connection to a database's server was lost, or none can be made."""


def patiently(call: Callable[[], R]) -> R:
    """Call, again and again while the server is away that answered before.

    Raises:
        ServerGone: it has not come back for :data:`RECONNECT_SECONDS`, or an interrupt has ended the wait.
    """
    global _gone_since  # noqa: PLW0603 (an outage is the whole process's)
    begun, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            result = call()
        except KeyboardInterrupt:
            _gone_since = None if _gone_since is None else -math.inf
            raise
        except ServerGone as error:
            _gone_since = begun if _gone_since is None else _gone_since
            if time.monotonic() - _gone_since > RECONNECT_SECONDS:
                raise
            if pause == FIRST_PAUSE:
                _logger.warning("note: %s; trying again for %.0f s", error, RECONNECT_SECONDS)
            try:
                time.sleep(pause * random.uniform(0.5, 1.0))
            except KeyboardInterrupt:
                _gone_since = -math.inf
                raise
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            _gone_since = None
            if pause != FIRST_PAUSE:
                after = time.monotonic() - begun
                _logger.warning("note: the studies' database answers again after %.0f s", after)
            return result


class PatientStorage(RDBStorage):
    """A storage whose calls wait for a server that restarts, and end in one line where they cannot succeed.

    A call is repeated as a whole. So what was committed just before the server went, unknown to us, may be
    done twice: a value is set again to what it is, which changes nothing, but a trial may be begun for
    nobody. Whoever ends a study ends it (:meth:`painvrl.study.search.asktell.AskTell.reap`).
    """

    refusal: Callable[[BaseException], StudyError]
    """What is said of an error of the database."""
    file: SameFile | None = None
    """Watches the file of a SQLite database."""

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """As Optuna's; a trial that the lost attempt has ended is not refused for it."""
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                return bool(super(PatientStorage, self).set_trial_state_values(trial_id, state, values))
            except optuna.exceptions.UpdateFinishedTrialError:
                if attempts == 1:
                    raise
                trial = self.get_trial(trial_id)
                if trial.state is state and (values is None or list(trial.values) == list(values)):
                    return True
                raise

        return self._patiently(attempt)

    def _patiently(self, call: Callable[[], R]) -> R:
        try:
            return call() if self._within_transaction else patiently(call)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise self.refusal(error) from error
        except (ValueError, TypeError, LookupError) as error:
            # What was written cannot be read, or is not there: another database, or a damaged one.
            said = f"what is stored there is not as it was written ({type(error).__name__}: {error})"
            raise self.refusal(RuntimeError(said)) from error

    @property
    def _within_transaction(self) -> bool:
        """Whether this call is part of a transaction, which is repeated as a whole or not at all."""
        sessions = self.scoped_session.registry
        return sessions.has() and isinstance(sessions().bind, sqlalchemy.Connection)


def _repeatable(name: str) -> Callable[..., object]:
    call = getattr(RDBStorage, name)

    @functools.wraps(call)
    def patiently(self: PatientStorage, *arguments: object, **named: object) -> object:
        return self._patiently(lambda: call(self, *arguments, **named))

    return patiently


for _name in (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_create_new_trial",
    "_set_trial_param",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "_get_trials",
):
    setattr(PatientStorage, _name, _repeatable(_name))


class SameFile:
    """Whether the file of a SQLite database is still the one that was opened.

    SQLite does not look: it goes on writing to a file that was moved away or deleted, where all is lost, and
    it mixes the pages of a file that was copied over the open one with those in its log.
    """

    def __init__(self, file: Path, engine: Engine) -> None:
        self._file = file
        self._was = self._here()
        self._marked: bytes | None = None
        sqlalchemy.event.listen(engine, "checkout", self._check)
        sqlalchemy.event.listen(engine, "do_connect", self._check)  # which would make a file that is gone

    def mark(self, connection: sqlalchemy.Connection) -> None:
        """Give the file a number that no earlier copy has; one with a log has got it from whoever runs."""
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
            connection.exec_driver_sql(f"PRAGMA user_version = {random.getrandbits(31)}")
            connection.commit()
        self._marked = self._mark()

    def unmark(self) -> None:
        """Look at the number no more: the next run writes another."""
        self._marked = None

    def _check(self, *_: object) -> None:
        if self._here() != self._was or (self._marked is not None and self._mark() != self._marked):
            what = "replaced" if self._file.exists() else "removed"
            rule = f"the studies' database was {what} while it was in use; put it back, then call again"
            raise StudyError(rule, file=self._file)

    def _here(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _mark(self) -> bytes:
        """SQLite's ``user_version``, from the file itself and not from the log beside it."""
        descriptor = os.open(self._file, os.O_RDONLY)
        try:
            return os.pread(descriptor, 4, 60)
        finally:
            os.close(descriptor)
