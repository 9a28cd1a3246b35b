"""The loop of a source of jobs, over an executor that ends them in a given order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from painvrl.core.errors import StudyError
from painvrl.core.observer import KEPT
from painvrl.engine.events import Progress, Standing, TrialFinished, TrialStarted
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.loop import MAX_EARLY_DEATHS, Death, Task, deaths_after, run_jobs
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.run.config import TrainConfig

DONE = Completed(metrics={"iid": 0.5, "other": 1.0})


@dataclass
class Events(Progress):
    """Writes down what source, tracker and listener are called with, in order."""

    seen: list[tuple[object, ...]] = field(default_factory=list)
    unreachable: bool = False

    def trial_started(self, event: TrialStarted) -> None:
        self.seen.append(("started", event.number, event.finished, event.others))

    def trial_stage(self, number: int, stage: str) -> None:
        self.seen.append(("stage", number, stage))

    def trial_finished(self, event: TrialFinished) -> None:
        self.seen.append(("finished", event.number, event.finished, event.values))

    def start(self, job: Job) -> str | None:
        self.seen.append(("track", job.number))
        return f"run-{job.number}"

    def finish(self, run_id: str | None, job: Job, outcome: Outcome) -> None:
        self.seen.append(("tracked", run_id, type(outcome).__name__))

    def kill(self, run_id: str | None) -> None:
        self.seen.append(("kill", run_id))
        if self.unreachable:
            raise StudyError("cannot be reached")


@dataclass
class Listed:
    """A source of listed tasks, each of which may die once."""

    tasks: list[Task]
    events: Events
    dies_again: bool = True
    deaths: list[Death] = field(default_factory=list)
    progress: list[Death] = field(default_factory=list)
    requested: int = 9
    done: int = 0

    def finished(self) -> int:
        return self.done

    def next(self, under_way: int) -> Task | None:
        return self.tasks.pop(0) if self.tasks else None

    def started(self, task: Task, run_id: str | None) -> None:
        self.events.seen.append(("run", task.number, run_id))

    def got_on(self, task: Task, death: Death) -> None:
        self.progress.append(death)

    def judge(self, number: int, rung: str, values: Mapping[str, float]) -> str | None:
        return f"{number} at {rung}"

    def retry(self, task: Task, death: Death) -> bool:
        self.deaths.append(death)
        return self.dies_again

    def keep(self, task: Task, outcome: Outcome) -> None:
        self.done += 1
        self.events.seen.append(("keep", task.number, type(outcome).__name__))

    def tracked(self, task: Task, run_id: str | None) -> None:
        self.events.seen.append(("ended", task.number, run_id))

    def interrupted(self, task: Task) -> None:
        self.events.seen.append(("interrupted", task.number))

    def objectives(self) -> Sequence[str]:
        return ("iid",)

    def standing(self, number: int) -> Standing:
        return Standing()


@dataclass
class LastFirst:
    """Ends the youngest job first; ``script`` says what becomes of a job instead of success."""

    size: int
    script: dict[int, Outcome | BaseException] = field(default_factory=dict)
    stages: dict[int, list[str]] = field(default_factory=dict)
    under_way: list[Job] = field(default_factory=list)
    most: int = 0
    said: list[str | None] = field(default_factory=list)
    data: DataSummary = field(default=DataSummary(fingerprint="d"))

    def start(self, job: Job) -> None:
        self.under_way.append(job)
        self.most = max(self.most, len(self.under_way))

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        number = self.under_way[-1].number
        for stage in self.stages.get(number, []):
            on_stage(number, stage)
        self.said.append(on_rung(number, "pretrain/1", {}))
        act = self.script.get(number, DONE)
        if isinstance(act, BaseException):
            raise act
        self.under_way.pop()
        return number, act


@pytest.fixture
def tasks(tiny_config: TrainConfig) -> Callable[[int], list[Task]]:
    def make(count: int) -> list[Task]:
        jobs = [Job(number=number, point={}, config=tiny_config) for number in range(count)]
        return [Task(number=job.number, point={}, job=job) for job in jobs]

    return make


def test_an_outcome_is_kept_then_tracked_then_reported(tasks: Callable[[int], list[Task]]) -> None:
    events, executor = Events(), LastFirst(1)
    run_jobs(Listed(tasks(1), events), executor, events, events)
    assert events.seen == [
        ("started", 0, 0, 0),
        ("track", 0),
        ("run", 0, "run-0"),
        ("keep", 0, "Completed"),
        ("tracked", "run-0", "Completed"),
        ("ended", 0, "run-0"),
        ("finished", 0, 1, {"iid": 0.5}),
    ]
    assert executor.said == ["0 at pretrain/1"]


def test_no_more_jobs_are_under_way_than_there_is_room_for(tasks: Callable[[int], list[Task]]) -> None:
    events, executor = Events(), LastFirst(3)
    run_jobs(Listed(tasks(5), events), executor, events, events)
    assert executor.most == 3
    assert [event[3] for event in events.seen if event[0] == "started"] == [0, 1, 2, 2, 2]
    assert [event[1] for event in events.seen if event[0] == "finished"] == [2, 3, 4, 1, 0]


def test_what_cannot_be_trained_is_kept_and_reported_and_never_starts() -> None:
    events, executor = Events(), LastFirst(1)
    refused = Task(number=0, point={}, job=Failed(reason="refused", message="no"))
    run_jobs(Listed([refused], events), executor, events, events)
    assert [event[0] for event in events.seen] == ["started", "keep", "ended", "finished"]
    assert executor.most == 0


@pytest.mark.parametrize("again", [True, False])
def test_a_job_whose_process_died_is_its_sources_to_retry(
    tasks: Callable[[int], list[Task]], *, again: bool
) -> None:
    events = Events()
    died = Failed(reason=WORKER_DIED, message="it died")
    run_jobs(Listed(tasks(1), events, dies_again=again), LastFirst(1, {0: died}), events, events)
    kept = [event for event in events.seen if event[0] in {"keep", "tracked", "kill"}]
    given_up = [("keep", 0, "Failed"), ("tracked", "run-0", "Failed")]
    assert kept == ([("kill", "run-0")] if again else given_up)
    assert events.seen[-1] == ("finished", 0, 0 if again else 1, None)


DIED = Failed(reason=WORKER_DIED, message="it died")


def test_a_source_hears_how_far_a_job_was_whose_process_died(tasks: Callable[[int], list[Task]]) -> None:
    events = Events()
    source = Listed(tasks(3), events)
    stages = {1: ["pretrain"], 2: ["pretrain", KEPT, "mask"]}
    run_jobs(source, LastFirst(1, dict.fromkeys(range(3), DIED), stages), events, events)
    assert source.deaths == [Death(begun=False), Death(), Death(kept=True)]
    heard = [event[1:] for event in events.seen if event[0] == "stage"]
    assert heard == [(1, "pretrain"), (2, "pretrain"), (2, "mask")], "what is kept is no stage"


def test_deaths_count_since_the_last_progress_and_once_a_job_has_begun() -> None:
    deaths, counted = 0, []
    for death in (Death(), Death(begun=False), Death(), Death(kept=True), Death(begun=False), Death()):
        deaths = deaths_after(deaths, death)
        counted.append(deaths)
    assert counted == [1, 1, 2, 0, 0, 1]


def test_processes_that_die_before_they_begin_end_the_loop_if_nothing_else_begins_either(
    tasks: Callable[[int], list[Task]],
) -> None:
    many, events = MAX_EARLY_DEATHS, Events()
    dying = dict.fromkeys(range(2 * many), DIED)
    with pytest.raises(StudyError, match=r"die before they train.*--workers \(found 5\)"):
        run_jobs(Listed(tasks(many), events), LastFirst(1, dying), events, events)
    assert events.seen[-1] == ("interrupted", many - 1)
    begins = {many - 2: ["pretrain"]}
    run_jobs(Listed(tasks(2 * many - 2), events), LastFirst(1, dying, begins), events, events)


@pytest.mark.parametrize("unreachable", [True, False])
def test_an_interrupt_ends_what_is_under_way_and_its_runs_and_stays_one(
    tasks: Callable[[int], list[Task]], *, unreachable: bool
) -> None:
    events = Events(unreachable=unreachable)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(Listed(tasks(3), events), LastFirst(2, {1: KeyboardInterrupt()}), events, events)
    assert events.seen[-4:] == [("interrupted", 0), ("kill", "run-0"), ("interrupted", 1), ("kill", "run-1")]


def test_an_error_interrupts_what_is_under_way_and_leaves_its_runs_to_the_tracker(
    tasks: Callable[[int], list[Task]],
) -> None:
    events = Events()
    with pytest.raises(RuntimeError):
        run_jobs(Listed(tasks(2), events), LastFirst(2, {1: RuntimeError("no")}), events, events)
    assert events.seen[-2:] == [("interrupted", 0), ("interrupted", 1)]
