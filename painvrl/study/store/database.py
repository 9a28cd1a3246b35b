"""The database that studies lie in: how it is addressed, and one creator at a time."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from painvrl.core.errors import ConfigError, StudyError
from painvrl.core.packages import not_installed
from painvrl.core.shown import conceal
from painvrl.core.workspace import Workspace
from painvrl.study.store.known import StudyStorage
from painvrl.study.store.patience import SameFile, ServerGone

LOCKED_SECONDS = 20
"""How long another process's write is waited for."""

SMALLEST = 512
"""Bytes of the smallest page that a SQLite file can have."""
IDLE_SECONDS = 60
"""How long others wait for a process that was stopped in the middle of a transaction."""

RETAKE_SECONDS = 10.0
"""How often a runner takes its lock again, which goes where the server restarts."""

LOST = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "keepalives_idle": 30}
"""When a connection that holds a lock gives up a server that is out of reach: seconds, and milliseconds."""

CREATION = 7_209_377_364_102_051_843
"""PostgreSQL's name of the lock: any number that no one else picks."""


def engine_url(url: str) -> sqlalchemy.URL:
    """``url`` with the driver of the extra ``postgres`` where it names none."""
    conceal(url)
    try:
        parsed = sqlalchemy.make_url(url)
    except ValueError:  # of a port; without its words, which may be those of a password
        raise ConfigError("is not a database URL", key="storage", value=url) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database, absolute; ``None`` in memory, behind a URI, or of another kind."""
    parsed = engine_url(url)
    name = parsed.database or ""
    if parsed.get_backend_name() != "sqlite" or name in {"", ":memory:"} or name.startswith("file:"):
        return None
    return Path(name).absolute()


def is_there(url: str) -> bool:
    """Whether a database exists, as far as that can be seen without connecting to it, which would make it."""
    file = sqlite_file(url)
    return file is None or file.exists()


@contextmanager
def sole_creator(url: str) -> Iterator[None]:
    """Wait until no one else creates a study in the database, and keep others out.

    Without it, processes that start at once stumble over each other's tables and queue a study's first
    points once each. Servers other than PostgreSQL are not locked.
    """
    parsed = engine_url(url)
    if (file := sqlite_file(url)) is not None:
        path = Workspace(file.parent).lock_path("creating a study")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            if file.exists() and file.stat().st_size < SMALLEST:  # SQLite would take it for a new one
                rule = "is empty or cut off: put a copy in its place, or delete it"
                raise StudyError(rule, file=file)
            yield
    elif parsed.get_backend_name() == "postgresql":
        with _locked(url, CREATION):
            yield
    else:
        yield


def refuse_cut_off(url: str) -> None:
    """Look at a SQLite file before it is opened, which would make an empty one whole.

    Raises:
        StudyError: it is empty or cut off, and nobody makes it now.
    """
    file = sqlite_file(url)
    if file is not None and file.is_file() and file.stat().st_size < SMALLEST:
        with sole_creator(url):
            pass


@contextmanager
def sole_tracker(url: str, study: str) -> Iterator[None]:
    """Wait until no one else makes runs that all processes of a study share, in a PostgreSQL.

    A tracker may be slow. So it is not the lock of who creates a study.
    """
    with _locked(url, _number_of(f"the tracker of {study}")):
        yield


@contextmanager
def _locked(url: str, lock: int) -> Iterator[None]:
    engine = _engine_of_locks(engine_url(url))
    sqlalchemy.event.listen(engine, "handle_error", partial(_refused, url))
    with engine.connect() as connection:  # the lock goes with the connection, however it ends
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(lock)))
        yield


def _number_of(name: str) -> int:
    """What PostgreSQL knows a lock by."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _engine_of_locks(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Connections that hold locks, and are in no transaction.

    One that lasts as long as a study keeps a server from tidying up, and its end is an error where the server
    was restarted meanwhile.
    """
    limits = {name: value for name, value in LOST.items() if name not in url.query}
    return sqlalchemy.create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=limits
    )


def are_shared(url: str) -> bool:
    """Whether several hosts may work on one of its studies: in a PostgreSQL, not in a file."""
    with readable_errors(url):
        return engine_url(url).get_backend_name() == "postgresql"


@contextmanager
def sole_runner(url: str, study: str, *, among_runners: bool = False) -> Iterator[None]:
    """Keep processes on other machines from running the study, where the database is a PostgreSQL.

    The lock goes with its connection, however that ends. Other servers are not locked. That each trial has
    one process does not hang on it (:mod:`painvrl.study.store.lease`).

    ``among_runners`` makes it one of any number of runners. It keeps out those alone that want the study for
    themselves, such as an earlier version of painvrl. It is taken again where the server was restarted.

    Raises:
        StudyError: another process holds it.
    """
    parsed = engine_url(url)
    if parsed.get_backend_name() != "postgresql":
        yield
        return
    name = _number_of(study)
    with readable_errors(url):
        connection = _engine_of_locks(parsed).connect()
    with connection:
        take = sqlalchemy.func.pg_try_advisory_lock
        if among_runners:
            take = sqlalchemy.func.pg_try_advisory_lock_shared
        # Whoever asks whether the study is run holds it for a moment.
        tries = (0, 0.3, 1) if among_runners else (0,)
        if not any(_taken(connection, take(name), wait) for wait in tries):
            rule = "is being run by another process, on this machine or another; wait for it or stop it"
            raise StudyError(rule, key=study)
        if not among_runners:
            yield
            return
        done = threading.Event()
        keeper = threading.Thread(target=_retake, args=(connection, take(name), done), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


def _retake(connection: sqlalchemy.Connection, lock: sqlalchemy.Function[bool], end: threading.Event) -> None:
    """Take a runner's lock again and again: one that is held is held once more, until the connection ends."""
    while not end.wait(RETAKE_SECONDS):
        try:
            _taken(connection, lock, 0)
        except sqlalchemy.exc.SQLAlchemyError:  # the next attempt connects anew
            connection.rollback()


def _taken(connection: sqlalchemy.Connection, lock: sqlalchemy.Function[bool], wait: float) -> bool:
    time.sleep(wait)
    return bool(connection.scalar(sqlalchemy.select(lock)))


@contextmanager
def one_transaction(storage: RDBStorage, study: int) -> Iterator[None]:
    """All that this thread has the storage do meanwhile is one transaction; others wait for their own.

    Optuna's sessions join a transaction that is begun here, with the study's row locked. The server ends it
    where it idles, so that a process that was stopped in the middle keeps nobody waiting for ever.

    Args:
        storage: in a PostgreSQL.
        study: the study's number there.
    """
    storage.remove_session()
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        connection.execute(
            sqlalchemy.text("SELECT study_id FROM studies WHERE study_id = :study FOR UPDATE"),
            {"study": study},
        )
        storage.scoped_session(bind=connection)
        try:
            yield
        finally:
            storage.remove_session()


def connect(url: str) -> StudyStorage:
    """Optuna's storage at ``url``; the folder of a SQLite file is made."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parsed = engine_url(url)
    engine: dict[str, object] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        engine["connect_args"] = {"timeout": LOCKED_SECONDS}
    if (file := sqlite_file(url)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = StudyStorage(parsed.render_as_string(hide_password=False), engine_kwargs=engine)
    except (ValueError, TypeError, LookupError, AssertionError) as error:  # it holds nonsense
        raise _refusal(url, error) from error
    storage.refusal = partial(_refusal, url)
    if file is not None:
        storage.file = SameFile(file, storage.engine)
    sqlalchemy.event.listen(storage.engine, "handle_error", partial(_refused, url))
    return storage


@contextmanager
def quick_commits(storage: StudyStorage) -> Iterator[StudyStorage]:
    """Let commits to a SQLite file wait for no disk meanwhile: a trial has a dozen, of 10 to 30 ms each.

    Whatever a process wrote stays when it is killed. A power cut may take the last commits, never the file.
    The write-ahead log that does this is a property of the file, which whoever reads it must be able to
    write beside, and part of the studies then lies in a second file: so it goes when this ends. While others
    have the file open, it stays for the last of them that runs a study. Other databases are left alone.
    """
    engine = storage.engine
    if engine.dialect.name != "sqlite":
        yield storage
        return
    file = storage.file
    if file is not None:  # before there is a log: it is the file itself that gets the mark
        with suppress(sqlalchemy.exc.SQLAlchemyError, StudyError), engine.connect() as connection:
            file.mark(connection)
    sqlalchemy.event.listen(engine, "connect", commit_quickly)
    engine.dispose()  # the connections so far commit slowly
    try:
        yield storage
    finally:
        sqlalchemy.event.remove(engine, "connect", commit_quickly)
        engine.dispose()
        with suppress(sqlalchemy.exc.SQLAlchemyError, StudyError), engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
        if file is not None:
            file.unmark()
        engine.dispose()  # in vain, its connection would keep the others' log from ending, too


def commit_quickly(connection: sqlite3.Connection, _: object = None) -> None:
    """Let a connection's commits wait for no disk; a file that may only be read stays as it is."""
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def readable_errors(url: str) -> Iterator[None]:
    """Turn the database's errors into one line that keeps the password out."""
    try:
        yield
    except sqlalchemy.exc.ArgumentError:
        raise ConfigError(
            "is not a database URL such as sqlite:////folder/optuna.db", key="storage"
        ) from None
    except ImportError as error:
        raise StudyError(not_installed(error), key="storage") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, OSError) as error:
        raise _refusal(url, error) from None


def advice_on(cause: str) -> str:
    """What SQLite said of its file, with what a user can do about it."""
    return next((f"{cause}; {advice}" for said, advice in _ADVICE.items() if said in cause), cause)


_ADVICE = {
    "database is locked": "end the process that holds it or wait for it, then call again",
    "readonly database": "change its permissions, or copy the workspace to a place that can be written",
    "disk is full": "free some space, then call again",
    "disk I/O error": "the disk is full or fails: see to it, then call again",
    "unable to open database file": "see whether its folder is there and can be written",
    "file is not a database": "it is damaged or something else: put a copy in its place",
    "disk image is malformed": "it is damaged: put a copy in its place",
}


def _refused(url: str, context: sqlalchemy.engine.ExceptionContext) -> None:
    """Say that the database is locked, full, read-only or gone, wherever that is met.

    Other errors stay what they are: Optuna has its own answers to queries that are too long and to deadlocks.
    """
    error = context.original_exception
    if not isinstance(error, Exception):  # Ctrl-C in a query takes the connection along, and stays what it is
        return
    gone = (context.is_disconnect or context.connection is None) and not context.is_pre_ping
    if gone and engine_url(url).get_backend_name() != "sqlite":
        raise _refusal(url, error, ServerGone) from None
    if gone or any(said in str(error) for said in _ADVICE):
        raise _refusal(url, error) from None


def _refusal(url: str, error: BaseException, kind: type[StudyError] = StudyError) -> StudyError:
    cause = str(getattr(error, "orig", None) or error.__cause__ or error).partition("\n")[0]
    return kind(f"the studies' database refuses: {advice_on(cause)}", file=sqlite_file(url) or url)
