from __future__ import annotations

from collections.abc import Callable
from typing import Any

from painvrl.study.page.planes import hover, picture, planes
from painvrl.study.page.trials import sorted_trials
from painvrl.study.trial.outcomes import Completed

Make = Callable[..., Any]


def measured(iid: float, ood: float) -> Completed:
    names = ("ndcg_at_20", "recall_at_20", "recall_at_10")
    return Completed(
        metrics={f"iid/{name}": iid + place for place, name in enumerate(names)}
        | {f"ood/{name}": ood + place for place, name in enumerate(names)}
    )


def test_there_is_a_plane_of_recall_and_one_of_ndcg_at_the_studys_cutoff(trials: Make, record: Make) -> None:
    made = trials(record(0, measured(0.1, 0.2)))
    assert planes(made) == (
        ("iid/recall_at_20", "ood/recall_at_20"),
        ("iid/ndcg_at_20", "ood/ndcg_at_20"),
    )
    assert planes(trials(record(0, (0.1, 0.2)))) == (("iid/ndcg_at_20", "ood/ndcg_at_20"),)


def test_the_plane_shows_who_is_on_the_front_who_not_and_who_breaks_a_constraint(
    trials: Make, record: Make
) -> None:
    made = trials(
        record(0, (0.3, 0.1)),
        record(1, (0.1, 0.3), preset="erm", point={}),
        record(2, (0.1, 0.1)),
        record(3, (0.9, 0.9), violated=("too long",)),
    )
    figure = picture(made)
    assert figure is not None
    shown = {line.name: (list(line.x), list(line.y)) for line in figure.data}
    assert shown == {
        "dominated (1)": ([0.1], [0.1]),
        "breaks a constraint (1)": ([0.9], [0.9]),
        "front (2)": ([0.3, 0.1], [0.1, 0.3]),
        "what IID alone would pick": ([0.3], [0.1]),
    }
    assert "trial 1 (erm)" in figure.data[2].text[1]


def test_names_are_escaped_in_labels(trials: Make, record: Make) -> None:
    made = trials(record(0, (0.3, 0.1), point={"fusion.kind": "<script>"}, preset="<b>"))
    lines = hover(made, made.front[0])
    assert "&lt;script&gt;" in lines
    assert "(&lt;b&gt;)" in lines
    assert "<script>" not in lines


def test_one_part_has_no_plane(record: Make, space: Make) -> None:
    alone = record(0, (0.3, 0.1))
    made = sorted_trials((alone,), ("iid/mrr_at_20",), space().root)
    assert picture(made) is None
