from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from painvrl.core.errors import StudyError
from painvrl.engine.events import Progress
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.grid import Cell, Grid
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.engine.saved import RunStore, SavedRun
from painvrl.run.config import TrainConfig
from painvrl.study.tracking.port import NullTracker

DONE = Completed(metrics={"iid/ndcg_at_20": 0.5, "ood/ndcg_at_20": 0.25})


@dataclass
class Scripted:
    """An executor of ``size`` that ends the oldest job first, as the script says; ``None`` completes it."""

    script: dict[int, Outcome | BaseException] = field(default_factory=dict)
    size: int = 2
    data: DataSummary = field(default_factory=lambda: DataSummary(fingerprint="data"))
    started: list[int] = field(default_factory=list)
    most: int = 0
    _jobs: list[Job] = field(default_factory=list)

    def start(self, job: Job) -> None:
        self.started.append(job.number)
        self._jobs.append(job)
        self.most = max(self.most, len(self._jobs))

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        job = self._jobs.pop(0)
        on_stage(job.number, "pretrain")
        act = self.script.get(job.number, DONE)
        if isinstance(act, BaseException):
            raise act
        return job.number, act


@dataclass
class Book(NullTracker):
    """Writes down what a tracker is reported."""

    events: list[tuple[object, ...]] = field(default_factory=list)

    def start(self, job: Job) -> str | None:
        return f"run-{job.number}"

    def finish(self, run_id: str | None, job: Job, outcome: Outcome) -> None:
        self.events.append(("finish", run_id, type(outcome).__name__))

    def kill(self, run_id: str | None) -> None:
        self.events.append(("kill", run_id))


@pytest.fixture
def cells(tiny_config: TrainConfig) -> list[Cell]:
    return [
        Cell(
            row=row,
            seed=seed,
            job=Job(number=number, point={}, config=tiny_config.model_copy(update={"seed": seed})),
        )
        for number, (seed, row) in enumerate((seed, row) for seed in (1, 2) for row in ("a", "b"))
    ]


@dataclass
class Over:
    """A grid over a scripted executor."""

    grid: Grid[Cell]
    executor: Scripted
    book: Book

    def train(self, cells: list[Cell]) -> None:
        self.grid.train(cells, self.executor, self.book, Progress())


def grid(folder: Path, executor: Scripted, book: Book, *, keeps: bool = True) -> Over:
    store = RunStore(folder)

    def key(cell: Cell) -> str:
        return f"{cell.row}-{cell.seed}"

    def keep(cell: Cell, outcome: Completed) -> None:
        if keeps:
            book.events.append(("keep", key(cell)))
            store.store(key(cell), SavedRun(outcome=outcome, users={}, values={}))

    def tracked(cell: Cell, run_id: str | None) -> None:
        book.events.append(("tracked", key(cell), run_id))

    runs = Grid[Cell](store=store, key=key, measured=("iid/ndcg_at_20",), keep_run=keep, keep_track=tracked)
    return Over(runs, executor, book)


def test_a_run_is_kept_then_tracked_and_then_remembered(tmp_path: Path, cells: list[Cell]) -> None:
    executor, book = Scripted(size=1), Book()
    runs = grid(tmp_path, executor, book)
    runs.train(cells[:1])
    assert book.events == [("keep", "a-1"), ("finish", "run-0", "Completed"), ("tracked", "a-1", "run-0")]
    assert runs.grid.complete["a", 1].outcome.metrics == DONE.metrics


def test_what_is_in_the_store_is_found_and_not_trained(tmp_path: Path, cells: list[Cell]) -> None:
    grid(tmp_path, Scripted(), Book()).train(cells[:2])
    executor = Scripted()
    runs = grid(tmp_path, executor, Book())
    assert [cell for cell, _ in runs.grid.find(cells)] == cells[:2]
    runs.train(cells)
    assert executor.started == [2, 3]
    assert set(runs.grid.complete) == {("a", 1), ("b", 1), ("a", 2), ("b", 2)}


def test_as_many_runs_are_under_way_as_the_executor_takes(tmp_path: Path, cells: list[Cell]) -> None:
    executor = Scripted(size=3)
    grid(tmp_path, executor, Book()).train(cells)
    assert (executor.most, executor.started) == (3, [0, 1, 2, 3])


def test_a_failure_is_reported_and_the_others_go_on(tmp_path: Path, cells: list[Cell]) -> None:
    executor, book = Scripted({1: Failed(reason="diverged", message="too fast")}), Book()
    runs = grid(tmp_path, executor, book)
    runs.train(cells)
    assert runs.grid.failures == {("b", 1): Failed(reason="diverged", message="too fast")}
    assert set(runs.grid.complete) == {("a", 1), ("a", 2), ("b", 2)}
    assert ("finish", "run-1", "Failed") in book.events


def test_a_run_whose_process_dies_is_tried_three_times(tmp_path: Path, cells: list[Cell]) -> None:
    executor, book = Scripted({1: Failed(reason=WORKER_DIED, message="it died")}), Book()
    runs = grid(tmp_path, executor, book)
    runs.train(cells)
    assert executor.started.count(1) == 3
    assert runs.grid.failures == {("b", 1): Failed(reason=WORKER_DIED, message="it died")}
    assert book.events.count(("kill", "run-1")) == 2


def test_an_interrupt_ends_what_is_under_way_and_keeps_the_rest(tmp_path: Path, cells: list[Cell]) -> None:
    executor, book = Scripted({1: KeyboardInterrupt()}), Book()
    runs = grid(tmp_path, executor, book)
    with pytest.raises(KeyboardInterrupt):
        runs.train(cells)
    assert set(runs.grid.complete) == {("a", 1)}
    assert [event for event in book.events if event[0] == "kill"] == [("kill", "run-1"), ("kill", "run-2")]


def test_a_run_that_nobody_kept_is_an_error(tmp_path: Path, cells: list[Cell]) -> None:
    runs = grid(tmp_path, Scripted(), Book(), keeps=False)
    with pytest.raises(StudyError, match="a seed 1: the run's file is gone"):
        runs.train(cells)
