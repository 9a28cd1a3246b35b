"""Runs that are complete, a file each, under a key of all that decides what they compute.

A run's file is written at once, when it is complete: whoever finds it need not train again. Other settings,
data, code or another device make other keys, and going back finds the old files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.digest import digest_of
from painvrl.engine.job import DataSummary
from painvrl.engine.outcomes import Completed
from painvrl.engine.user_value_store import from_arrays, to_arrays
from painvrl.evaluation.user_values import UserValues
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import Point

_COMPLETED = TypeAdapter(Completed)
_OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True)
class SavedRun(UserValues):
    """A run that is complete: its ``outcome`` without the curves, and what its users have got.

    The users' values are empty where the outcome is all that matters.
    """

    outcome: Completed


def run_key(
    config: TrainConfig,
    data: DataSummary,
    metrics: Sequence[str],
    cutoff: int,
    points: Sequence[Point] = (),
) -> str:
    """Equal for two runs only if they compute the same.

    That is: configuration (with its seed), data, metrics, code and device, and the ``points`` at which the
    training is scored, in their order. So a run of some points never passes for one of others. Of the data
    only what is the same under every seed enters, as ``data`` is the summary of any of the seeds.
    """
    parts = [config.deciding(), data.all_seeds, data.numbers, list(metrics), cutoff]
    if points:  # without them the key is what it was before there were any: old runs are found again
        parts.append([dict(point) for point in points])
    return digest_of(*parts)


@dataclass(frozen=True)
class RunStore:
    """Complete runs in ``folder``."""

    folder: Path

    def load(self, key: str) -> SavedRun | None:
        """The run under ``key``; ``None`` if there is none, or only a damaged file."""
        arrays = self._cache.load(key)
        values = None if arrays is None else from_arrays(arrays)
        if arrays is None or values is None or _OUTCOME not in arrays:
            return None
        try:
            outcome = _COMPLETED.validate_python(unpack_text(arrays[_OUTCOME]))
        except ValueError:
            return None
        return SavedRun(outcome=outcome, users=values.users, values=values.values, means=values.means)

    def store(self, key: str, run: SavedRun) -> None:
        """Write a run; a reader sees all of it or nothing.

        Raises:
            PlaceError: the folder cannot be written.
        """
        outcome = asdict(replace(run.outcome, curves=()))
        self._cache.store(key, {_OUTCOME: pack_text(outcome), **to_arrays(run)})

    @property
    def _cache(self) -> ArrayCache:
        return ArrayCache(self.folder)
