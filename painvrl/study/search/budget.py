"""When a study has had enough: so many trials, so many seconds, or no gain for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from painvrl.core.settings import Settings
from painvrl.stats.dominance import hypervolume
from painvrl.study.store.records import TrialRecord, finished_here, front_of


class StallConfig(Settings):
    """No gain: over the last trials the hypervolume grew by less than a share of itself."""

    trials: int = Field(default=20, ge=1)
    """How many of the last trials are looked at."""
    improvement: float = Field(default=0.01, ge=0)
    """Share by which the hypervolume must have grown over them."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one call of ``study run`` may spend.

    Attributes:
        trials: finished trials requested in all, resumed ones included, those taken over not.
        seconds: of this call; a trial that is under way then may end.
        stall: when the search is not worth going on.
    """

    trials: int
    seconds: float | None = None
    stall: StallConfig | None = None

    def spent(self, records: Sequence[TrialRecord], seconds: float) -> str | None:
        """Why no further trial starts, other than that there are enough; ``None`` while one may.

        Args:
            records: of all trials of the study.
            seconds: since the call.
        """
        if self.seconds is not None and seconds >= self.seconds:
            return f"the time limit of {self.seconds:g} s is reached; the same command continues"
        growth = None if self.stall is None else growth_over(records, self.stall.trials)
        if self.stall is None or growth is None or growth >= self.stall.improvement:
            return None
        return (
            f"the hypervolume grew by {growth:.2%} over the last {self.stall.trials} trials, "
            f"less than {self.stall.improvement:.2%} (study.stall)"
        )


def growth_over(records: Sequence[TrialRecord], last: int) -> float | None:
    """By what share the hypervolume grew over the ``last`` trials; ``None`` before there were so many."""
    latest = {record.number for record in finished_here(records)[-last:]}
    before = _volume([record for record in records if record.number not in latest])
    return None if before == 0 or len(latest) < last else _volume(records) / before - 1


def _volume(records: Sequence[TrialRecord]) -> float:
    return hypervolume([list(record.values or ()) for record in front_of(records)])
