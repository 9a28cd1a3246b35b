"""Which hyperparameters matter: for each objective on its own, and for getting to the front.

Two measures stand side by side because they answer different questions and disagree. fANOVA splits the
variance of one objective over all trials among the hyperparameters. PED-ANOVA compares where the best tenth
of the trials (by rank of domination, then by hypervolume) lies with where all trials lie: a hyperparameter
that decides much but whose good values differ along the front is unimportant to it.

The shares of a measure add up to 1 whether there is anything to share or not. So those of PED-ANOVA stand
beside what chance reaches: the same measure where the objectives are shuffled among the trials. fANOVA grows
a forest for each objective, too slow to do forty times at the end of every study; of it the note warns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from painvrl.study.plots.figure import safe
from painvrl.study.plots.theme import ACCENT, INK, TINTS, facets
from painvrl.study.report.trials import Trials
from painvrl.study.store.storage import StoredStudy

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MIN_TRIALS = 10
"""Below so many trials both measures tell of the draw, not of the hyperparameters."""

FANOVA_TRIALS = 200
"""fANOVA's seconds grow with the square of the trials; of more than so many it gets a sample."""

SHUFFLES = 39
"""The second largest of so many is beaten by one share in twenty of a hyperparameter that does nothing."""


@dataclass(frozen=True, kw_only=True)
class HyperparameterImportance:
    """Shares that add up to 1 over the hyperparameters of one measure.

    Attributes:
        objectives: fANOVA, by objective; ``None`` where it cannot tell.
        front: PED-ANOVA with all objectives at once.
        chance: what ``front`` exceeds in one of twenty cases if the hyperparameter does nothing. It is each
            hyperparameter's own: a hyperparameter with many values reaches more by chance than a choice of
            two.
    """

    hyperparameter: str
    objectives: Mapping[str, float | None]
    front: float | None
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Importance:
    """What the hyperparameters matter.

    Attributes:
        trials: how many were looked at: complete, feasible, of the space.
        hyperparameters: those that matter most for any objective first.
        note: why there is none, or which of them to lean on.
    """

    trials: int
    hyperparameters: tuple[HyperparameterImportance, ...]
    note: str


def importance(study: StoredStudy, trials: Trials, *, seed: int = 0) -> Importance:
    """Both measures over the searched trials, in a copy of the study that holds nothing else.

    Args:
        study: the trials as Optuna keeps them.
        trials: which of them to look at.
        seed: of fANOVA's trees and of the shuffles.
    """
    count = len(trials.searched)
    needed = max(MIN_TRIALS, len(trials.sampled) + 2)
    if count < needed:
        few = f"It takes at least {needed} complete trials, presets apart, to say what matters"
        note = f"{few}; there are {count}."
        return Importance(trials=count, hyperparameters=(), note=note)
    searched = _searched(study, trials)
    if len({tuple(trial.values) for trial in searched}) == 1:
        note = f"No objective varies over the {count} trials, so there is nothing to explain."
        return Importance(trials=count, hyperparameters=(), note=note)
    copied = _in_memory(searched)
    looked_at = _in_memory(_sample(searched, seed)) if count > FANOVA_TRIALS else copied
    by_objective = {name: _fanova(looked_at, place, seed) for place, name in enumerate(trials.objectives)}
    front = _ped_anova(copied)
    chance = _by_chance(searched, seed)
    rows = [
        HyperparameterImportance(
            hyperparameter=hyperparameter,
            objectives={name: shares.get(hyperparameter) for name, shares in by_objective.items()},
            front=front.get(hyperparameter),
            chance=chance.get(hyperparameter),
        )
        for hyperparameter in trials.sampled
        if hyperparameter in front
    ]
    rows.sort(key=lambda row: -max((share or 0.0 for share in row.objectives.values()), default=0.0))
    return Importance(trials=count, hyperparameters=tuple(rows), note=_to_lean_on(rows, count))


def _sample(trials: Sequence[FrozenTrial], seed: int) -> list[FrozenTrial]:
    """As many as fANOVA gets, in their order."""
    drawn = np.random.default_rng(seed).choice(len(trials), FANOVA_TRIALS, replace=False)
    return [trials[place] for place in sorted(drawn)]


def _to_lean_on(rows: Sequence[HyperparameterImportance], count: int) -> str:
    above = [row.hyperparameter for row in rows if (row.front or 0.0) > (row.chance or 0.0)]
    return (
        f"Above chance for the front: {', '.join(above) or 'no hyperparameter'}. "
        f"Chance is what one in twenty shuffles of the objectives among these {count} trials gives a "
        "hyperparameter. Shares add up to 1 also where there is only noise, and those of fANOVA are not "
        "held against chance."
        + (f" fANOVA looked at {FANOVA_TRIALS} of them, drawn at random." if count > FANOVA_TRIALS else "")
    )


def picture(found: Importance, objectives: tuple[str, ...]) -> Figure | None:
    """Bars of each hyperparameter: one an objective, and the front's; ``None`` if there are none."""
    if not found.hyperparameters:
        return None
    alone, together = "each objective alone (fANOVA)", "the front (PED-ANOVA)"
    rows = [
        {"x": share, "y": safe(hyperparameter.hyperparameter), "across": measure, "group": safe(what)}
        for hyperparameter in found.hyperparameters
        for measure, what, share in (
            *((alone, objective, hyperparameter.objectives[objective]) for objective in objectives),
            (together, "the front", hyperparameter.front),
        )
    ]
    names = [safe(hyperparameter.hyperparameter) for hyperparameter in found.hyperparameters]
    colours = {**dict(zip(map(safe, objectives), cycle(TINTS), strict=False)), "the front": ACCENT}
    height = 140 + (24 + 10 * len(objectives)) * len(names)
    figure = facets("bar", rows, colours, height=height, barmode="group", orders={"y": names})
    figure.add_scatter(
        y=names,
        x=[hyperparameter.chance for hyperparameter in found.hyperparameters],
        mode="markers",
        name="chance",
        marker={"symbol": "line-ns-open", "size": 16, "color": INK, "line": {"width": 2}},
        hovertemplate="%{y}: one in twenty by chance above %{x:.3f}<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(title_text="share", rangemode="tozero")
    figure.update_yaxes(ticks="")
    figure.update_yaxes(showticklabels=False, col=2)
    return figure


def _searched(study: StoredStudy, trials: Trials) -> list[FrozenTrial]:
    """The searched trainings with what was sampled alone: before a sweep they may have had others."""
    numbers = {record.number for record in trials.searched}
    frozen = [trial for trial in study.study.get_trials(deepcopy=False) if trial.number in numbers]
    return [_dealt(trial, trial.values, trials.sampled) for trial in frozen]


def _dealt(trial: FrozenTrial, values: Sequence[float], hyperparameters: Container[str]) -> FrozenTrial:
    """A trial's ``hyperparameters`` with other values, without constraint or outcome."""
    there = [path for path in trial.params if path in hyperparameters]
    return create_trial(
        params={path: trial.params[path] for path in there},
        distributions={path: trial.distributions[path] for path in there},
        values=values,
    )


def _in_memory(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study that holds nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(directions=["maximize"] * len(trials[0].values))
        study.add_trials(trials)
    return study


def _fanova(study: optuna.Study, place: int, seed: int) -> dict[str, float]:
    """Shares by hyperparameter, of those that every trial has; none if the objective never varies."""
    evaluator = FanovaImportanceEvaluator(seed=seed)
    try:
        shares = get_param_importances(study, evaluator=evaluator, target=lambda trial: trial.values[place])
    except RuntimeError:  # no tree saw any variance
        return {}
    return _finite(shares)


def _ped_anova(study: optuna.Study) -> dict[str, float]:
    return _finite(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def _by_chance(trials: Sequence[FrozenTrial], seed: int) -> dict[str, float]:
    """The second largest share of :data:`SHUFFLES` each; a trial's values are dealt out together."""
    draws = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(SHUFFLES):
        order = draws.permutation(len(trials))
        shuffled = [
            _dealt(trial, trials[place].values, trial.params)
            for trial, place in zip(trials, order, strict=True)
        ]
        for hyperparameter, share in _ped_anova(_in_memory(shuffled)).items():
            drawn.setdefault(hyperparameter, []).append(share)
    return {
        hyperparameter: sorted(shares)[-2]
        for hyperparameter, shares in drawn.items()
        if len(shares) == SHUFFLES
    }


def _finite(shares: Mapping[str, float]) -> dict[str, float]:
    return {hyperparameter: float(share) for hyperparameter, share in shares.items() if math.isfinite(share)}
