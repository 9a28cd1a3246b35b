"""Where a study tries its next point.

A sampler is made anew for every trial, with a seed from the study's own and from how many trials are
there: so a study that was stopped goes on as one that was not. What it knows it reads from the storage.

On conditions: ``tpe``, ``random`` and ``qmc`` search a knob with a condition as any other; ``nsga2`` and
``nsga3`` draw it at random, and so would Optuna's ``gp``, which is therefore refused.

Optuna is imported when a sampler is made, since whoever reads a study's file reads the names of all.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from painvrl.core.registry import NameIn
from painvrl.core.rng import derive_seed
from painvrl.study.search.auto import Auto
from painvrl.study.search.port import SAMPLERS, Sampler, seed_of
from painvrl.study.store.records import FINISHED

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from painvrl.run.config import TrainConfig
    from painvrl.study.file.space import Space
    from painvrl.study.file.spec import StudySettings
    from painvrl.study.store.storage import StoredStudy

MAX_GRID = 100_000
"""Points of a grid at most: nobody waits for more."""


class Tpe(Sampler):
    """The tree-structured Parzen estimator."""

    reads_points: ClassVar[bool] = True

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        from optuna.samplers import TPESampler

        startup = settings.startup_trials
        if stored.swept:  # it counts points, not trainings
            ended = sum(record.preset is None and record.state in FINISHED for record in stored.trials())
            startup = 0 if ended >= startup else sys.maxsize
        return TPESampler(seed=seed_of(settings, before), n_startup_trials=startup)


class GaussianProcess(Sampler):
    """Optuna's Gaussian process."""

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        from optuna.samplers import GPSampler

        return GPSampler(
            seed=seed_of(settings, before),
            n_startup_trials=settings.startup_trials,
            warn_independent_sampling=False,
        )

    def refusal(self, space: Space, base: TrainConfig) -> str | None:
        """See :class:`Sampler`."""
        for path, other in space.conditional(base).items():
            return (
                f"gp models no knob with a condition (space.{path} hangs on {other}): Optuna's "
                "would draw it at random; take tpe or auto"
            )
        return None


@dataclass(frozen=True)
class Genetic(Sampler):
    """A genetic algorithm: ``algorithm`` is its class in Optuna. The start-up trials are its population."""

    algorithm: str

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        import optuna

        algorithm: type[BaseSampler] = getattr(optuna.samplers, self.algorithm)
        arguments: dict[str, Any] = {
            "seed": seed_of(settings, before),
            "population_size": settings.startup_trials,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return algorithm(**arguments)


class Random(Sampler):
    """Independent draws."""

    reads_trials: ClassVar[bool] = False

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed_of(settings, before))


class QuasiMonteCarlo(Sampler):
    """A scrambled Sobol sequence."""

    reads_trials: ClassVar[bool] = False

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        from painvrl.study.search.planned import Sobol

        seed = derive_seed(settings.seed, "qmc") % 2**32
        return Sobol(stored.sampled, stored.config, seed=seed, place=before)


class Grid(Sampler):
    """Every point of a discrete space once."""

    reads_trials: ClassVar[bool] = False
    repeats: ClassVar[bool] = False

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        from painvrl.study.search.planned import Untried

        trained = stored.trained(stored.trials())
        return Untried(stored, trained, seed=derive_seed(settings.seed, "grid") % 2**32)

    def refusal(self, space: Space, base: TrainConfig) -> str | None:
        """See :class:`Sampler`."""
        hangs = space.conditional(base)
        for path in space.searched(base):
            if path in hangs:
                return f"a grid has no conditions (space.{path} hangs on {hangs[path]}); take tpe or auto"
            if math.isinf(space.root[path].count()):
                return f"a grid needs knobs with steps or choices; space.{path} is continuous: give it a step"
        size = space.size(base)
        if size > MAX_GRID:
            return f"the grid has {int(size)} points; it may have {MAX_GRID} at most"
        return None


for _sampler in (
    Auto("auto"),
    Tpe("tpe"),
    GaussianProcess("gp"),
    Genetic("nsga2", "NSGAIISampler"),
    Genetic("nsga3", "NSGAIIISampler"),
    Random("random"),
    QuasiMonteCarlo("qmc"),
    Grid("grid"),
):
    SAMPLERS.register(_sampler)

SamplerName = Annotated[str, NameIn(SAMPLERS)]
