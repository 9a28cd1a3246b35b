"""What an ablation keeps: of every run also what each user has got, and where a tracker has it.

    ablations/NAME/runs/KEY.npz    the outcome, and the table's metrics of every user
    ablations/NAME/tracking.json   its runs in the tracker
    ablations/NAME/table.md, table.json

A run's file (:mod:`painvrl.engine.kept`) is written by the process that trained it.
"""

from __future__ import annotations

from dataclasses import dataclass

from painvrl.engine.kept import KeptRun, RunStore
from painvrl.engine.training import TrainedJob
from painvrl.engine.user_values import user_values
from painvrl.evaluation.metrics import name


@dataclass(frozen=True, kw_only=True)
class KeepRun:
    """Stores what a job came to, in the process that trained it."""

    store: RunStore
    metrics: tuple[str, ...]
    cutoff: int

    def __call__(self, trained: TrainedJob) -> None:
        """Score every user once more and write the run under the job's key."""
        (run,) = trained.under
        parts = run.prepared.valid_plan.parts
        names = [name(part.name, metric, self.cutoff) for part in parts for metric in self.metrics]
        values = user_values(run, names)
        kept = KeptRun(outcome=trained.outcome, users=values.users, values=values.values, means=values.means)
        self.store.store(trained.job.key, kept)
