"""Where trials are computed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from painvrl.study.objective import Outcome, TrialJob


class Executor(Protocol):
    """Takes jobs and promises outcomes; a job that cannot be trained is an outcome, too."""

    def submit(self, job: TrialJob) -> Future[Outcome]:
        """Start a job, now or later. ``KeyboardInterrupt`` may come out of here or of the future."""
        ...
