"""Leases: who trains a trial of a study that several hosts work on, and whether they are alive.

In a PostgreSQL any number of processes work on one study. Each trial under way has a lease, which is its row
in Optuna's table of heartbeats: the process that asked for the trial renews it, by the server's clock. Where
nobody has for :data:`LEASE` seconds, any other process may end the trial and queue its point under a new
number. A server that was just started knows of nobody's death before that, so leases begin anew with it.
A trial that was ended stays so: whoever trained it nevertheless is refused when it tells.

In a SQLite file a study has one process, which holds its lock. Nobody else's trials are under way there.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import optuna
import sqlalchemy

from painvrl.core.errors import StudyError
from painvrl.study.store.database import are_shared, one_transaction
from painvrl.study.store.patience import patiently
from painvrl.study.store.storage import Attr, StoredStudy

P = ParamSpec("P")
R = TypeVar("R")

BEAT = 10.0
"""Seconds between two renewals."""

LEASE = 60.0
"""Seconds after the last renewal until somebody else may have the trial."""

_NOW = "timezone('utc', clock_timestamp())"
_STARTED = "timezone('utc', pg_postmaster_start_time())"


class Leases:
    """The trials that this process has under way, and those of others that nobody trains any more."""

    def __init__(self, stored: StoredStudy) -> None:
        self.shared: bool = are_shared(stored.storage.url)
        self._stored = stored
        self._beat, self._lease = BEAT, LEASE
        self._mine: dict[int, int] = {}
        self._alone = False
        self._stop = threading.Event()

    def alone(self, call: Callable[[], R]) -> R:
        """Whatever ``call`` reads and writes of the study is one transaction, and the only one meanwhile.

        It is repeated as a whole where the server was lost: then it may have been done before, unknown to us.
        In a SQLite file it is simply called: the study's lock keeps others out. So it is inside of another.
        """
        if not self.shared or self._alone:
            return call()
        return patiently(lambda: self._whole(call))

    def _whole(self, call: Callable[[], R]) -> R:
        self._alone, mine = True, dict(self._mine)
        try:
            storage = self._stored.storage
            with one_transaction(storage, self._stored.study_id), storage.undisturbed():
                return call()
        except BaseException:
            self._mine = mine
            self._stored.forget()  # what was read or written may have been taken back
            raise
        finally:
            self._alone = False

    def take(self, number: int) -> None:
        """Begin the lease of a trial, in the transaction that asked for it."""
        self._mine[number] = self._stored.trial_id(number) if self.shared else number
        if self.shared:
            self._stored.note(number, Attr.OWNER, this_process())
            self._execute(
                f"INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (:trial, {_NOW})",
                trial=self._mine[number],
            )

    def release(self, number: int) -> None:
        """Renew the lease no more: the trial has ended."""
        self._mine.pop(number, None)

    def left_behind(self) -> list[int]:
        """The trials under way that nobody trains: their leases have ended, or processes on this host."""
        running = [
            trial
            for trial in self._stored.study.get_trials(deepcopy=False)
            if trial.state is optuna.trial.TrialState.RUNNING and trial.number not in self._mine
        ]
        if not self.shared or not running:
            return [trial.number for trial in running]
        renewed = self._execute(
            "SELECT number FROM trials JOIN trial_heartbeats USING (trial_id) WHERE study_id = :study"
            f" AND state = 'RUNNING' AND greatest(heartbeat, {_STARTED})"
            f" >= {_NOW} - make_interval(secs => :lease)",
            study=self._stored.study_id,
            lease=self._lease,
        )
        alive = {int(row[0]) for row in renewed}
        return [
            trial.number
            for trial in running
            if trial.number not in alive or is_dead(trial.user_attrs.get(Attr.OWNER))
        ]

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the leases of this process every :data:`BEAT` seconds; in a file all trials are its own."""
        if not self.shared:
            with self._stored.storage.undisturbed():
                yield
            return
        beats = threading.Thread(target=self._renew, name="leases", daemon=True)
        beats.start()
        try:
            yield
        finally:
            self._stop.set()
            beats.join()

    def _renew(self) -> None:
        renewal = sqlalchemy.text(
            f"UPDATE trial_heartbeats SET heartbeat = {_NOW} WHERE trial_id = ANY(:trials)"
        )
        while not self._stop.wait(self._beat):
            # A server that is gone is asked again at the next beat.
            with suppress(sqlalchemy.exc.SQLAlchemyError, StudyError):
                if trials := list(self._mine.values()):
                    with self._stored.storage.engine.begin() as connection:
                        connection.execute(renewal, {"trials": trials})

    def _execute(self, statement: str, **values: object) -> sqlalchemy.Result[Any]:
        """In the transaction of :meth:`alone`."""
        return self._stored.storage.scoped_session().execute(sqlalchemy.text(statement), values)


class _HasLeases(Protocol):
    @property
    def leases(self) -> Leases:
        """Of the trials under way."""


S = TypeVar("S", bound=_HasLeases)


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method one transaction: see :meth:`Leases.alone`."""

    @wraps(method)
    def whole(self: S, /, *arguments: P.args, **named: P.kwargs) -> R:
        return self.leases.alone(lambda: method(self, *arguments, **named))

    return whole


def this_process() -> dict[str, object]:
    """Who trains a trial, for people and for :func:`is_dead`."""
    return {"host": socket.gethostname(), "process": os.getpid(), "numbers": _numbers()}


def is_dead(owner: Mapping[str, object] | None) -> bool:
    """Whether a trial's process was one of this host and has died: its lease need not be waited for."""
    if owner is None or owner["numbers"] is None or owner["numbers"] != _numbers():
        return False
    try:
        os.kill(int(str(owner["process"])), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _numbers() -> str | None:
    """Names what process numbers are unique in: a system since it was started, and a container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: there the lease alone tells
        return None
