"""What an ablation keeps: of every run also what each user has got, and where a tracker has it.

    ablations/NAME/runs/KEY.npz    the outcome, and the table's metrics of every user
    ablations/NAME/tracking.json   its runs in the tracker
    ablations/NAME/table.md, table.json

A run's file (:mod:`painvrl.study.runs.kept`) is written by the process that trained it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from painvrl.core.wholefile import write_whole
from painvrl.evaluation.metrics import name
from painvrl.study.runs.kept import KeptRun, RunStore
from painvrl.study.trial.objective import TrainedJob
from painvrl.study.trial.user_values import user_values


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
    write_whole(path, json.dumps(asdict(tracked), indent=1), what="what the runs are tracked as")
