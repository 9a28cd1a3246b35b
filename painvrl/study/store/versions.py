"""Versions of a study: what one file was at different times, ``NAME``, ``NAME-v2``, ``NAME-v3``, ..."""

from __future__ import annotations

import re

import optuna
from optuna.storages import RDBStorage

VERSION_OF = "painvrl:version_of"
"""The user attribute of a later version: the name of the first. A name alone may be anybody's."""


def versions_of(connection: RDBStorage, name: str) -> tuple[str, ...]:
    """Names of a study's versions, the oldest first; none if there is no such study.

    Raises:
        SQLAlchemyError: the storage cannot be read.
    """
    known = optuna.get_all_study_names(connection)
    later = {
        int(match[1]): version
        for version in known
        if (match := re.fullmatch(rf"{re.escape(name)}-v([1-9][0-9]*)", version))
        and connection.get_study_user_attrs(connection.get_study_id_from_name(version)).get(VERSION_OF)
        == name
    }
    first = [name] if name in known else []
    return tuple(first + [later[number] for number in sorted(later)])


def next_version(connection: RDBStorage, name: str) -> str:
    """A name for the next version: higher than all of the study's, and no one else's."""
    known = optuna.get_all_study_names(connection)
    numbers = [int(version.rpartition("-v")[2]) for version in versions_of(connection, name)[1:]]
    number = max(numbers, default=1) + 1
    while f"{name}-v{number}" in known:
        number += 1
    return f"{name}-v{number}"
