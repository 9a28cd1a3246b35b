"""Where a study tries its next point.

A sampler is made again for every trial, with a seed from the study's own and from how many trials are
there: so a study that was stopped continues as one that was not. What it knows it reads from the storage.

On conditions: ``tpe``, ``random`` and ``qmc`` search a hyperparameter with a condition as any other;
``nsga2`` and
``nsga3`` draw it at random, and so would Optuna's ``gp``, which is therefore refused.

Optuna is imported when a sampler is made, since whoever reads a study's file reads the names of all.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

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
"""Points of a grid at most: no one waits for more."""


@dataclass(frozen=True)
class OfOptuna(Sampler):
    """A class of Optuna's.

    Attributes:
        algorithm: its name.
        startup: its argument for the number of start-up trials, if it has one.
        others: its other arguments.
    """

    algorithm: str
    startup: str | None = None
    others: Mapping[str, object] = field(default_factory=dict)

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """See :class:`Sampler`."""
        import optuna

        algorithm: Callable[..., BaseSampler] = getattr(optuna.samplers, self.algorithm)
        startup = {} if self.startup is None else {self.startup: self.waits(stored, settings)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return algorithm(seed=seed_of(settings, before), **startup, **self.others)

    def waits(self, stored: StoredStudy, settings: StudySettings) -> int:
        """The number of start-up trials, as it counts them."""
        return settings.startup_trials


class Tpe(OfOptuna):
    """The tree-structured Parzen estimator."""

    reads_points: ClassVar[bool] = True

    def waits(self, stored: StoredStudy, settings: StudySettings) -> int:
        """See :class:`OfOptuna`; of a swept study it counts points, not trainings."""
        if not stored.swept:
            return settings.startup_trials
        ended = sum(record.preset is None and record.state in FINISHED for record in stored.trials())
        return 0 if ended >= settings.startup_trials else sys.maxsize


class GaussianProcess(OfOptuna):
    """A Gaussian process."""

    def refusal(self, space: Space, base: TrainConfig) -> str | None:
        """See :class:`Sampler`."""
        for path, other in space.conditional(base).items():
            return (
                f"gp models no hyperparameter with a condition (space.{path} hangs on {other}): Optuna's "
                "would draw it at random; take tpe or auto"
            )
        return None


class Random(OfOptuna):
    """Independent draws."""

    reads_trials: ClassVar[bool] = False


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
                return f"a grid needs steps or choices; space.{path} is continuous: give it a step"
        size = space.size(base)
        if size > MAX_GRID:
            return f"the grid has {int(size)} points; it may have {MAX_GRID} at most"
        return None


for _sampler in (
    Auto("auto"),
    Tpe("tpe", "TPESampler", "n_startup_trials"),
    GaussianProcess("gp", "GPSampler", "n_startup_trials", {"warn_independent_sampling": False}),
    OfOptuna("nsga2", "NSGAIISampler", "population_size"),
    OfOptuna("nsga3", "NSGAIIISampler", "population_size"),
    Random("random", "RandomSampler"),
    QuasiMonteCarlo("qmc"),
    Grid("grid"),
):
    SAMPLERS.register(_sampler)

SamplerName = Annotated[str, NameIn(SAMPLERS)]
