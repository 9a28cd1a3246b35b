"""What an ablation has computed: a file a run, under a key of all that decides it.

    ablations/NAME/runs/KEY.npz    the outcome, and the table's metrics of every user
    ablations/NAME/tracking.json   its runs in the tracker
    ablations/NAME/table.md, table.json

A run's file is written at once, when it is complete, by the process that trained it: whoever finds it need
not train again. Changing the ablation's file makes other keys, and going back finds the old ones.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from painvrl.config import TrainConfig
from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.digest import digest_of
from painvrl.errors import DataError
from painvrl.evaluation.metrics import name
from painvrl.study.objective import DataSummary, TrainedJob
from painvrl.study.outcomes import Completed
from painvrl.study.user_values import UserValues, from_arrays, to_arrays, user_values

_COMPLETED = TypeAdapter(Completed)
_OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True)
class KeptRun(UserValues):
    """A run that is complete: what its users have got, and its ``outcome`` without the curves."""

    outcome: Completed


def run_key(config: TrainConfig, data: DataSummary, metrics: Sequence[str], cutoff: int) -> str:
    """Equal for two runs only if they compute the same.

    That is: configuration (with its seed), data, metrics, code and device. Of the data only what is the
    same under every seed enters, as ``data`` is the summary of any of the seeds.
    """
    settings = config.model_dump(mode="json")
    return digest_of(settings, data.all_seeds, data.numbers, list(metrics), cutoff)


@dataclass(frozen=True)
class RunStore:
    """The runs of one ablation in ``folder``."""

    folder: Path

    def load(self, key: str) -> KeptRun | None:
        """The run under ``key``; ``None`` if there is none, or only a damaged file."""
        arrays = self._cache.load(key)
        values = None if arrays is None else from_arrays(arrays)
        if arrays is None or values is None or _OUTCOME not in arrays:
            return None
        try:
            outcome = _COMPLETED.validate_python(unpack_text(arrays[_OUTCOME]))
        except ValueError:
            return None
        return KeptRun(outcome=outcome, users=values.users, values=values.values, means=values.means)

    def store(self, key: str, run: KeptRun) -> None:
        """Write a run; a reader sees all of it or nothing.

        Raises:
            DataError: the folder cannot be written.
        """
        outcome = asdict(replace(run.outcome, curves=()))
        self._cache.store(key, {_OUTCOME: pack_text(outcome), **to_arrays(run)})

    @property
    def _cache(self) -> ArrayCache:
        return ArrayCache(self.folder)


@dataclass(frozen=True, kw_only=True)
class KeepRun:
    """Stores what a job came to, in the process that trained it."""

    store: RunStore
    metrics: tuple[str, ...]
    cutoff: int

    def __call__(self, trained: TrainedJob) -> None:
        """Score every user once more and write the run under the job's key."""
        names = [
            name(part.name, metric, self.cutoff)
            for part in trained.prepared.valid_plan.parts
            for metric in self.metrics
        ]
        values = user_values(trained, names)
        run = KeptRun(outcome=trained.outcome, users=values.users, values=values.values, means=values.means)
        self.store.store(trained.job.key, run)


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where a tracker has the ablation: its own run, and those of complete runs by key.

    ``of``: digest of the base configuration and of the data under every seed; another one is another
    ablation to the tracker.
    """

    of: str
    parent_run: str | None = None
    runs: Mapping[str, str] = field(default_factory=dict)


def load_tracked(path: Path, of: str) -> Tracked:
    """What the file remembers of this ablation; nothing if it cannot be read."""
    try:
        tracked = TypeAdapter(Tracked).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return Tracked(of=of)
    return tracked if tracked.of == of else Tracked(of=of)


def save_tracked(path: Path, tracked: Tracked) -> None:
    """Write what a later process needs to find the runs again."""
    write_text(path, json.dumps(asdict(tracked), indent=1))


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
