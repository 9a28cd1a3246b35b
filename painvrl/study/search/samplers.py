"""Where a study tries its next point.

A sampler is made anew for every trial, with a seed from the study's own and from how many trials are
there: so a study that was stopped goes on as one that was not. What it knows it reads from the storage.
Trials of presets have no point, and one without would empty the space that samplers learn in: they are
hidden from them (:class:`Blinkered`).

``auto`` chooses once. A space with no more points than the budget is tried whole (``grid``). Otherwise
the start-up trials are random, and their wall time decides: ``gp`` gains most a trial but takes about a
second for each, more later, so it is for few and long trials; else ``tpe``.

On conditions: ``tpe``, ``random`` and ``qmc`` search a knob with a condition as any other; ``nsga2`` and
``nsga3`` draw it at random, and so would Optuna's ``gp``, which is therefore refused.
"""

from __future__ import annotations

import copy
import statistics
import sys
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from painvrl.core.rng import derive_seed
from painvrl.run.config import TrainConfig
from painvrl.study.file.space import Space
from painvrl.study.file.spec import SamplerName, StudySettings
from painvrl.study.search.planned import Sobol, Untried
from painvrl.study.store.records import FINISHED
from painvrl.study.store.storage import Attr, StoredStudy

GP_TRIALS = 150
"""Beyond so many trials a Gaussian process takes longer to ask than it gains."""

GP_SECONDS = 30.0
"""Of shorter trials random ones are as good as those that a Gaussian process takes a second to choose."""

UNTRAINED = "untrained"
"""The constraint that a configuration violates which cannot be trained."""

TRAINED = -1.0
"""What the others have of it."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A sampler, and why it is this one."""

    sampler: SamplerName
    reason: str


def choose(stored: StoredStudy, settings: StudySettings) -> Choice:
    """The sampler of the next trial; what ``auto`` decides is stored, and stays."""
    if settings.sampler != "auto":
        return Choice(sampler=settings.sampler, reason="study.sampler names it")
    kept = stored.study.user_attrs.get(Attr.AUTO)
    if kept is not None:
        return Choice(**kept)
    records = stored.trials()
    taken_over = sum(record.taken_from is not None for record in records)
    budget = (stored.wanted or settings.trials) + taken_over  # it learns from those, too
    presets = len({record.preset for record in records} - {None})
    if (grid := whole_grid(stored.sampled, stored.config, budget - presets)) is not None:
        return _decided(stored, grid)
    sampled = [record for record in records if record.preset is None and record.state in FINISHED]
    seconds = [each.seconds for each in sampled if each.values is not None and each.seconds is not None]
    if len(sampled) < settings.startup_trials or not seconds:
        reason = f"auto: start-up, {len(sampled)} of {settings.startup_trials} trials are finished"
        return Choice(sampler="random", reason=reason)
    return _decided(stored, model_for(stored.sampled, stored.config, budget, statistics.median(seconds)))


def whole_grid(space: Space, base: TrainConfig, budget: int) -> Choice | None:
    """The grid, if ``auto`` takes it; ``budget`` is without presets, which take no point of it."""
    size = space.size(base)
    if size > budget or conditional(space, base):
        return None
    return Choice(
        sampler="grid",
        reason=f"auto: the whole space, {int(size)} points, fits {budget} trials beside presets",
    )


def model_for(space: Space, base: TrainConfig, budget: int, seconds: float) -> Choice:
    """What ``auto`` takes after the start-up trials, whose median took ``seconds``."""
    if hangs := conditional(space, base):
        return Choice(sampler="tpe", reason=f"auto: gp models no conditions (space.{hangs[0]} has one)")
    found = f"{budget} trials of {seconds:.1f} s (median)"
    rule = f"gp is for at most {GP_TRIALS} trials of at least {GP_SECONDS:.0f} s"
    sampler: SamplerName = "gp" if budget <= GP_TRIALS and seconds >= GP_SECONDS else "tpe"
    return Choice(sampler=sampler, reason=f"auto: {found}; {rule}")


def conditional(space: Space, base: TrainConfig) -> list[str]:
    """The knobs that are searched in some trials and not in others."""
    return [
        path for path in space.searched(base) if any(other in space.root for other in space.root[path].when)
    ]


def _decided(stored: StoredStudy, choice: Choice) -> Choice:
    stored.study.set_user_attr(Attr.AUTO, asdict(choice))
    return choice


def make_sampler(
    name: SamplerName, settings: StudySettings, before: int, *, stored: StoredStudy
) -> BaseSampler:
    """The sampler of the trial that follows ``before`` ones that ended or are under way.

    Args:
        name: which one; not ``auto``.
        settings: the study's seed and start-up.
        before: without trials of presets, and without interrupted ones.
        stored: whose trial it is.
    """
    space, base = stored.sampled, stored.config
    seed = seed_of(settings, before)
    startup = settings.startup_trials
    if name == "tpe":
        if stored.swept:  # it counts points, not trainings
            ended = sum(record.preset is None and record.state in FINISHED for record in stored.trials())
            startup = 0 if ended >= startup else sys.maxsize
        tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        return Blinkered(tpe, stored, curves=bool(stored.swept))
    if name == "gp":
        gp = optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        return Blinkered(gp, stored)
    if name == "nsga2":
        return Blinkered(optuna.samplers.NSGAIISampler(seed=seed, population_size=startup), stored)
    if name == "nsga3":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return Blinkered(optuna.samplers.NSGAIIISampler(seed=seed, population_size=startup), stored)
    if name == "qmc":
        return Sobol(space, base, seed=derive_seed(settings.seed, "qmc") % 2**32, place=before)
    if name == "grid":
        trained = stored.trained(stored.trials())
        return Untried(stored, trained, seed=derive_seed(settings.seed, "grid") % 2**32)
    return optuna.samplers.RandomSampler(seed=seed)


def seed_of(settings: StudySettings, before: int) -> int:
    """The seed of the trial that follows ``before`` ones."""
    return derive_seed(settings.seed, "sampler", before) % 2**32


class _View(optuna.Study):
    """A study as samplers may see it: without the trials that have no point, under today's constraints.

    With ``curves`` a swept trial is there once for each of its points: all at its place in the space, each
    with values of its own.
    """

    def __init__(self, study: optuna.Study, stored: StoredStudy, *, curves: bool) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)  # noqa: SLF001
        self.whole = study
        self._stored = stored
        self._curves = curves
        self._constraints = stored.constraints  # once, and not at every knob: a look is a query
        self._ended: dict[int, list[FrozenTrial]] = {}

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = self.whole._get_trials(deepcopy, states, use_cache)  # noqa: SLF001 (what samplers call)
        seen = [trial for trial in trials if Attr.PRESET not in trial.user_attrs]
        return [one for trial in seen for one in self._seen_as(trial)]

    def _seen_as(self, trial: FrozenTrial) -> list[FrozenTrial]:
        if trial.state is not TrialState.COMPLETE:
            return [trial]
        if trial.number not in self._ended:
            record = self._stored.record_of(trial)
            points = record.points if self._curves else ()
            self._ended[trial.number] = [
                _constrained(
                    trial if one is record else _with_values(trial, one.values or ()),
                    self._stored.excess_under(self._constraints, one),
                )
                for one in points or (record,)
            ]
        return self._ended[trial.number]


def _with_values(trial: FrozenTrial, values: Sequence[float]) -> FrozenTrial:
    other = copy.copy(trial)
    other.values = list(values)
    return other


def _constrained(trial: FrozenTrial, excess: Mapping[str, float]) -> FrozenTrial:
    """A complete trial with the constraints that the study has now; it was told those of its own time.

    So all have the same ones in one order, as ``gp`` wants them.
    """
    told = trial.constraints
    now = {UNTRAINED: told.get(UNTRAINED, TRAINED), **excess}
    if list(told.items()) == list(now.items()):
        return trial
    whole = copy.copy(trial)
    whole.system_attrs = {
        key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")
    }
    for name, value in now.items():
        whole.set_constraint(name, value)
    return whole


class Blinkered(BaseSampler):
    """``inner``, which does not see trials of presets, and the others under the constraints of now.

    ``curves``: whether it sees every point of a swept trial, or the one alone that stands for it.
    """

    def __init__(self, inner: BaseSampler, stored: StoredStudy, *, curves: bool = False) -> None:
        self.inner = inner
        self._curves = curves
        self._stored = stored
        self._view: _View | None = None

    def _seen(self, study: optuna.Study) -> optuna.Study:
        if self._view is None or self._view.whole is not study:  # making one asks the storage
            self._view = _View(study, self._stored, curves=self._curves)
        return self._view

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """See Optuna."""
        return self.inner.infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See Optuna."""
        return self.inner.sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """See Optuna."""
        return self.inner.sample_independent(self._seen(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See Optuna."""
        self.inner.before_trial(self._seen(study), trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See Optuna."""
        self.inner.after_trial(self._seen(study), trial, state, values)

    def reseed_rng(self) -> None:
        """See Optuna."""
        self.inner.reseed_rng()
