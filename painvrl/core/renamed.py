"""Settings and metrics that earlier versions called otherwise, and what they are called now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SETTINGS: Mapping[str, str] = {
    "environments.tilt": "environments.logit_offset",
    "environments.personal_ridge": "environments.per_user_ridge",
    "training.watch": "training.monitor",
    "data.invariant_taste": "data.invariant_affinity",
    "data.shared_taste": "data.shared_affinity",
    "data.own_taste": "data.own_affinity",
}
"""Settings by their path before."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "environments.logit_offset": {"personal": "per_user"},
    "data.shift": {"taste": "affinity"},
    "mask.penalty": {"legacy": "invrl"},
}
"""Of a setting its choices by their name before."""

METRICS: Mapping[str, str] = {
    "ndcg_legacy": "ndcg_invrl",
    "environments/recovered": "environments/label_recovery",
}
"""Metrics by their name before."""

_OWN = ("data.", "split.")
"""Sections whose texts are the user's: paths, columns, names of groups."""
_WORDS = {**SETTINGS, **METRICS}
_WHOLE = re.compile(rf"((?:config|space)\.|(?:[a-z0-9_.]+/)*)({'|'.join(map(re.escape, _WORDS))})(_at_\d+)?")
"""A path of settings or the name of a metric, and nothing else."""


def new_name(path: str) -> str | None:
    """The path of a setting today, by one that ends in its path before; ``None`` if it was not renamed.

    >>> new_name("config.training.watch")
    'training.monitor'
    """
    return next((now for before, now in SETTINGS.items() if f".{path}".endswith(f".{before}")), None)


def new_choice(path: str, choice: object) -> str | None:
    """The name of a choice today, by the path of its setting; ``None`` if it was not renamed."""
    named = next((names for known, names in CHOICES.items() if f".{path}".endswith(f".{known}")), {})
    return named.get(choice) if isinstance(choice, str) else None


def with_new_names(tree: Any, path: str = "") -> Any:
    """JSON in which settings, choices and metrics have today's names.

    Args:
        tree: a configuration, or whatever holds one: nested, or flat with paths as keys.
        path: where it stands, such as ``environments``.
    """
    if isinstance(tree, Mapping):
        return {
            (key := _new_key(old, path)): with_new_names(value, f"{path}.{key}" if path else key)
            for old, value in tree.items()
        }
    if isinstance(tree, list):
        return [with_new_names(one, path) for one in tree]
    if not isinstance(tree, str):
        return tree
    # The choices of a distribution stand below the path of their setting.
    names = next((names for known, names in CHOICES.items() if f".{known}." in f".{path}."), {})
    if tree in names:
        return names[tree]
    return tree if any(f".{section}" in f".{path}" for section in _OWN) else _renamed(tree)


def _new_key(key: str, path: str) -> str:
    if "." not in key and (now := new_name(f"{path}.{key}")) is not None:
        return now.rpartition(".")[2]
    return _renamed(key)


def _renamed(text: str) -> str:
    found = _WHOLE.fullmatch(text)
    return text if found is None else f"{found[1]}{_WORDS[found[2]]}{found[3] or ''}"
