from __future__ import annotations

from collections.abc import Callable
from typing import Any

from painvrl.engine.outcomes import Completed, Failed
from painvrl.study.report.trials import name_of

Make = Callable[..., Any]


def test_trials_are_sorted_by_what_they_are_good_for(trials: Make, record: Make) -> None:
    made = trials(
        record(0, (0.3, 0.1)),
        record(1, (0.9, 0.9), violated=("too long",)),
        record(2, (0.1, 0.3), preset="erm", point={}),
        record(3, (0.2, 0.05)),
        record(4, Failed(reason="diverged", message="no")),
        record(5, None),
    )
    assert [one.number for one in made.points] == [0, 2, 3]
    assert [one.number for one in made.front] == [0, 2]
    assert [one.number for one in made.searched] == [0, 3]
    assert made.trainings == made.points
    assert made.of_front == made.front
    assert made.sampled == made.space
    assert not made.swept
    assert made.on_front == {"0", "2"}
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    assert [name_of(one) for one in made.front] == ["trial 0", "trial 2 (erm)"]


def test_an_axis_that_is_no_objective_is_taken_from_the_metrics_if_all_have_it(
    record: Make, trials: Make
) -> None:
    both = Completed(metrics={"iid/ndcg_at_20": 0.1, "ood/ndcg_at_20": 0.2})
    records = (record(0, both), record(1, both))
    made = trials(*records, objectives=("iid/ndcg_at_20",))
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    made = trials(*records, objectives=("ood/ndcg_at_20",))
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    made = trials(*records, objectives=("iid/recall_at_10",))
    assert (made.iid, made.ood) == (None, None)


def test_points_are_reported_apart_from_the_trainings_that_they_share(
    swept_trials: Make, swept: Make
) -> None:
    made = swept_trials(
        swept(0, (0.3, 0.1), (0.2, 0.2), (0.1, 0.1)),
        swept(1, (0.9, 0.9), (0.25, 0.1), broken=(0,)),
        swept(2, (0.1, 0.3), preset="erm", point={}),
        swept(3, (0.1, 0.05), (0.05, 0.06)),
        swept(4, (0.8, 0.8), (0.9, 0.7), broken=(0, 1)),
    )
    assert [one.name for one in made.points] == ["0.0", "0.1", "0.2", "1.1", "2.0", "3.0", "3.1"]
    assert [one.name for one in made.front] == ["0.0", "0.1", "2.0"]
    assert made.on_front == {"0.0", "0.1", "2.0"}
    assert [one.name for one in made.trainings] == ["0", "1", "2", "3"]
    assert [one.name for one in made.of_front] == ["0", "2"]
    assert [one.name for one in made.searched] == ["0", "1", "3"]
    assert made.swept
    assert set(made.space) - set(made.sampled) == {"fusion.cold_weight"}


def test_a_trial_that_sampled_nothing_is_not_searched(swept: Make, trials: Make) -> None:
    tree = {"fusion.cold_weight": {"type": "float", "low": 0.0, "high": 1.0}}
    made = trials(swept(0, (0.3, 0.1), (0.1, 0.3), point={}), space=tree, swept=("fusion.cold_weight",))
    assert (made.sampled, made.searched) == ({}, ())
    assert len(made.points) == 2
