"""Asking a study for points and telling it what became of them.

What makes a study resumable is here. A finished trial is counted in the storage, never in memory.
The sampler is seeded again for every trial from the study's seed and the number of trials (presets left
out) that were asked for before and not interrupted, so that a study that was stopped and resumed tries the
points of one that was not (with ``nsga2`` and ``nsga3`` only the start-up points: generations are formed from
trial numbers). With several trials at a time that holds for ``random``, ``qmc`` and ``grid``; ``tpe`` and
``gp`` learn from what has landed by then, and take a trial under way for a bad one (the "constant
liar"), so as not to try its neighbourhood twice.

No configuration is trained twice, whoever asks for it: sampler, preset or the study's file. Such a trial
ends at once, as a failed one, since samplers have learnt from the first. After :data:`MAX_REPEATS` of them in
a row the point is drawn from those that are left (:class:`Untried`), and where none is left the study ends.

A configuration that could not be trained is reported as a complete trial with the worst values that violates
a constraint, since samplers learn nothing from a failed one: ``tpe`` and ``gp`` keep going back to a region
that always fails (in a small experiment with all of the last 20 points), and a violated constraint keeps
them out of it. What it really is stands in its outcome. Only a fault of the program, which says nothing of
the point, is reported as a failure.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import optuna

import painvrl
from painvrl.core.errors import StudyError
from painvrl.engine.loop import MAX_DEATHS, MAX_RUNNER_DEATHS, Death, TakenOver, deaths_after
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome, Pruned
from painvrl.run.distributions import Value
from painvrl.study.file.spec import StudySettings
from painvrl.study.search.history import TRAINED, UNTRAINED, make_sampler
from painvrl.study.search.planned import Untried
from painvrl.study.search.port import SAMPLERS, Choice, seed_of
from painvrl.study.store.lease import Leases, alone
from painvrl.study.store.packed import unpacked
from painvrl.study.store.records import FINISHED, TrialRecord, TrialState, finished_here
from painvrl.study.store.storage import OUTCOME, Attr, StoredStudy

_logger = logging.getLogger(__name__)

MAX_REPEATS = 5
"""So often in a row a sampler may ask for what has been trained."""

WORST = 0.0
"""What such a configuration has of every objective: no metric is below it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial that is running now; that of a preset has no point.

    ``run_id``: the tracker's run of the interrupted trial that it tries again.
    """

    number: int
    point: dict[str, Value]
    preset: str | None = None
    run_id: str | None = None


class AskTell:
    """Where trials are asked for and reported: by the one process that holds the study's lock, or by several.

    Where there are several (:mod:`painvrl.study.store.lease`), each of these calls is one transaction.

    ``code``: a digest of what computes the trials, which each of them notes. ``make_room``: on a disk that
    may be full, for the end of trials. ``clock``: seconds.
    """

    def __init__(
        self,
        stored: StoredStudy,
        settings: StudySettings,
        *,
        code: str = "",
        make_room: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock, self._make_room = clock, make_room
        self._code = {"painvrl": painvrl.__version__, "code": code}
        self._stored = stored
        self._study = stored.study
        self._settings = settings
        self.leases: Leases = Leases(stored)

    def finished(self) -> int:
        """How many trials completed or failed; interrupted ones don't count, nor those taken over."""
        return len(finished_here(self._stored.trials()))

    def running(self) -> int:
        """How many trials are under way, those of other processes included."""
        return sum(record.state is TrialState.RUNNING for record in self._stored.trials())

    @alone
    def ask(self) -> Asked | None:
        """Start a trial: at a queued point if there is one, else where the sampler wants it.

        Returns:
            The trial; ``None`` where every point of the space has been trained or is under way.
        """
        begun = self._clock()
        while True:
            records = self._stored.trials()
            before = _points_before(records)
            trained = self._stored.trained(records)
            untried = Untried(self._stored, trained, seed=seed_of(self._settings, before))
            queued = any(record.state is TrialState.WAITING for record in records)
            if not queued and not untried.any_left():
                return None
            name = self._choice().sampler
            if queued or not SAMPLERS.get(name).repeats or _repeats_in_a_row(records) < MAX_REPEATS:
                self._study.sampler = make_sampler(name, self._settings, before, stored=self._stored)
            else:
                self._study.sampler = untried
            asked = self._start(self._study.ask())
            first = trained.get(self._stored.training(asked.point, asked.preset))
            if first is None:
                if self._settings.sampler == "auto" and self._study.sampler is not untried and not queued:
                    ask = {"sampler": name, "seconds": round(self._clock() - begun, 4)}
                    self._stored.note(asked.number, Attr.ASK, ask)
                self.leases.take(asked.number)
                return asked
            self._stored.note(asked.number, Attr.REPEATS, first)
            self._fail(asked.number)

    def _start(self, trial: optuna.Trial) -> Asked:
        self._stored.note(trial.number, Attr.CODE, self._code)
        preset, retried = (trial.user_attrs.get(name) for name in (Attr.PRESET, Attr.RETRY_OF))
        run_id = None if retried is None else self._stored.trials()[retried].run_id
        if preset is not None:
            return Asked(number=trial.number, point={}, preset=preset, run_id=run_id)
        queued = self._stored.trials()[trial.number].point
        reported = {path: value for path, value in queued.items() if path in self._stored.swept}
        point = {**reported, **self._stored.sampled.suggest(trial, self._stored.config)}
        return Asked(number=trial.number, point=point, run_id=run_id)

    def _choice(self) -> Choice:
        """The sampler of the next trial; reported to whoever looks at the study."""
        choice = SAMPLERS.get(self._settings.sampler).choice(self._stored, self._settings)
        noted = self._stored.storage.get_study_user_attrs(self._stored.study_id).get(Attr.SAMPLER)
        if noted != asdict(choice):
            self._study.set_user_attr(Attr.SAMPLER, asdict(choice))
        return choice

    def attach_run(self, number: int, run_id: str) -> None:
        """Note the MLflow run of a running trial."""
        self._stored.note(number, Attr.RUN_ID, run_id)

    def got_on(self, number: int, death: Death) -> None:
        """Note how far a trial is that this process trains itself, for whoever finds it left behind."""
        self._stored.note(number, Attr.DEATH, asdict(death))

    def tell(self, number: int, outcome: Outcome) -> None:
        """Store what a running trial came to, and end it.

        The outcome is written first, in one piece: should the process die before the trial is
        ended, :meth:`reap` ends it with that outcome, and nothing is computed twice.

        Raises:
            TakenOver: another process has reaped the trial; nothing is stored.
        """
        kept = outcome if isinstance(outcome, Failed) else replace(outcome, curves=())
        try:
            self._tell(number, kept)
        except TakenOver:
            stored = self._stored.trials()[number].outcome
            # The server may have been lost when it had stored this, and before it could say so.
            if stored is None or OUTCOME.dump_json(unpacked(stored)) != OUTCOME.dump_json(kept):
                raise

    @alone
    def _tell(self, number: int, kept: Outcome) -> None:
        self.leases.release(number)
        self._stored.note(number, Attr.OUTCOME, OUTCOME.dump_python(kept, mode="json"))
        self._end(number, kept)

    @alone
    def interrupt(self, number: int) -> None:
        """End a trial that a person stopped; :meth:`reap` queues its point again.

        A trial whose outcome was stored in the last moment ends with that outcome.
        """
        self._make_room()
        self.leases.release(number)
        record = self._stored.trials()[number]
        if record.state is not TrialState.RUNNING:
            return
        if record.outcome is not None:
            self._end(number, record.outcome)
        else:
            self._fail(number)

    def interrupt_all(self) -> int:
        """End what an error has left under way in a file; how many trials that could not be done for.

        Of several processes each ends its own, and leases tell of what it left.
        """
        if self.leases.shared:
            return 0
        with suppress(StudyError):
            for record in self._stored.trials():
                if record.state is TrialState.RUNNING:
                    self.interrupt(record.number)
        return self.running()

    @alone
    def retry(self, number: int, death: Death) -> bool:
        """End a running trial whose worker died, and queue its point again.

        Returns:
            False if :data:`MAX_DEATHS` workers have died over the point: its failure is still to be
            reported.
        """
        record = self._stored.trials()[number]
        if record.state is not TrialState.RUNNING:
            return True  # another process has queued it
        deaths = deaths_after(record.deaths, death)
        self._stored.note(number, Attr.DEATHS, deaths)
        if deaths >= MAX_DEATHS:
            return False
        self.leases.release(number)
        self._fail(number)
        self._requeue()
        return True

    @alone
    def reap(self) -> tuple[int, ...]:
        """Clear up after processes that died or were stopped; call it before the first :meth:`ask`.

        Trials that nobody alive trains end (with their outcome if it was stored already). Points of
        interrupted trials are queued again, each once. None is blamed for one death: what ended the process
        that ran the study need not have been a trial. One that ends each process which trains it in itself
        has failed after :data:`MAX_RUNNER_DEATHS` of them.

        Returns:
            The numbers of the trials that were left running.
        """
        records = self._stored.trials()
        left = [records[number] for number in self.leases.left_behind()]
        for record in left:
            outcome = record.outcome or self._blame(record)
            if outcome is None:
                self._fail(record.number)
            else:
                self._end(record.number, outcome)
        self._requeue()
        return tuple(record.number for record in left)

    def _blame(self, record: TrialRecord) -> Failed | None:
        """Count the death of a process that trained a trial in itself; its failure if they were too many."""
        noted = self._stored.study.get_trials(deepcopy=False)[record.number].user_attrs.get(Attr.DEATH)
        if noted is None:
            return None
        deaths = deaths_after(record.deaths, Death(**noted))
        self._stored.note(record.number, Attr.DEATHS, deaths)
        if deaths < MAX_RUNNER_DEATHS:
            return None
        message = f"{deaths} processes that trained it died, one after the other, and got no further"
        failed = Failed(reason=WORKER_DIED, message=message)
        self._stored.note(record.number, Attr.OUTCOME, OUTCOME.dump_python(failed, mode="json"))
        _logger.warning("note: trial %d has failed: %s", record.number, message)
        return failed

    def _requeue(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(Attr.RETRY_OF) for trial in trials}
        for record in self._stored.trials():
            dropped = Attr.DROPPED in trials[record.number].user_attrs
            if record.state is TrialState.INTERRUPTED and record.number not in retried and not dropped:
                attrs: dict[str, object] = {Attr.RETRY_OF: record.number, Attr.DEATHS: record.deaths}
                if record.preset is not None:
                    attrs[Attr.PRESET] = record.preset
                self._study.enqueue_trial(dict(record.point), user_attrs=attrs)

    def _end(self, number: int, outcome: Outcome) -> None:
        if isinstance(outcome, Pruned):
            self._study.tell(number, state=optuna.trial.TrialState.PRUNED)
        elif isinstance(outcome, Completed):
            self._constrain(number, {UNTRAINED: TRAINED, **self._stored.excess(outcome)})
            self._study.tell(number, [outcome.metrics[name] for name in self._stored.objectives])
        elif outcome.teaches:
            unknown = {constraint.name: 0.0 for constraint in self._stored.constraints}
            self._constrain(number, {UNTRAINED: 1.0, **unknown})
            self._study.tell(number, [WORST] * len(self._stored.objectives))
        else:
            self._fail(number)

    def _constrain(self, number: int, constraints: Mapping[str, float]) -> None:
        trial = self._stored.trial(number)
        with warnings.catch_warnings(action="ignore"):  # some are there where a tell was broken off
            for name, value in constraints.items():
                trial.set_constraint(name, value)

    def _fail(self, number: int) -> None:
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)


def _points_before(records: Sequence[TrialRecord]) -> int:
    """Trials that ended or are under way, as samplers count them: no presets, no interrupted ones."""
    counted = (*FINISHED, TrialState.REPEATED, TrialState.RUNNING)
    return sum(record.state in counted and record.preset is None for record in records)


def _repeats_in_a_row(records: Sequence[TrialRecord]) -> int:
    """How many of the last trials repeated an earlier one; an interrupted one is between none."""
    count = 0
    for record in reversed(records):
        if record.state is TrialState.REPEATED:
            count += 1
        elif record.state is not TrialState.INTERRUPTED:
            break
    return count
