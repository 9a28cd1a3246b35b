"""The database that studies lie in: how it is addressed, and one creator at a time."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from painvrl.errors import ConfigError, StudyError
from painvrl.workspace import Workspace

CREATION = 7_209_377_364_102_051_843
"""PostgreSQL's name of the lock: any number that nobody else picks."""


def engine_url(url: str) -> sqlalchemy.URL:
    """``url`` with the driver of the extra ``postgres`` where it names none."""
    parsed = sqlalchemy.make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def without_password(url: str) -> str:
    """``url`` as it may be shown.

    Raises:
        ConfigError: it is no database URL.
    """
    with readable_errors(url):
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)


@contextmanager
def sole_creator(url: str) -> Iterator[None]:
    """Wait until nobody else creates a study in the database, and keep others out.

    Without it, processes that start at once stumble over each other's tables and queue a study's first
    points once each. Servers other than PostgreSQL are not locked.
    """
    parsed = engine_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        path = Workspace(Path(str(parsed.database)).absolute().parent).lock_path("creating a study")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield
    elif backend == "postgresql":
        engine = sqlalchemy.create_engine(parsed, poolclass=NullPool)
        with engine.connect() as connection:  # the lock goes with the connection, however it ends
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(CREATION)))
            yield
    else:
        yield


@contextmanager
def sole_runner(url: str, study: str) -> Iterator[None]:
    """Keep processes on other machines from running the study, where the database is a PostgreSQL.

    The lock goes with its connection, however that ends. Other servers are not locked.

    Raises:
        StudyError: another process holds it.
    """
    parsed = engine_url(url)
    if parsed.get_backend_name() != "postgresql":
        yield
        return
    name = int.from_bytes(hashlib.blake2b(study.encode(), digest_size=8).digest(), signed=True)
    # In no transaction: one that lasts as long as a study keeps a server from tidying up.
    engine = sqlalchemy.create_engine(parsed, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with readable_errors(url):
        connection = engine.connect()
    with connection:
        if not connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(name))):
            rule = "is being run by another process, on this machine or another; wait for it or stop it"
            raise StudyError(rule, key=study)
        yield


def connect(url: str) -> RDBStorage:
    """Optuna's storage at ``url``; the folder of a SQLite file is made."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parsed = engine_url(url)
    engine: dict[str, object] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        engine["connect_args"] = {"timeout": 60}  # seconds to wait for another process's write
        if parsed.database:
            Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    storage = RDBStorage(parsed.render_as_string(hide_password=False), engine_kwargs=engine)
    if parsed.get_backend_name() == "sqlite":
        sqlalchemy.event.listen(storage.engine, "connect", commit_quickly)
        storage.engine.dispose()  # the connection that looked for the tables commits slowly
    return storage


def commit_quickly(connection: sqlite3.Connection, _: object = None) -> None:
    """Let commits to a SQLite file wait for no disk: a trial has a dozen, of 10 to 30 ms each.

    Whatever a process wrote stays when it is killed. A power cut may take the last commits, never the file.
    A file that may only be read stays as it is.
    """
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
        driver = getattr(error.__cause__, "name", None) or error.name
        raise StudyError(f"the database's driver {driver} is not installed", key="storage") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, OSError) as error:
        shown = sqlalchemy.make_url(url).render_as_string(hide_password=True)
        cause = str(getattr(error, "orig", None) or error.__cause__ or error).splitlines()[0]
        raise StudyError(f"the studies cannot be read: {cause}", file=shown) from None
