"""The loop with several trials under way, over a crew whose trials end in a given order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from painvrl.study.asktell import Desk
from painvrl.study.loop import TrialLoop
from painvrl.study.objective import DataSummary, TrialJob
from painvrl.study.outcomes import Completed, Failed, Outcome
from painvrl.study.records import TrialState
from painvrl.study.spec import StudySpec
from painvrl.study.storage import StoredStudy, create_study
from painvrl.workspace import Workspace


@dataclass
class Crew:
    """Ends the youngest trial first; ``script`` says what becomes of a trial instead of success."""

    size: int
    script: dict[int, Outcome | BaseException] = field(default_factory=dict)
    under_way: list[TrialJob] = field(default_factory=list)
    most: int = 0
    data: DataSummary = field(default=DataSummary(fingerprint="d"))

    def start(self, job: TrialJob) -> None:
        self.under_way.append(job)
        self.most = max(self.most, len(self.under_way))

    def next(self, on_stage: Callable[[int, str], None]) -> tuple[int, Outcome]:
        number = self.under_way[-1].number
        on_stage(number, "pretrain")
        act = self.script.get(number)
        if isinstance(act, BaseException):
            raise act
        self.under_way.pop()
        values = {"iid/ndcg_at_20": number / 100, "ood/ndcg_at_20": -number / 100}
        return number, act or Completed(metrics=values)


@pytest.fixture
def stored(spec: StudySpec, workspace: Workspace) -> StoredStudy:
    return create_study(spec, workspace, data="d")[0]


def loop(stored: StoredStudy, spec: StudySpec, crew: Crew, diary: Any, wanted: int) -> TrialLoop:
    return TrialLoop(stored, Desk(stored, spec.study), crew, diary, diary, wanted)


@pytest.mark.parametrize(("size", "wanted"), [(1, 3), (2, 5), (3, 5), (4, 2)])
def test_there_are_never_more_trials_than_workers_nor_more_than_wanted(
    stored: StoredStudy, spec: StudySpec, diary: Any, size: int, wanted: int
) -> None:
    crew = Crew(size, script={1: Failed(reason="diverged", message="no")})
    loop(stored, spec, crew, diary, wanted).run()
    assert crew.most == min(size, wanted)
    assert len(stored.trials()) == wanted
    assert [event.finished for event in diary.trials] == list(range(1, wanted + 1))
    assert len({str(record.point) for record in stored.trials()}) == wanted


def test_every_trial_gets_its_own_outcome_in_whatever_order_they_end(
    stored: StoredStudy, spec: StudySpec, diary: Any
) -> None:
    loop(stored, spec, Crew(3), diary, 5).run()
    assert [event.number for event in diary.trials] == [2, 3, 4, 1, 0]
    assert [record.values for record in stored.trials()] == [(n / 100, -n / 100) for n in range(5)]
    finished = [event[1] for event in diary.events if event[0] == "finish"]
    assert finished == ["run-2", "run-3", "run-4", "run-1", "run-0"]


@pytest.mark.parametrize(("error", "killed"), [(KeyboardInterrupt(), 3), (RuntimeError("no"), 0)])
def test_an_error_interrupts_every_trial_that_is_under_way(
    stored: StoredStudy, spec: StudySpec, diary: Any, error: BaseException, killed: int
) -> None:
    crew = Crew(3, script={3: error})
    with pytest.raises(type(error)):
        loop(stored, spec, crew, diary, 9).run()
    states = [record.state for record in stored.trials()]
    assert states == [TrialState.INTERRUPTED] * 2 + [TrialState.COMPLETE] + [TrialState.INTERRUPTED]
    assert len([event for event in diary.events if event[0] == "kill"]) == killed
    desk = Desk(stored, spec.study)
    assert desk.reap() == ()
    assert [desk.ask().point for _ in range(3)] == [stored.trials()[number].point for number in (0, 1, 3)]
