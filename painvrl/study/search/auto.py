"""The sampler ``auto``, which takes one of the others by space and budget.

A space with no more points than the budget is tried whole (``grid``). Otherwise the start-up trials are
random, and their wall time decides: ``gp`` gains most a trial but takes about a second for each, more later,
so it is for few and long trials; else ``tpe``. That choice stays, unless asking turns out too dear: then the
next cheaper sampler takes over, for good.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from painvrl.study.file.queued import queue_of
from painvrl.study.search.port import SAMPLERS, Choice, Sampler
from painvrl.study.store.records import FINISHED, TrialRecord, TrialState

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from painvrl.run.config import TrainConfig
    from painvrl.study.file.space import Space
    from painvrl.study.file.spec import StudySettings, StudySpec
    from painvrl.study.store.storage import StoredStudy

GP_TRIALS = 150
"""Beyond so many trials a Gaussian process takes longer to ask than it gains."""

GP_SECONDS = 30.0
"""Of shorter trials random ones are as good as those that a Gaussian process takes a second to choose."""

CHEAPER = {"gp": "tpe", "tpe": "random"}
"""What takes over from a sampler whose asks are too dear."""

DEAR = {"gp": 0.05, "tpe": 0.5}
"""The share of the workers' time that asks of a sampler may take. One of ``tpe`` takes little of any training
that is worth a search, so its share is high: it is left where it slows a study down, and not before."""

CROWDED = 0.5
"""The share of its time that the asking process may spend on asks: beyond it workers queue for points."""

LAST_ASKS = 5
"""Of at least so many asks and trainings the mean is taken, and of as many as there are workers."""

SHORT = 1.0
"""Trainings of fewer seconds are too short for any of this to matter."""


class Auto(Sampler):
    """Chooses by space and budget."""

    def make(self, stored: StoredStudy, settings: StudySettings, before: int) -> BaseSampler:
        """That of its choice."""
        return SAMPLERS.get(self.choice(stored, settings).sampler).make(stored, settings, before)

    def choice(self, stored: StoredStudy, settings: StudySettings) -> Choice:
        """See :class:`Sampler`; what it decides is stored, and stays until it is too dear."""
        from painvrl.study.store.storage import Attr

        kept = stored.study.user_attrs.get(Attr.AUTO)
        records = stored.trials()
        if kept is not None:
            now = Choice(**kept)
            if (instead := _cheaper(now, stored, records)) is None:
                return now
            stored.study.set_user_attr(Attr.AUTO, asdict(instead))
            return instead
        taken_over = sum(record.taken_from is not None for record in records)
        budget = (stored.requested or settings.trials) + taken_over  # it learns from those, too
        presets = len({record.preset for record in records} - {None})
        decided = whole_grid(stored.sampled, stored.config, budget - presets)
        if decided is None:
            sampled = [record for record in records if record.preset is None and record.state in FINISHED]
            seconds = [
                each.seconds for each in sampled if each.values is not None and each.seconds is not None
            ]
            if len(sampled) < settings.startup_trials or not seconds:
                reason = f"auto: start-up, {len(sampled)} of {settings.startup_trials} trials are finished"
                return Choice(sampler="random", reason=reason)
            decided = model_for(stored.sampled, stored.config, budget, statistics.median(seconds))
        stored.study.set_user_attr(Attr.AUTO, asdict(decided))
        return decided

    def foreseen(self, spec: StudySpec, budget: int) -> Choice:
        """See :class:`Sampler`."""
        queue = queue_of(spec.config, spec.sampled, spec.presets, spec.points)
        presets = sum(one.origin == "preset" for one in queue)
        if (grid := whole_grid(spec.sampled, spec.config, budget - presets)) is not None:
            return grid
        if hangs := spec.sampled.conditional(spec.config):
            then = f"then tpe, for gp models no conditions (space.{next(iter(hangs))} has one)"
        elif budget > GP_TRIALS:
            then = f"then tpe, for gp is for at most {GP_TRIALS} trials"
        else:
            then = f"then gp if the median of them takes {GP_SECONDS:.0f} s or more, else tpe"
        reason = f"random for {spec.study.startup_trials} start-up trials, {then}"
        return Choice(sampler=self.name, reason=reason)


def whole_grid(space: Space, base: TrainConfig, budget: int) -> Choice | None:
    """The grid, if ``auto`` takes it; ``budget`` is without presets, which take no point of it."""
    size = space.size(base)
    if size > budget or space.conditional(base):
        return None
    return Choice(
        sampler="grid",
        reason=f"auto: the whole space, {int(size)} points, fits {budget} trials beside presets",
    )


def model_for(space: Space, base: TrainConfig, budget: int, seconds: float) -> Choice:
    """What ``auto`` takes after the start-up trials, whose median took ``seconds``."""
    for path in space.conditional(base):
        return Choice(sampler="tpe", reason=f"auto: gp models no conditions (space.{path} has one)")
    found = f"{budget} trials of {seconds:.1f} s (median)"
    rule = f"gp is for at most {GP_TRIALS} trials of at least {GP_SECONDS:.0f} s"
    sampler = "gp" if budget <= GP_TRIALS and seconds >= GP_SECONDS else "tpe"
    return Choice(sampler=sampler, reason=f"auto: {found}; {rule}")


def _cheaper(now: Choice, stored: StoredStudy, records: Sequence[TrialRecord]) -> Choice | None:
    """What takes over from the sampler in use, if its last asks took too much of the workers' time."""
    from painvrl.study.store.storage import Attr

    if now.sampler not in CHEAPER:
        return None
    noted = [trial.user_attrs.get(Attr.ASK) for trial in stored.study.get_trials(deepcopy=False)]
    asks = [ask["seconds"] for ask in noted if ask is not None and ask["sampler"] == now.sampler]
    trained = [one.seconds for one in records if _tells_of_time(one) and one.seconds is not None]
    workers = 1 + sum(record.state is TrialState.RUNNING for record in records)
    window = max(LAST_ASKS, workers)
    if min(len(asks), len(trained)) < LAST_ASKS:
        return None
    ask, training = (statistics.fmean(seconds[-window:]) for seconds in (asks, trained))
    dear = ask > DEAR[now.sampler] * (ask + training) or workers * ask > CROWDED * training
    if training < SHORT or not dear:
        return None
    took = f"asks of {now.sampler} took {ask:.2g} s, trainings {training:.2g} s on {workers} workers"
    return Choice(sampler=CHEAPER[now.sampler], reason=f"auto: {took}; that is too much")


def _tells_of_time(record: TrialRecord) -> bool:
    """Whether a trial was searched and trained here: a refused point takes no time."""
    trained = record.state in {TrialState.COMPLETE, TrialState.PRUNED}
    return trained and record.preset is None and record.taken_from is None
