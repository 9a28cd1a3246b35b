from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from painvrl.core.tables import TextTable
from painvrl.engine.outcomes import Completed, Failed
from painvrl.stats.dominance import hypervolume
from painvrl.study.choice.picks import Pick
from painvrl.study.front import SHOWN, counted, front_table, status
from painvrl.study.store.storage import Attr

Plane = Callable[..., Any]


def test_the_table_holds_the_front_best_iid_first_and_the_rest_apart(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1), (0.05, 0.05), (0.2, 0.2), Failed(reason="x", message="y"), None)
    table = front_table(study)
    assert [row.trial for row in table.rows] == [1, 3, 0]
    assert [row.trial for row in table.dominated] == [2]
    assert table.rows[0].values == {"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}
    assert (table.rows[0].run_id, table.rows[0].point) == ("run-1", {"mask.sparsity": 0.01})
    assert table.hypervolume == pytest.approx(0.3 * 0.1 + 0.2 * 0.1 + 0.1 * 0.1)


def test_the_table_gives_what_iid_alone_would_have_picked(plane: Plane) -> None:
    alone = front_table(plane((0.1, 0.3), (0.3, 0.1))).iid_only
    assert alone is not None
    assert (alone.trial, alone.values["ood/ndcg_at_20"]) == (1, 0.1)


def test_a_study_without_a_complete_trial_has_an_empty_table(plane: Plane) -> None:
    for study in (plane(), plane(None, Failed(reason="x", message="y"))):
        table = front_table(study)
        assert (table.rows, table.dominated, table.iid_only, table.hypervolume) == ((), (), None, 0.0)
        now = status(study)
        assert (now.best, now.front_size, now.hypervolume, now.seconds_per_trial) == ((), 0, 0.0, None)


def test_the_status_counts_and_times_the_trials(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1), Failed(reason="diverged", message="no"), (0.3, 0.05), None)
    now = status(study)
    assert (now.study, now.requested, now.finished) == ("toy", 9, 4)
    assert now.counts == {
        "complete": 3,
        "pruned": 0,
        "failed": 1,
        "interrupted": 0,
        "repeated": 0,
        "running": 1,
        "waiting": 0,
    }
    assert [(best.objective, best.trial, best.value) for best in now.best] == [
        ("iid/ndcg_at_20", 1, 0.3),
        ("ood/ndcg_at_20", 0, 0.3),
    ]
    assert (now.front_size, now.front_trainings, now.seconds_per_trial) == (2, 2, 11.0)
    assert [(failure.trial, failure.reason, failure.message) for failure in now.failures] == [
        (2, "diverged", "no")
    ]


def test_table_and_status_are_json(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1), Failed(reason="diverged", message="no"))
    table = json.loads(json.dumps(front_table(study).as_dict()))
    assert table["rows"][0]["values"] == {"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}
    assert table["iid_only"]["trial"] == 1
    now = json.loads(json.dumps(status(study).as_dict()))
    assert now["counts"]["failed"] == 1
    assert now["failures"][0]["reason"] == "diverged"
    assert now["split"] is None


def test_the_status_has_the_statistics_that_the_last_run_noted(plane: Plane) -> None:
    study = plane((0.1, 0.3))
    study.study.user_attrs[Attr.SPLIT] = {"card": {"users": 60}}
    assert status(study).split == {"users": 60}


def test_the_table_says_what_was_picked_and_which_trials_are_presets_or_break_constraints(
    plane: Plane,
) -> None:
    from dataclasses import replace

    from painvrl.study.choice.picks import Pick

    study = plane((0.1, 0.3), (0.3, 0.1), (0.2, 0.4))
    records = (study.records[0], replace(study.records[1], preset="erm"))
    study = replace(study, records=(*records, replace(study.records[2], violated=("time <= 3",))))
    pick = Pick(alias="ood", trial=0, rule="ood", reason="best", values={})
    table = front_table(study, [pick])
    assert table.picks == {"ood": "0"}
    assert [(row.trial, row.preset) for row in table.rows] == [(1, "erm"), (0, None)]
    assert [(row.trial, row.violated) for row in table.dominated] == [(2, ("time <= 3",))]


def scored(study: Any, number: int, *values: tuple[float, float]) -> Any:
    """The study, one of its trials scored at these points."""
    from dataclasses import replace

    record = study.records[number]
    points = tuple(
        replace(
            record,
            place=place,
            values=each,
            outcome=Completed(metrics=dict(zip(study.objectives, each, strict=True))),
        )
        for place, each in enumerate(values)
    )
    records = list(study.records)
    records[number] = replace(record, points=points)
    return replace(study, records=tuple(records))


def test_rows_are_points_and_what_takes_time_are_trials(plane: Plane) -> None:
    study = scored(plane((0.1, 0.3), (0.3, 0.1)), 0, (0.1, 0.3), (0.2, 0.2), (0.1, 0.1))
    table, now = front_table(study), status(study)
    assert [(row.name, row.trial, row.is_own) for row in table.rows] == [
        ("1", 1, True),
        ("0.1", 0, False),
        ("0.0", 0, True),
    ]
    assert [row.name for row in table.dominated] == ["0.2"]
    assert counted(table.rows) == "3 points of 2 trainings"
    assert counted(table.rows[1:]) == "2 points of 1 training"
    assert counted(table.rows[:2]) == "2 points"
    assert counted(table.rows[:1]) == "1 point"
    assert (now.front_size, now.front_trainings, now.finished, now.counts["complete"]) == (3, 2, 2, 2)
    assert [best.name for best in now.best] == ["1", "0.0"]
    assert now.seconds_per_trial == 10.5
    json.dumps(table.as_dict(), allow_nan=False)


def test_of_a_long_front_the_ends_the_picks_and_what_spreads_are_shown_and_the_rest_is_counted(
    plane: Plane,
) -> None:
    points = [(0.01 * place, 0.31 - 0.01 * place) for place in range(1, 31)]
    table = front_table(plane(*points), [Pick(alias="a", trial=1, rule="r", reason="w", values={})])
    shown, said, *_ = table.blocks()
    assert isinstance(shown, TextTable)
    names = [row[0] for row in shown.rows]
    assert len(names) == SHOWN
    assert {"0", "29", "1"} <= set(names)
    assert names == [row.name for row in table.rows if row.name in names], "the best IID first, as ever"
    kept = hypervolume([points[int(name)] for name in names]) / table.hypervolume
    assert str(said).startswith(f"20 of 30 points are shown, with {kept:.1%} of the hypervolume")
    assert str(said).endswith(f"`painvrl study front {table.study} --all` shows all")
    whole, *rest = table.blocks(everything=True)
    assert isinstance(whole, TextTable)
    assert len(whole.rows) == 30
    assert not any("are shown" in str(line) for line in rest)
    assert len(table.as_dict()["rows"]) == 30  # type: ignore[arg-type]


def test_a_short_front_is_shown_as_it_is(plane: Plane) -> None:
    points = [(0.01 * place, 0.21 - 0.01 * place) for place in range(1, 21)]
    table = front_table(plane(*points))
    assert list(map(str, table.blocks())) == list(map(str, table.blocks(everything=True)))


def test_an_empty_cell_is_explained_where_there_is_one(plane: Plane) -> None:
    said = "an empty cell: the point has no such hyperparameter, or its preset's own value"
    table = front_table(plane((0.1, 0.2), (0.2, 0.1)), [])
    full, *others = (replace(row, point={"mask.sparsity": 0.5}) for row in table.rows)
    bare = [replace(row, point={}) for row in others]
    assert said in list(replace(table, rows=(full, *bare)).blocks())
    assert said not in list(replace(table, rows=(full, *others)).blocks())
