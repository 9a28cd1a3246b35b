"""Picks: points that somebody chose, by their alias, kept with the study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from painvrl.core.errors import ConfigError, StudyError
from painvrl.core.settings import Settings
from painvrl.engine.outcomes import point_name
from painvrl.study.store.storage import StoredStudy

_PREFIX = "painvrl:pick:"  # of a study's user attributes, one a pick: two commands never write the same one
_ALIAS = re.compile(r"[\w-]{1,200}")
_VERSION = re.compile(r"[vV]\d+")


class Pick(Settings):
    """A chosen point."""

    alias: str
    """What its model is called in MLflow."""
    trial: int
    """Number of its trial."""
    place: int | None = None
    """Its place among the points of a swept trial."""
    rule: str
    """How it was chosen."""
    reason: str
    """Why, one sentence, as it stood then."""
    values: Mapping[str, float]
    """Values of the objectives."""

    @property
    def name(self) -> str:
        """What the point is called."""
        return point_name(self.trial, self.place)


def check_alias(alias: str) -> str:
    """``alias``, if MLflow takes it for a model's alias.

    Raises:
        ConfigError: it does not.
    """
    if not _ALIAS.fullmatch(alias):
        raise ConfigError("holds letters, digits, _ and - only, at most 200 of them", key="--as", value=alias)
    if alias.lower() == "latest" or _VERSION.fullmatch(alias):
        rule = "is reserved: in MLflow `latest` and `v1`, `v2`, ... already name versions of a model"
        raise ConfigError(rule, key="--as", value=alias)
    return alias


def stored_picks(study: StoredStudy) -> tuple[Pick, ...]:
    """The picks of a study, by alias.

    Raises:
        StudyError: one was stored by a version of painvrl that this one does not know.
    """
    kept = {
        key.removeprefix(_PREFIX): value
        for key, value in study.study.user_attrs.items()
        if key.startswith(_PREFIX) and value is not None
    }
    return tuple(_read(study, alias, kept[alias]) for alias in sorted(kept))


def store_pick(study: StoredStudy, pick: Pick) -> None:
    """Keep a pick, in place of another of that alias.

    Raises:
        ConfigError: its alias cannot be one of MLflow's.
    """
    study.study.set_user_attr(_PREFIX + check_alias(pick.alias), pick.model_dump(mode="json"))


def remove_pick(study: StoredStudy, alias: str) -> Pick:
    """Forget a pick; it is returned.

    Raises:
        StudyError: there is none of that alias.
    """
    pick = pick_named(stored_picks(study), alias, study=study.name)
    study.study.set_user_attr(_PREFIX + alias, None)  # Optuna cannot delete an attribute
    return pick


def pick_named(picks: Sequence[Pick], alias: str, *, study: str) -> Pick:
    """The pick of an alias.

    Raises:
        StudyError: there is none.
    """
    found = next((pick for pick in picks if pick.alias == alias), None)
    if found is None:
        there = ", ".join(pick.alias for pick in picks) or "none; `painvrl study pick` makes one"
        raise StudyError(f"the study {study!r} has no such pick; there is {there}", key="pick", value=alias)
    return found


def _read(study: StoredStudy, alias: str, stored: object) -> Pick:
    try:
        return Pick.model_validate(stored)
    except ValidationError:
        rule = f"its pick {alias!r} cannot be read by this version of painvrl; pick again with --as {alias}"
        raise StudyError(rule, key=study.name) from None
