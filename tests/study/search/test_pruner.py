from __future__ import annotations

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.file.spec import StudySpec
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.pruner import Pruner, axes_by_part
from painvrl.study.search.pruning import PruningConfig
from painvrl.study.store.creation import create_study
from painvrl.study.store.storage import Attr, StoredStudy, open_study

RUNG = "pretrain/20"


def values(iid: float, ood: float) -> dict[str, float]:
    return {"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood, "iid/recall_at_20": 9.0}


@pytest.fixture
def stored(spec: StudySpec, workspace: Workspace) -> StoredStudy:
    return create_study(spec, workspace, data="d")[0]


@pytest.fixture
def adapter(stored: StoredStudy, spec: StudySpec) -> AskTell:
    made = AskTell(stored, spec.study)
    made.ask()  # the default configuration
    return made


@pytest.fixture
def pruner(stored: StoredStudy) -> Pruner:
    return Pruner(stored, PruningConfig(eta=2))


def test_a_hopeless_trial_takes_no_more_than_its_first_rung(adapter: AskTell, pruner: Pruner) -> None:
    pruner.judge(0, RUNG, values(0.2, 0.2))
    for _ in range(6):
        number = adapter.ask().number
        said = pruner.judge(number, RUNG, values(0.1 - number / 100, 0.1))
        assert said is not None
        assert "rivals were ahead of it" in said


def test_the_first_that_comes_by_goes_on_and_then_one_in_eta(adapter: AskTell, pruner: Pruner) -> None:
    pruner.judge(0, RUNG, values(0.1, 0.1))
    numbers = [adapter.ask().number for _ in range(4)]
    points = [(0.2, 0.2), (0.15, 0.15), (0.3, 0.3), (0.12, 0.12)]
    verdicts = [
        pruner.judge(number, RUNG, values(*point)) for number, point in zip(numbers, points, strict=True)
    ]
    # Behind no one; behind one of three, where two may go on; behind no one; behind three of five, three may.
    assert [said is None for said in verdicts] == [True, True, True, False]


def test_rivals_with_equal_values_count_once(adapter: AskTell, pruner: Pruner) -> None:
    for _ in range(6):
        pruner.judge(adapter.ask().number, RUNG, values(0.2, 0.2))
    # Behind one of two, where one may go on; among seven it would be the second of four.
    assert pruner.judge(adapter.ask().number, RUNG, values(0.1, 0.1)) is not None


def test_what_a_person_asked_for_always_goes_on(adapter: AskTell, pruner: Pruner) -> None:
    better = adapter.ask().number
    assert pruner.judge(better, RUNG, values(0.3, 0.3)) is None
    assert pruner.judge(0, RUNG, values(0.1, 0.1)) is None


def test_a_trial_that_passed_and_was_killed_is_not_judged_again(
    stored: StoredStudy, adapter: AskTell, pruner: Pruner
) -> None:
    number = adapter.ask().number
    assert pruner.judge(number, RUNG, values(0.1, 0.1)) is None, "it was the first to come by"
    for _ in range(4):
        pruner.judge(adapter.ask().number, RUNG, values(0.3, 0.3))
    adapter.interrupt(number)
    adapter.reap()
    trials = stored.study.get_trials(deepcopy=False)
    again = adapter.ask().number
    while trials[again].user_attrs.get(Attr.RETRY_OF) != number:
        again = adapter.ask().number
        trials = stored.study.get_trials(deepcopy=False)
    assert pruner.judge(again, RUNG, values(0.1, 0.1)) is None
    assert stored.study.get_trials(deepcopy=False)[again].user_attrs[f"{Attr.RUNG}{RUNG}"] == [[0.1, 0.1]]


def test_a_point_that_is_tried_again_is_judged_as_at_first(
    stored: StoredStudy, adapter: AskTell, pruner: Pruner
) -> None:
    sampled = adapter.ask().number
    pruner.judge(0, RUNG, values(0.2, 0.2))
    assert pruner.judge(sampled, RUNG, values(0.1, 0.1)) is not None
    for number in (0, sampled):
        adapter.interrupt(number)
    adapter.reap()
    base_again, again = adapter.ask(), adapter.ask()
    assert again.point == stored.trials()[sampled].point
    assert pruner.judge(base_again.number, RUNG, values(0.1, 0.1)) is None
    assert pruner.judge(again.number, RUNG, values(0.05, 0.05)) is not None


def test_a_trial_that_was_interrupted_is_nobodys_rival(adapter: AskTell, pruner: Pruner) -> None:
    gone = adapter.ask().number
    pruner.judge(gone, RUNG, values(0.9, 0.9))
    adapter.interrupt(gone)
    assert pruner.judge(adapter.ask().number, RUNG, values(0.1, 0.1)) is None


def test_a_trial_that_failed_later_still_is_a_rival(adapter: AskTell, pruner: Pruner) -> None:
    for reason in ("diverged", "unexpected"):
        failed = adapter.ask().number
        pruner.judge(failed, RUNG, values(0.9, 0.9))
        adapter.tell(failed, Failed(reason=reason, message="no"))
    assert pruner.judge(adapter.ask().number, RUNG, values(0.1, 0.1)) is not None


def test_another_process_judges_by_the_same_values(
    spec: StudySpec, workspace: Workspace, adapter: AskTell, pruner: Pruner
) -> None:
    pruner.judge(0, RUNG, values(0.9, 0.9))
    number = adapter.ask().number
    other = Pruner(open_study(spec, workspace), PruningConfig(eta=2))
    assert other.judge(number, RUNG, values(0.1, 0.1)) is not None
    assert other.judge(number, "pretrain/40", values(0.1, 0.1)) is None  # no one was there


def test_a_trial_judged_again_at_its_rung_is_no_rival_of_its_own(adapter: AskTell, pruner: Pruner) -> None:
    number = adapter.ask().number
    assert pruner.judge(number, RUNG, values(0.2, 0.2)) is None
    assert pruner.judge(number, RUNG, values(0.1, 0.1)) is None


def test_values_stay_with_the_trial_when_it_ends(
    stored: StoredStudy, adapter: AskTell, pruner: Pruner
) -> None:
    pruner.judge(0, RUNG, values(0.2, 0.1))
    adapter.tell(0, Completed(metrics=values(0.2, 0.1)))
    assert stored.study.trials[0].user_attrs[f"rung:{RUNG}"] == [[0.2, 0.1]]


def test_each_part_is_judged_by_its_ndcg_or_its_first_objective() -> None:
    objectives = [
        "iid/recall_at_20",
        "iid/ndcg_at_20",
        "ood_a/recall_at_20",
        "ood_b/precision_at_5",
        "ood_b/ndcg_at_5",
    ]
    assert axes_by_part(objectives) == ("iid/ndcg_at_20", "ood_a/recall_at_20", "ood_b/ndcg_at_5")


def swept(*points: tuple[float, float]) -> dict[str, float]:
    """What a training tells at a rung that has these points; its own metrics are those of the first."""
    reported = values(*points[0])
    for place, (iid, ood) in enumerate(points):
        reported |= {f"swept/{place}/iid/ndcg_at_20": iid, f"swept/{place}/ood/ndcg_at_20": ood}
    return reported


def test_a_swept_trial_goes_on_where_one_of_its_points_would(adapter: AskTell, pruner: Pruner) -> None:
    pruner.judge(0, RUNG, swept((0.2, 0.2), (0.1, 0.4)))
    assert pruner.judge(adapter.ask().number, RUNG, swept((0.1, 0.1), (0.1, 0.3))) is not None
    assert pruner.judge(adapter.ask().number, RUNG, swept((0.01, 0.01), (0.3, 0.3))) is None


def test_a_rival_noted_by_an_old_version_has_one_point(
    stored: StoredStudy, adapter: AskTell, pruner: Pruner
) -> None:
    number = adapter.ask().number
    stored.note(0, f"{Attr.RUNG}{RUNG}", [0.2, 0.2])
    assert pruner.judge(number, RUNG, values(0.1, 0.1)) is not None
