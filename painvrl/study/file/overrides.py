"""``--set path=value``: a study's file with values of the command line in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from painvrl.core.errors import ConfigError, Mistakes
from painvrl.core.yamlfile import checked, near_matches, parse_value
from painvrl.run.hyperparameters import all_hyperparameters

T = TypeVar("T")

OPTION = "--set"


def loaded(path: Path, overrides: Sequence[str], check: Callable[[Mapping[str, object]], T]) -> T:
    """What ``check`` makes of the content of a YAML file with ``overrides`` in it.

    Raises:
        ConfigError: rules are broken; each names ``--set`` where that broke it, and else the file.
    """

    def with_options(content: Mapping[str, object]) -> T:
        changed, mistakes = with_overrides(content, overrides), Mistakes()
        with mistakes.noted():
            made = check(changed)
        if not mistakes.found:
            return made
        of_file = Mistakes()
        with of_file.noted():
            check(content)
        own = {str(mistake) for mistake in of_file.found}
        mistakes.found = [_blamed(mistake, overrides, own) for mistake in mistakes.found]
        raise mistakes.whole()

    return checked(path, with_options)


def with_overrides(content: Mapping[str, object], overrides: Sequence[str]) -> dict[str, object]:
    """A copy of a file's ``content`` with each ``path=value`` of ``overrides`` in its place.

    Values are YAML. Sections that the file leaves out are made; a list's entries are numbered from 0.

    Raises:
        ConfigError: an override does not read so, or leads nowhere.
    """
    tree: dict[str, Any] = copy.deepcopy(dict(content))
    mistakes = Mistakes()
    for override in overrides:
        path, equals, text = override.partition("=")
        path = path.strip()
        with mistakes.noted():
            if not equals or not all(path.split(".")):
                raise ConfigError("must read path=value", key=OPTION, value=override)
            _put(tree, _keys(tree, path), parse_value(text, key=f"{OPTION} {path}"), path)
    mistakes.raise_all()
    return tree


def _keys(tree: Mapping[str, Any], path: str) -> list[str]:
    """The keys that lead to a value; in some places a key is the dotted path of a hyperparameter."""
    first, *rest = path.split(".")
    if first == "space" and rest:
        known = {*all_hyperparameters(), *(tree["space"] if isinstance(tree.get("space"), Mapping) else ())}
        ends = [end for end in range(len(rest), 0, -1) if ".".join(rest[:end]) in known]
        if not ends:
            rule = "is not a hyperparameter of the config" + near_matches(".".join(rest), known)
            raise ConfigError(rule, key=f"{OPTION} {path}")
        hyperparameter, below = ".".join(rest[: ends[0]]), rest[ends[0] :]
        if below[:1] == ["when"] and below[1:]:
            below = ["when", ".".join(below[1:])]
        return [first, hyperparameter, *below]
    if first in {"points", "variants"} and len(rest) > 1:
        return [first, rest[0], ".".join(rest[1:])]
    return [first, *rest]


def _put(tree: dict[str, Any], keys: Sequence[str], value: object, path: str) -> None:
    here: Any = tree
    for key in keys[:-1]:
        if isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
        here = here[_step(here, key, path)]
    here[_step(here, keys[-1], path)] = value


def _step(here: object, key: str, path: str) -> str | int:
    if isinstance(here, dict):
        return key
    if not isinstance(here, list):
        raise ConfigError(f"leads into a value: there is no {key!r} below it", key=f"{OPTION} {path}")
    if not key.isdecimal() or int(key) >= len(here):
        raise ConfigError(f"the list has no entry {key}; it has {len(here)}", key=f"{OPTION} {path}")
    return int(key)


def _blamed(mistake: ConfigError, overrides: Sequence[str], of_file: Container[str]) -> ConfigError:
    """``mistake``, reported of the option where the option is why; ``of_file`` are those without options."""
    key = mistake.key or ""
    for override in overrides:
        turned = override.partition("=")[0].strip()
        if key == turned or key.startswith(f"{turned}."):
            return ConfigError(mistake.rule, key=f"{OPTION} {key}", value=mistake.value)
    if not overrides or str(mistake) in of_file:
        return mistake
    options = f"{OPTION} {f' {OPTION} '.join(overrides)}"
    return ConfigError(mistake.rule, file=options, key=mistake.key, value=mistake.value)
