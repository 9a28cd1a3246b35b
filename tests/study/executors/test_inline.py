from __future__ import annotations

from collections.abc import Callable

import pytest

from painvrl.config import TrainConfig
from painvrl.study.executors.inline import InlineExecutor
from painvrl.study.objective import Completed, DataSummary, Failed, Outcome, TrialJob


class Echo:
    data = DataSummary(fingerprint="x")

    def __init__(self, outcome: Outcome | BaseException) -> None:
        self.outcome = outcome
        self.jobs: list[TrialJob] = []

    def __call__(self, job: TrialJob, on_stage: Callable[[str], None]) -> Outcome:
        self.jobs.append(job)
        on_stage("pretrain")
        on_stage("evaluate")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def job(tiny_config: TrainConfig) -> TrialJob:
    return TrialJob(number=7, point={}, config=tiny_config)


@pytest.mark.parametrize(
    "outcome", [Completed(metrics={"iid/ndcg_at_20": 0.5}), Failed(reason="diverged", message="no")]
)
def test_a_job_is_computed_once_and_its_outcome_is_there_at_once(job: TrialJob, outcome: Outcome) -> None:
    stages: list[tuple[int, str]] = []
    echo = Echo(outcome)
    future = InlineExecutor(echo, lambda number, stage: stages.append((number, stage))).submit(job)
    assert future.done()
    assert future.result() is outcome
    assert echo.jobs == [job]
    assert stages == [(7, "pretrain"), (7, "evaluate")]


def test_an_interrupt_comes_through(job: TrialJob) -> None:
    with pytest.raises(KeyboardInterrupt):
        InlineExecutor(Echo(KeyboardInterrupt()), lambda *_: None).submit(job).result()
