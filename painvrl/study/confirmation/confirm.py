"""Confirming a front: its candidates are run under fresh seeds until it is decided who is on it.

Candidates are points. A training is run once under a seed for all the points that the study has of it, with
the values that the study found: nothing is swept again. So seeds and runs are counted by training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.core.rng import derive_seed
from painvrl.core.wholefile import write_whole
from painvrl.core.workspace import Workspace
from painvrl.engine.events import Progress
from painvrl.engine.executor import Executor, executor_of
from painvrl.engine.grid import Cell, Grid
from painvrl.engine.job import Job, Objective
from painvrl.engine.outcomes import Completed
from painvrl.engine.saved import RunStore, SavedRun, run_key
from painvrl.engine.sweep import Sweep
from painvrl.engine.training import TrainingObjective
from painvrl.stats.seed_effects import Fit, draw_means, fit
from painvrl.study.confirmation.candidates import Candidate, candidates_of, near_the_front
from painvrl.study.confirmation.decision import Decision, Verdict, judge, next_step
from painvrl.study.confirmation.table import CandidateRow, Confirmation, optimism_of, rows_of
from painvrl.study.file.spec import pretraining_comes_back
from painvrl.study.search.pruner import axes_by_part
from painvrl.study.store.lock import study_lock
from painvrl.study.store.records import why_no_front
from painvrl.study.store.storage import StoredStudy
from painvrl.study.tracking.mlflow_notes import write_notes
from painvrl.study.tracking.port import NullTracker

Scope: TypeAlias = Literal["front", "plausible"]

AT_LEAST = 2
"""Seeds of every candidate: fewer show no noise."""

DRAWS = 4000
"""Of the means; a probability of 0.9 is known to half a percent."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How things stand after some runs.

    Attributes:
        seeds: the most fresh seeds that a candidate has run under.
        undecided: names of the points of which it is not known yet whether they are on the front.
        candidates: how many there are.
    """

    seeds: int
    undecided: tuple[str, ...]
    candidates: int


@dataclass(frozen=True, kw_only=True)
class ConfirmationSummary:
    """What a confirmation came to.

    Attributes:
        folder: where it is kept.
        not_tracked: why it is not in MLflow, although the study is.
    """

    confirmation: Confirmation
    folder: Path
    not_tracked: str | None


def run_confirmation(
    study: StoredStudy,
    workspace: Workspace,
    device: torch.device,
    *,
    seeds_at_most: int = 10,
    sure: float = 0.9,
    scope: Scope = "plausible",
    workers: int = 1,
    memory_fraction: float | None = None,
    progress: Progress | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
    objective: Objective | None = None,
) -> ConfirmationSummary:
    """Run the candidates of a study's front under fresh seeds, as far as is needed, and write the result.

    Every run is kept, with the values of all its training's points: the same call computes none again, and
    one that allows more seeds or asks for other points continues. A run that failed is tried again by the
    next call; until then none of its training's points is on the front.

    Args:
        study: with at least one feasible point.
        workspace: where everything is kept.
        device: where to train; ``cuda`` without a number is all CUDA devices, dealt to the workers.
        seeds_at_most: fresh seeds of any candidate.
        sure: the probability at which a candidate is decided.
        scope: ``front``: the front's points only; ``plausible``: near ones, too.
        workers: runs at a time.
        memory_fraction: of a CUDA device that each worker may use.
        progress: is called on every run.
        on_step: is called with how things stand whenever that was computed again.
        objective: computes the runs of a single worker, in this process; training by default.

    Raises:
        UserError: an option, the data, the workspace or the storage is not as it must be.
        NothingFeasible: the study has no feasible point, or every training of its front failed.
        KeyboardInterrupt: the user stopped it. What is complete is kept, and the same call continues.
    """
    if seeds_at_most < AT_LEAST:
        raise ConfigError(f"must be at least {AT_LEAST}", key="seeds-at-most", value=seeds_at_most)
    if not 0.5 < sure < 1:
        raise ConfigError("must lie above 0.5 and below 1", key="sure", value=sure)
    front, dominated = candidates_of(study)
    if not front:
        raise NothingFeasible(why_no_front(study.name, study.trials()))
    workspace.create()
    folder = workspace.confirmations / study.name
    make = partial(
        TrainingObjective,
        study.config,
        cache_dir=workspace.cache,
        share_pretrained=pretraining_comes_back(study.space),
    )
    with (
        study_lock(workspace.lock_path(f"confirmation {study.name}"), study.name),
        executor_of(make, device, workers, memory_fraction, objective) as executor,
    ):
        if executor.data.fingerprint != study.identity.data:
            rule = "the data (content or split) are not those that the study was run on any more"
            raise StudyError(rule, key=study.name)
        store = RunStore(folder / "runs")

        def key(cell: Cell) -> str:
            return run_key(cell.job.config, executor.data, (), 0, cell.job.at)

        def keep(cell: Cell, outcome: Completed) -> None:
            store.store(key(cell), SavedRun(outcome=outcome, users={}, values={}))

        runs = Grid[Cell](
            store=store,
            key=key,
            measured=study.objectives,
            keep_run=keep,
            width=len(f"trial {max(one.trial for one in (*front, *dominated))}"),
        )
        fresh = study.config.seed + study.identity.seeds
        entered = _Field(
            objectives=study.objectives,
            fresh=fresh,
            runs=runs,
            executor=executor,
            progress=progress or Progress(),
        )
        left_out = 0
        entered.enter(front)
        if scope == "plausible" and dominated:
            able = [one for one in dominated if one.trial not in entered.failed]
            near, left_out = near_the_front(entered.alive(), entered.values(), able)
            entered.enter(near)
        fitted, verdict = entered.decide(sure, seeds_at_most, on_step)
    confirmation = _confirmation(study, entered, fitted, verdict, sure, seeds_at_most, left_out)
    pages = {"confirmation.json": confirmation.as_json(), "confirmation.md": confirmation.as_markdown()}
    write_whole(folder / "confirmation.json", pages["confirmation.json"], what="the confirmation")
    write_whole(folder / "table.md", pages["confirmation.md"], what="the confirmation")
    return ConfirmationSummary(
        confirmation=confirmation,
        folder=folder,
        not_tracked=_track(study, workspace, confirmation, entered.candidates, pages),
    )


@dataclass(kw_only=True)
class _Field:
    """The candidates, and the runs of their trainings.

    The seeds of a training are always the first ones after the study's own.

    Attributes:
        fresh: the first of the seeds.
        counts: by trial, under how many seeds its training has run.
        failed: by trial, why a run of its training failed.
    """

    objectives: tuple[str, ...]
    fresh: int
    runs: Grid[Cell]
    executor: Executor
    progress: Progress
    candidates: list[Candidate] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    _numbers: int = 0

    def enter(self, candidates: Sequence[Candidate]) -> None:
        """New candidates run under the first seeds, unless their trainings have.

        Raises:
            NothingFeasible: all candidates so far have failed.
        """
        self.candidates += candidates
        new = {one.trial: 0 for one in candidates if one.trial not in self.counts}
        self.counts |= new
        self._run(dict.fromkeys(new, AT_LEAST))

    def decide(self, sure: float, at_most: int, on_step: Callable[[Step], None]) -> tuple[Fit, Verdict]:
        """Run who is needed until all are decided or have ``at_most`` seeds."""
        while True:
            alive = self.alive()
            fitted = fit(self.values())
            rng = np.random.default_rng(derive_seed(0, "confirmation"))
            verdict = judge(draw_means(fitted, DRAWS, rng), sure)
            undecided = tuple(
                one.name
                for one, decision in zip(alive, verdict.decisions, strict=True)
                if decision is Decision.UNDECIDED
            )
            seeds = max(self.counts[one.trial] for one in alive)
            on_step(Step(seeds=seeds, undecided=undecided, candidates=len(self.candidates)))
            # A training runs again for any of its points, and then all of them have that seed.
            trials = list(dict.fromkeys(one.trial for one in alive))
            needed = {one.trial for one, mine in zip(alive, verdict.needed, strict=True) if mine}
            counts = np.array([self.counts[trial] for trial in trials])
            wanted = next_step(counts, np.array([trial in needed for trial in trials]), at_most)
            if (wanted == counts).all():
                return fitted, verdict
            self._run(dict(zip(trials, wanted.tolist(), strict=True)))

    def alive(self) -> list[Candidate]:
        """The candidates whose trainings did not fail."""
        return [one for one in self.candidates if one.trial not in self.failed]

    def values(self) -> NDArray[np.float64]:
        """``[C, S, M]`` of those alive; NaN where one did not run."""
        alive = self.alive()
        seeds = max(self.counts[one.trial] for one in alive)
        found = np.full((len(alive), seeds, len(self.objectives)), np.nan)
        for place, one in enumerate(alive):
            for offset in range(self.counts[one.trial]):
                run = self.runs.complete[_row(one), self.fresh + offset]
                metrics = one.metrics_in(run.outcome)
                found[place, offset] = [metrics[name] for name in self.objectives]
        return found

    def ran(self, one: Candidate) -> int:
        """Under how many seeds a candidate's training is complete."""
        return sum(row == _row(one) for row, _ in self.runs.complete)

    def _run(self, wanted: dict[int, int]) -> None:
        of_trial = {one.trial: one for one in self.candidates}  # any of its points knows what is trained
        cells = [
            self._cell(of_trial[trial], self.fresh + offset)
            for offset in range(max(wanted.values(), default=0))  # those of one seed share the split
            for trial, count in wanted.items()
            if self.counts[trial] <= offset < count
        ]
        self.runs.requested += len(cells)
        self.runs.find(cells)
        self.runs.train(cells, self.executor, NullTracker(), self.progress)
        self.counts |= wanted
        for trial, one in of_trial.items():
            reasons = [str(why) for (row, _), why in self.runs.failures.items() if row == _row(one)]
            if reasons:
                self.failed[trial] = reasons[0]
        if not self.alive():
            last = next(reversed(self.failed.values()))
            raise NothingFeasible(f"every candidate failed under fresh seeds; the last said {last}")

    def _cell(self, one: Candidate, seed: int) -> Cell:
        self._numbers += 1
        config = one.config.model_copy(update={"seed": seed})
        job = Job(number=self._numbers, point={}, config=config)
        if one.at:  # nothing is searched: of the sweep the objectives are read, and no more
            sweep = Sweep(hyperparameters={}, objectives=self.objectives, axes=axes_by_part(self.objectives))
            job = replace(job, sweep=sweep, at=one.at)
        return Cell(row=_row(one), seed=seed, job=job)


def _row(candidate: Candidate) -> str:
    return f"trial {candidate.trial}"


def _confirmation(
    study: StoredStudy,
    entered: _Field,
    fitted: Fit,
    verdict: Verdict,
    sure: float,
    seeds_at_most: int,
    left_out: int,
) -> Confirmation:
    alive = entered.alive()
    rows = rows_of(
        study.objectives,
        alive,
        fitted,
        [entered.counts[one.trial] for one in alive],
        verdict.probability.tolist(),
        verdict.decisions,
        [
            (one, entered.failed[one.trial], entered.ran(one))
            for one in entered.candidates
            if one.trial in entered.failed
        ],
    )
    optimism, first_hypervolume, hypervolume = optimism_of(study.objectives, alive, fitted)
    fresh = entered.fresh
    return Confirmation(
        study=study.name,
        objectives=study.objectives,
        sure=sure,
        first_seeds=tuple(range(study.config.seed, fresh)),
        seeds=tuple(fresh + offset for offset in range(len(fitted.seeds))),
        seeds_at_most=seeds_at_most,
        rows=rows,
        front=tuple(row.name for row in rows if row.decision == Decision.IN),
        optimism=optimism,
        first_hypervolume=first_hypervolume,
        hypervolume=hypervolume,
        left_out=left_out,
        runs=len(entered.runs.complete) + len(entered.runs.failures),
        runs_for_all=seeds_at_most * len(entered.counts),
    )


def _track(
    study: StoredStudy,
    workspace: Workspace,
    confirmation: Confirmation,
    candidates: Sequence[Candidate],
    pages: dict[str, str],
) -> str | None:
    """Write the result into MLflow, which is a mirror: why not, if it cannot be.

    Points of one training may share its run. It then stands for the one that is most probably on the front,
    of equal ones for the first of the table, and the tag ``confirmed.point`` says which that is.
    """
    run_of = {one.name: one.run_id for one in candidates}
    best: dict[str, CandidateRow] = {}
    for row in sorted(confirmation.rows, key=lambda row: -(row.probability or 0.0)):
        if (run_id := run_of[row.name]) is not None:
            best.setdefault(run_id, row)
    metrics: dict[str, dict[str, float]] = {}
    tags: dict[str, dict[str, str]] = {}
    for run_id, row in best.items():
        tags[run_id] = {"confirmed": row.decision}
        if row.name != str(row.trial):
            tags[run_id]["confirmed.point"] = row.name
        if row.probability is not None:
            means = {f"confirmed/{name}": each.mean for name, each in row.estimates.items()}
            metrics[run_id] = {"confirmed/p_front": row.probability, "confirmed/seeds": row.seeds, **means}
    if study.parent_run is not None:
        gaps = {f"confirmed/optimism/{name}": each.mean for name, each in confirmation.optimism.items()}
        sizes = {"confirmed/front_size": float(len(confirmation.front)), "confirmed/runs": confirmation.runs}
        metrics[study.parent_run] = {**sizes, **gaps}
    try:
        write_notes(study, workspace, pages=pages, metrics=metrics, tags=tags)
    except StudyError as error:
        return str(error)
    return None
