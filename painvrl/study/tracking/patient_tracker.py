"""A tracker that never stops what it mirrors: what it cannot write is kept on disk, and written later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from painvrl.core.errors import StudyError
from painvrl.engine.job import Job
from painvrl.engine.outcomes import Outcome
from painvrl.study.front import FrontTable
from painvrl.study.store.records import TrialRecord
from painvrl.study.tracking.port import ConfigOf, Status, Tracker, TrackerAway
from painvrl.study.tracking.spool import Spool

_logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a tracker is tried again: they double from the first to the longest."""

T = TypeVar("T")


class PatientTracker(Tracker):
    """Stands between a study and its tracker.

    At the start only a tracker that is out of reach is waited for: what else it refuses is a mistake that
    the user can mend before anything is trained. Later nothing that it refuses stops the study.

    Args:
        make: makes the tracker; :class:`TrackerAway` where it is out of reach.
        open_again: opens it, brings it up to date with the storage and ``spool``, and stores its runs.
        spool: where what trials came to waits for it.
        catches_up: what the user can do once the study has ended without it.
        ended: when a trial has ended, as all say it who tell a tracker of it.
    """

    def __init__(
        self,
        make: Callable[[], Tracker],
        open_again: Callable[[Tracker], None],
        spool: Spool,
        *,
        catches_up: str,
        ended: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self._make, self._open_again, self._spool = make, open_again, spool
        self._catches_up, self._ended = catches_up, ended
        self._tracker: Tracker | None = None
        self._unknown: set[int] = set()
        self._pause, self._next, self._told = FIRST_PAUSE, 0.0, False

    def begin(self) -> None:
        """The study begins.

        Raises:
            StudyError: the tracker is there, and refuses.
        """
        try:
            self._connect()
        except TrackerAway as error:
            self._lose(error)

    def try_now(self) -> None:
        """Look for a tracker that is away at once: the study is about to end."""
        self._next = 0.0
        self._tell(lambda _: None)

    def start(self, job: Job) -> str | None:
        """A trial begins; ``None`` while the tracker is away."""
        run_id = self._tell(lambda tracker: tracker.start(job))
        if self._tracker is None:
            self._unknown.add(job.number)
        return run_id

    def finish(self, run_id: str | None, job: Job, outcome: Outcome, *, ended: int | None = None) -> None:
        """A trial ended: kept on disk until the tracker has it."""
        ended = self._spool.keep(job.number, outcome, ended or self._ended(job.number))
        unknown = job.number in self._unknown
        self._unknown.discard(job.number)
        if self._tracker is None:
            self._comes_back()  # with all that is kept
        elif unknown:
            self._tell(self._open_again)
        else:
            self._tell(lambda tracker: tracker.finish(run_id, job, outcome, ended=ended))
            if self._tracker is not None:
                self._spool.drop(job.number)

    def kill(self, run_id: str | None) -> None:
        """A trial was interrupted: a tracker that is away finds that out when it is opened again."""
        self._tell(lambda tracker: tracker.kill(run_id))

    def mark_front(self, membership: Mapping[str, bool]) -> None:
        """Who is on the front now."""
        self._tell(lambda tracker: tracker.mark_front(membership))

    def points(
        self, trainings: Sequence[TrialRecord], front: Collection[str], config_of: ConfigOf
    ) -> Mapping[str, str]:
        """Runs of points; none while the tracker is away."""
        return self._tell(lambda tracker: tracker.points(trainings, front, config_of)) or {}

    def close(
        self, status: Status, *, pages: Mapping[str, str] | None = None, front: FrontTable | None = None
    ) -> None:
        """The study stops here."""
        self._tell(lambda tracker: tracker.close(status, pages=pages, front=front))
        self.leave()

    def leave(self) -> None:
        """This process is done with the study; others may go on with it."""
        if self._tracker is not None:
            if unreadable := self._spool.end():
                said = "note: files of results that cannot be read: %d; set aside in %s"
                _logger.warning(said, unreadable, self._spool.folder)
        else:
            said = "note: MLflow is still to get what trials came to (%d of them), kept in %s; %s"
            _logger.warning(said, len(self._spool), self._spool.folder, self._catches_up)

    def link(self, base_url: str) -> str | None:
        """A link; none while the tracker is away."""
        return None if self._tracker is None else self._tracker.link(base_url)

    def run_pages(self, base_url: str) -> str | None:
        """Where runs are shown; nowhere while the tracker is away."""
        return None if self._tracker is None else self._tracker.run_pages(base_url)

    def _tell(self, call: Callable[[Tracker], T]) -> T | None:
        if self._tracker is None and not self._comes_back():
            return None
        assert self._tracker is not None
        try:
            return call(self._tracker)
        except StudyError as error:
            self._lose(error)
            return None

    def _connect(self) -> None:
        tracker = self._make()
        self._open_again(tracker)
        self._tracker = tracker

    def _comes_back(self) -> bool:
        """Whether a tracker that was away is there again; not looked for more often than it makes sense."""
        if time.monotonic() < self._next:
            return False
        kept = len(self._spool)
        try:
            self._connect()
        except StudyError:
            self._next = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return False
        _logger.warning(
            "note: MLflow answers again, and has what trials came to meanwhile (%d of them)", kept
        )
        self._pause, self._told = FIRST_PAUSE, False
        return True

    def _lose(self, error: StudyError) -> None:
        self._tracker = None
        self._next = time.monotonic() + self._pause
        if not self._told:
            self._told = True
            said = "note: %s; the study goes on, and what MLflow misses is kept in %s (trials so far: %d)"
            _logger.warning(said, error, self._spool.folder, len(self._spool))
