"""What a study is: two studies whose trials compare have one identity."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TypeAlias

from painvrl.core.settings import Settings
from painvrl.evaluation.measured import ObjectiveName
from painvrl.run.config import TrainConfig
from painvrl.study.file.space import Space

Change: TypeAlias = tuple[str, str | None, str | None]
"""A key, its value here and its value there; ``None`` where it has none."""

_SHOWN = 80  # characters of a value in a line of differences


class StudyIdentity(Settings):
    """What must not change while a study continues: else its trials would not compare.

    Its constraints, presets, points, sampler and budget are not part of it: they decide which trials
    there are and which of them may be on the front, but not what a trial measures. Nor is how the data are
    read, as long as the same data come of it: files move, and readers learn new settings.
    """

    objectives: tuple[ObjectiveName, ...]
    """What trials are measured by."""
    config: TrainConfig
    """The configuration that every trial changes."""
    space: Space
    """What is searched."""
    data: str
    """Fingerprint of the data."""
    seeds: int = 1
    """How often each training is repeated."""

    def differences(self, other: StudyIdentity, *, swept: Container[str] = ()) -> tuple[str, ...]:
        """What ``other`` has otherwise: a line ``- key: value`` of this one, a line ``+ key: value`` of it.

        The base configuration's own value of a hyperparameter that every trial searches may differ: only the
        base's own trial and the presets' look at it, and they take the one that the study was made with. That
        of a hyperparameter of ``swept`` may not: every training is swept from there.
        """
        return lines_of(self.changes(other, swept=swept))

    def changes(self, other: StudyIdentity, *, swept: Container[str] = ()) -> tuple[Change, ...]:
        """The same as key, value of this one and value of ``other``; ``None`` where one has no such key."""
        same_data = self.data == other.data
        mine = self._flat(swept, reading=not same_data)
        theirs = other._flat(swept, reading=not same_data)
        return tuple(
            (key, _value(mine, key), _value(theirs, key))
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key) or (key in mine) != (key in theirs)
        )

    def reading(self, config: TrainConfig) -> StudyIdentity:
        """The same study, whose data are read from now on as ``config`` says."""
        return self.model_copy(update={"config": self.config.model_copy(update={"data": config.data})})

    def _flat(self, swept: Container[str], *, reading: bool) -> dict[str, object]:
        sampled = self.space.without(swept).root
        always = {f"config.{path}" for path, hyperparameter in sampled.items() if not hyperparameter.when}
        tree = self.model_dump(mode="json", exclude={"data"})
        tree["config"]["data"].pop("memory_limit", None)  # it decides no value
        if not reading:
            del tree["config"]["data"]
            del tree["config"]["split"]["iid_candidates"]  # left out, it stands for one of the two
        flat = dict(_flatten(tree))
        flat["the data (content or split)"] = self.data
        return {key: value for key, value in flat.items() if key not in always}


def lines_of(changes: Iterable[Change]) -> tuple[str, ...]:
    """A line ``- key: value`` for what was, and a line ``+ key: value`` for what is."""
    return tuple(
        f"{sign} {key}: {value}"
        for key, was, now in changes
        for sign, value in (("-", was), ("+", now))
        if value is not None
    )


def _flatten(tree: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{above}{key}.")
        elif not isinstance(value, Mapping):
            yield f"{above}{key}", value


def _value(flat: Mapping[str, object], key: str) -> str | None:
    if key not in flat:
        return None
    text = repr(flat[key])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
