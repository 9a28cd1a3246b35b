"""Runs that are complete, a file each, under a key of all that decides what they compute.

A run's file is written at once, when it is complete: whoever finds it need not train again. Other settings,
data, code or another device make other keys, and going back finds the old files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from painvrl.config import TrainConfig
from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.digest import digest_of
from painvrl.errors import DataError
from painvrl.study.objective import DataSummary
from painvrl.study.outcomes import Completed

_COMPLETED = TypeAdapter(Completed)
_MEANS = TypeAdapter(Mapping[str, tuple[str, ...]])
_OUTCOME, _MEAN_PARTS, _USERS, _VALUES = "outcome", "means", "users/", "values/"


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A run that is complete.

    Attributes:
        outcome: without its curves.
        users: by part, ``[U]`` numbers of the users with positives, ascending.
        values: by full name (``ood/recall_at_20``), ``[U]`` float32, what each of them has got. Both are
            empty where the outcome is all that matters.
        means: names of metrics (``ood``) that are the mean over the parts listed, which have the users.
    """

    outcome: Completed
    users: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[np.float32]]
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def run_key(config: TrainConfig, data: DataSummary, metrics: Sequence[str], cutoff: int) -> str:
    """Equal for two runs only if they compute the same.

    That is: configuration (with its seed), data, metrics, code and device. Of the data only what is the
    same under every seed enters, as ``data`` is the summary of any of the seeds.
    """
    settings = config.model_dump(mode="json")
    return digest_of(settings, data.all_seeds, data.numbers, list(metrics), cutoff)


@dataclass(frozen=True)
class RunStore:
    """Complete runs in ``folder``."""

    folder: Path

    def load(self, key: str) -> KeptRun | None:
        """The run under ``key``; ``None`` if there is none, or only a damaged file."""
        arrays = self._cache.load(key)
        if arrays is None or not {_OUTCOME, _MEAN_PARTS} <= arrays.keys():
            return None
        try:
            outcome = _COMPLETED.validate_python(unpack_text(arrays[_OUTCOME]))
            means = _MEANS.validate_python(unpack_text(arrays[_MEAN_PARTS]))
        except ValueError:
            return None
        return KeptRun(
            outcome=outcome,
            users={part: array.astype(np.int64) for part, array in _under(_USERS, arrays)},
            values=dict(_under(_VALUES, arrays)),
            means=means,
        )

    def store(self, key: str, run: KeptRun) -> None:
        """Write a run; a reader sees all of it or nothing.

        Raises:
            DataError: the folder cannot be written.
        """
        outcome = asdict(replace(run.outcome, curves=()))
        users = {f"{_USERS}{part}": array.astype(np.int32) for part, array in run.users.items()}
        values = {f"{_VALUES}{name}": array for name, array in run.values.items()}
        texts = {_OUTCOME: pack_text(outcome), _MEAN_PARTS: pack_text(dict(run.means))}
        self._cache.store(key, {**texts, **users, **values})

    @property
    def _cache(self) -> ArrayCache:
        return ArrayCache(self.folder)


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for key, array in arrays.items():
        if key.startswith(prefix):
            yield key.removeprefix(prefix), array


def write_text(path: Path, text: str) -> None:
    """Write a file; a reader sees the old one or the new one.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError as error:
        raise DataError(f"cannot be written ({error.strerror})", file=path) from error
