"""Who is stopped early: the rule of :mod:`painvrl.study.search.pruning` on what the storage knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from optuna.trial import FrozenTrial, TrialState

from painvrl.data.parts import LOEO
from painvrl.engine.sweep import curve_at
from painvrl.run.config import TrainConfig
from painvrl.study.search.pruning import PruningConfig, ahead_of, places, rungs_of
from painvrl.study.store.storage import Attr, StoredStudy

Curve: TypeAlias = list[list[float]]
"""A trial's points at a rung, each by its axes."""


class Pruner:
    """Judges the trials of a study at their rungs, in the process that runs it.

    What a trial had at a rung is kept with it in the storage, and read from there: every process that
    works on the study judges by the same values.
    """

    def __init__(self, stored: StoredStudy, settings: PruningConfig) -> None:
        self._stored = stored
        self._settings = settings
        self._axes = axes_by_part(stored.objectives)

    def rungs(self, config: TrainConfig) -> frozenset[str]:
        """Where a run of ``config`` is to be judged: nowhere, if an objective is known at the end alone."""
        if any(name.startswith(f"{LOEO}/") for name in self._stored.objectives):
            return frozenset()
        return rungs_of(config, self._settings)

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        """Why a running trial is to stop at ``rung``; ``None`` if it continues.

        Trials that a person or a preset asked for always go on, and the others are judged against them, too.
        Rivals with equal values count once: presets often share their pretraining. A trial is judged once:
        one that was killed and continues under another number keeps the verdict that it had.

        Args:
            number: the trial.
            rung: see :func:`rungs_of`.
            values: the metrics of the valid parts there, and of a swept trial those of its points.
        """
        key, verdict = f"{Attr.RUNG}{rung}", f"{Attr.VERDICT}{rung}"
        trials = self._stored.study.get_trials(deepcopy=False)
        for before in earlier_tries(trials, number):
            if verdict in before.user_attrs:
                self._stored.note(number, key, before.user_attrs[key])
                said: str | None = before.user_attrs[verdict]
                self._stored.note(number, verdict, said)
                return said
        own = curve_at(values, self._axes)
        self._stored.note(number, key, own)
        said = self._verdict(trials, number, key, own) if was_searched(trials, number) else None
        self._stored.note(number, verdict, said)
        return said

    def _verdict(self, trials: Sequence[FrozenTrial], number: int, key: str, own: Curve) -> str | None:
        others = [
            _curve(trial.user_attrs[key])
            for trial in trials
            if key in trial.user_attrs and _counts(trial, number)
        ]
        rivals = [curve for place, curve in enumerate(others) if curve not in others[:place]]
        ahead, wanted = ahead_of([*rivals, own], len(rivals)), places(len(rivals) + 1, self._settings.eta)
        if ahead < wanted:
            return None
        return (
            f"{ahead} of {len(rivals)} rivals were ahead of it there, and {wanted} of {len(rivals) + 1} go on"
        )


def _curve(noted: Sequence[float] | Curve) -> Curve:
    """What a trial had at a rung; old versions noted the values of its one point."""
    return cast("Curve", noted if noted and isinstance(noted[0], list) else [noted])


def earlier_tries(trials: Sequence[FrozenTrial], number: int) -> Iterator[FrozenTrial]:
    """The trials, the last one first, whose point a trial tries again because they were interrupted."""
    trial = trials[number]
    while (before := trial.user_attrs.get(Attr.RETRY_OF)) is not None:
        trial = trials[before]
        yield trial


def was_searched(trials: Sequence[FrozenTrial], number: int) -> bool:
    """Whether the sampler chose a trial's point; a point that is tried again is what it was at first."""
    *_, trial = (trials[number], *earlier_tries(trials, number))
    return "fixed_params" not in trial.system_attrs and Attr.PRESET not in trial.user_attrs


def _counts(trial: FrozenTrial, number: int) -> bool:
    """A trial that was interrupted is tried again under another number: it would count twice."""
    if trial.number == number:
        return False
    return trial.state is not TrialState.FAIL or Attr.OUTCOME in trial.user_attrs


def axes_by_part(objectives: Sequence[str]) -> tuple[str, ...]:
    """One objective of each part that the study measures: its NDCG if that is one, else its first."""
    parts = dict.fromkeys(name.partition("/")[0] for name in objectives)
    of_part = {part: [name for name in objectives if name.startswith(f"{part}/")] for part in parts}
    return tuple(
        next((name for name in names if "/ndcg_at_" in name), names[0]) for names in of_part.values()
    )
