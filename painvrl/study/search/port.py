"""What a sampler is: an object that makes Optuna's sampler of each trial of a study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from painvrl.core.registry import Registry
from painvrl.core.rng import derive_seed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from painvrl.run.config import TrainConfig
    from painvrl.study.file.space import Space
    from painvrl.study.file.spec import StudySettings, StudySpec
    from painvrl.study.store.storage import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A sampler by its name, and why it is this one."""

    sampler: str
    reason: str


@dataclass(frozen=True)
class Sampler(ABC):
    """The base of all samplers: an object with a name, settings if it has any, and a rule.

    ``reads_trials``: whether it looks at a study's trials; those of presets are then hidden from it.
    ``reads_points``: whether it sees every point of a swept trial, or the one alone that stands for it.
    ``repeats``: whether it may want what was trained before; if it does too often, another point is drawn.
    """

    reads_trials: ClassVar[bool] = True
    reads_points: ClassVar[bool] = False
    repeats: ClassVar[bool] = True

    name: str

    @abstractmethod
    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """Optuna's sampler of the trial that follows ``before`` ones that ended or are under way.

        Args:
            stored: whose trial it is.
            settings: the study's seed and start-up.
            before: without trials of presets, and without interrupted ones.
        """

    def refusal(self, space: Space, base: TrainConfig) -> str | None:
        """Why it cannot search a space, as a sentence; ``None`` if it can."""
        return None

    def choice(self, stored: StoredStudy, settings: StudySettings) -> Choice:
        """The sampler of the next trial: itself, unless it chooses among others."""
        return self._named()

    def foreseen(self, spec: StudySpec, budget: int) -> Choice:
        """The sampler of a study of ``budget`` trials, as far as it is known before the first one."""
        return self._named()

    def _named(self) -> Choice:
        return Choice(sampler=self.name, reason="study.sampler names it")


SAMPLERS = Registry[Sampler]("sampler", group="painvrl.samplers")


def seed_of(settings: StudySettings, before: int) -> int:
    """The seed of the trial that follows ``before`` ones."""
    return derive_seed(settings.seed, "sampler", before) % 2**32
