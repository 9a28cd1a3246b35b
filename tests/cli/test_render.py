"""How fronts look in tables, and values in JSON."""

from __future__ import annotations

import json

import pytest

from painvrl.cli import render
from painvrl.study.confirmation.table import CandidateRow, Confirmation
from painvrl.study.front import FrontRow, FrontTable


def test_json_is_read_back_equal(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json({"title": "Amélie", "score": 0.1})
    assert json.loads(capsys.readouterr().out) == {"title": "Amélie", "score": 0.1}


def test_json_never_holds_a_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render.print_json({"score": float("nan")})


def front(*names: str) -> FrontTable:
    rows = tuple(
        FrontRow(
            trial=int(name.partition(".")[0]),
            name=name,
            run_id=None,
            values={"iid/ndcg_at_20": 0.1},
            point={"fusion.cold_weight": 0.5},
            metrics={},
        )
        for name in names
    )
    return FrontTable(
        study="toy",
        objectives=("iid/ndcg_at_20",),
        rows=rows,
        dominated=(),
        iid_only=rows[0],
        hypervolume=0.1,
    )


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["3"], "1 point"),
        (["3", "12"], "2 points"),
        (["3.0", "12.1"], "2 points"),
        (["3.0", "3.11", "12.1"], "3 points of 2 trainings"),
        (["3.0", "3.11"], "2 points of 1 training"),
    ],
)
def test_a_front_counts_its_points_and_the_trainings_that_they_share(
    capsys: pytest.CaptureFixture[str], names: list[str], count: str
) -> None:
    render.show(*front(*names).blocks())
    head, _, body = capsys.readouterr().out.partition("trial")
    assert " ".join(head.split()) == f"front of toy: {count}, hypervolume 0.1000"
    *lines, last = body.splitlines()
    assert [line.split()[0] for line in lines[2:] if line.strip()] == names
    assert last.startswith(f"chosen by IID alone, without a look at OOD: trial {names[0]} (")


def test_where_every_candidate_failed_no_empty_table_of_what_was_measured_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = CandidateRow(
        trial=2,
        name="2",
        also=(),
        preset=None,
        source="front",
        probability=None,
        decision="failed",
        reason="lost: x",
        seeds=0,
        estimates={},
    )
    found = Confirmation(
        study="toy",
        objectives=("iid",),
        sure=0.9,
        first_seeds=(0,),
        seeds=(1,),
        seeds_at_most=5,
        rows=(row,),
        front=(),
        optimism={},
        first_hypervolume=0.0,
        hypervolume=0.0,
        left_out=0,
        runs=1,
        runs_for_all=5,
    )
    render.show(*found.blocks())
    out = " ".join(capsys.readouterr().out.split())
    assert "toy: mean and half" in out
    assert "had measured" not in out
    assert "trial 2 failed (lost: x)" in out
