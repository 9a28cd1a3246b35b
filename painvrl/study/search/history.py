"""What samplers see of a study's history.

Trials of presets have no point, and one without would empty the space that samplers learn in: they are
hidden from them (:class:`FilteredHistorySampler`). The others they see under the constraints of now.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from painvrl.study.file.spec import StudySettings
from painvrl.study.search.port import SAMPLERS
from painvrl.study.store.storage import Attr, StoredStudy

UNTRAINED = "untrained"
"""The constraint that a configuration violates which cannot be trained."""

TRAINED = -1.0
"""What the others have of it."""


def make_sampler(name: str, settings: StudySettings, before: int, *, stored: StoredStudy) -> BaseSampler:
    """Optuna's sampler of a trial; the arguments are those of :meth:`painvrl.study.search.port.Sampler.make`.

    One that looks at trials sees what it may.
    """
    sampler = SAMPLERS.get(name)
    made = sampler.make(stored, settings, before)
    if not sampler.reads_trials:
        return made
    return FilteredHistorySampler(made, stored, curves=sampler.reads_points and bool(stored.swept))


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
        self._constraints = stored.constraints  # once, and not at every hyperparameter: a look is a query
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
    """A complete trial with the constraints that the study has now; it was reported those of its own time.

    So all have the same ones in one order, as ``gp`` wants them.
    """
    reported = trial.constraints
    now = {UNTRAINED: reported.get(UNTRAINED, TRAINED), **excess}
    if list(reported.items()) == list(now.items()):
        return trial
    whole = copy.copy(trial)
    whole.system_attrs = {
        key: value for key, value in trial.system_attrs.items() if not key.startswith("constraints")
    }
    for name, value in now.items():
        whole.set_constraint(name, value)
    return whole


class FilteredHistorySampler(BaseSampler):
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
