"""One trial after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from painvrl.study.objective import Objective, Outcome, TrialJob


class InlineExecutor:
    """Computes a job inside :meth:`submit`.

    Args:
        objective: what computes it.
        on_stage: told ``(trial number, stage)`` while it is computed.
    """

    def __init__(self, objective: Objective, on_stage: Callable[[int, str], None]) -> None:
        self._objective = objective
        self._on_stage = on_stage

    def submit(self, job: TrialJob) -> Future[Outcome]:
        """Compute the job; the future is done."""
        future: Future[Outcome] = Future()
        future.set_result(self._objective(job, lambda stage: self._on_stage(job.number, stage)))
        return future
