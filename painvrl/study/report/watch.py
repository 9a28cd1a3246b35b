"""Watching a study that runs: when its report is to be written anew, and when for the last time."""

from __future__ import annotations

import time
from collections.abc import Iterator

from painvrl.core.workspace import Workspace
from painvrl.study.store.lock import is_run
from painvrl.study.store.records import FINISHED
from painvrl.study.store.storage import StoredStudy

EVERY = 10
"""Seconds between two looks."""


def watched(study: StoredStudy, workspace: Workspace) -> Iterator[bool]:
    """Whether the study still runs, whenever more of its trials have ended; ends when nobody runs it.

    Args:
        study: which.
        workspace: where its lock is, unless it is on a server that knows.
    """
    seen = None
    while True:
        running = is_run(study, workspace)  # asked first: the last look sees every trial
        ended = sum(record.state in FINISHED for record in study.trials())
        if ended != seen or not running:
            yield running
        if not running:
            return
        seen = ended
        time.sleep(EVERY)
