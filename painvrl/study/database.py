"""The database that studies lie in: how it is addressed, and one creator at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from sqlalchemy.pool import NullPool

from painvrl.workspace import Workspace

CREATION = 7_209_377_364_102_051_843
"""PostgreSQL's name of the lock: any number that nobody else picks."""


def engine_url(url: str) -> sqlalchemy.URL:
    """``url`` with the driver of the extra ``postgres`` where it names none."""
    parsed = sqlalchemy.make_url(url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


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
