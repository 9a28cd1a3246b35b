"""Until when a worker may be at a job, before whoever gave it the job ends it."""

from __future__ import annotations

import math
import time

from painvrl.engine.job import Job

GRACE_SECONDS = 60.0
"""A job that looks at its own time is done so long after it: what it does between two looks takes less."""

START_SECONDS = 600.0
"""Before its first stage a job has so much more: its process may have to load libraries and data."""

LATE = "it did not stop when its time was over, so its process was killed"


class Deadline:
    """When a job with a timeout is given up; one without has none.

    Args:
        job: what the worker computes.
        waits: it may wait for a worker to be placed, for as long as that takes.
    """

    def __init__(self, job: Job | None, *, waits: bool = False) -> None:
        self._timeout = None if job is None else job.timeout
        self._begun = False
        self._at = self._after(math.inf if waits else START_SECONDS)

    def has_begun(self) -> None:
        """The job has entered a stage: from the first one on its time runs."""
        if not self._begun:
            self._begun, self._at = True, self._after(0.0)

    def _after(self, more: float) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout + GRACE_SECONDS + more

    def is_over(self) -> bool:
        """Whether the job has used up its time, and the grace."""
        return self._at is not None and time.monotonic() > self._at
