from __future__ import annotations

from collections.abc import Callable
from typing import Any

from painvrl.study.page.trials import name_of, sorted_trials
from painvrl.study.trial.outcomes import Completed, Failed

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
    assert [one.number for one in made.feasible] == [0, 2, 3]
    assert [one.number for one in made.front] == [0, 2]
    assert [one.number for one in made.searched] == [0, 3]
    assert made.on_front == {0, 2}
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    assert [name_of(one) for one in made.front] == ["trial 0", "trial 2 (erm)"]


def test_an_axis_that_is_no_objective_is_taken_from_the_metrics_if_all_have_it(
    record: Make, space: Make
) -> None:
    both = Completed(metrics={"iid/ndcg_at_20": 0.1, "ood/ndcg_at_20": 0.2})
    records = (record(0, both), record(1, both))
    made = sorted_trials(records, ("iid/ndcg_at_20",), space().root)
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    made = sorted_trials(records, ("ood/ndcg_at_20",), space().root)
    assert (made.iid, made.ood) == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    made = sorted_trials(records, ("iid/recall_at_10",), space().root)
    assert (made.iid, made.ood) == (None, None)
