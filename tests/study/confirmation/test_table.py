from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from painvrl.stats.seed_effects import fit
from painvrl.study.confirmation.candidates import Candidate
from painvrl.study.confirmation.decision import Decision
from painvrl.study.confirmation.table import Confirmation, optimism_of, rows_of

NAMES = ("iid", "ood")


@pytest.fixture
def candidates(tiny_config: Any) -> list[Candidate]:
    return [
        Candidate(trial=4, config=tiny_config, first=(0.5, 0.2), preset="erm"),
        Candidate(trial=7, config=tiny_config, first=(0.6, 0.1), also=("9", "11")),
        Candidate(trial=8, config=tiny_config, first=(0.4, 0.1), source="near"),
        Candidate(trial=2, config=tiny_config, first=(0.9, 0.9)),
    ]


@pytest.fixture
def confirmation(candidates: list[Candidate]) -> Confirmation:
    """Two seeds that move nothing but themselves; the fourth candidate failed."""
    means = np.array([[0.4, 0.2], [0.5, 0.1], [0.3, 0.3]])
    values = means[:, None] + np.array([-0.1, 0.1])[None, :, None] * np.array([1.0, 0.0])
    fitted = fit(values)
    decisions = [Decision.OUT, Decision.IN, Decision.UNDECIDED]
    rows = rows_of(
        NAMES, candidates[:3], fitted, [2, 2, 2], [0.05, 1.0, 0.5], decisions, [(candidates[3], "lost: x", 1)]
    )
    optimism, first_hypervolume, hypervolume = optimism_of(NAMES, candidates[:3], fitted)
    return Confirmation(
        study="toy",
        objectives=NAMES,
        sure=0.9,
        first_seeds=(3,),
        seeds=(4, 5),
        seeds_at_most=10,
        rows=rows,
        front=("7",),
        optimism=optimism,
        first_hypervolume=first_hypervolume,
        hypervolume=hypervolume,
        left_out=2,
        runs=7,
        runs_for_all=40,
    )


def test_those_decided_in_come_first_and_failures_last(confirmation: Confirmation) -> None:
    assert [(row.trial, row.decision) for row in confirmation.rows] == [
        (7, "in"),
        (8, "undecided"),
        (4, "out"),
        (2, "failed"),
    ]


def test_optimism_is_what_was_measured_less_the_mean(confirmation: Confirmation) -> None:
    best = confirmation.rows[0].estimates["iid"]
    # Two seeds at 0.4 and 0.6: the t of one degree of freedom, 12.706, times 0.1.
    assert (best.mean, best.first, best.optimism) == pytest.approx((0.5, 0.6, 0.1))
    assert (best.low, best.high) == pytest.approx((0.5 - 1.2706, 0.5 + 1.2706), abs=1e-3)


def test_the_fronts_optimism_leaves_out_who_was_not_on_it_and_who_failed(confirmation: Confirmation) -> None:
    iid, ood = confirmation.optimism["iid"], confirmation.optimism["ood"]
    assert (iid.mean, ood.mean) == pytest.approx((0.1, 0.0))
    assert (iid.low, iid.high) == pytest.approx((0.1 - 1.2706, 0.1 + 1.2706), abs=1e-3)
    assert confirmation.first_hypervolume == pytest.approx(0.5 * 0.2 + 0.1 * 0.1)
    assert confirmation.hypervolume == pytest.approx(0.4 * 0.2 + 0.1 * 0.1)


def test_without_a_trial_of_the_first_front_there_is_no_optimism(candidates: list[Candidate]) -> None:
    fitted = fit(np.full((1, 2, 2), 0.5))
    assert optimism_of(NAMES, candidates[2:3], fitted) == ({}, 0.0, 0.0)


def test_the_tables_read_as_people_expect(confirmation: Confirmation) -> None:
    means, first = confirmation.tables()
    columns, rows = means.columns, means.rows
    assert columns == ["trial", "P(front)", "decision", "seeds", "iid", "ood"]
    assert rows[0] == ["7 (= 9, 11)", "1.000", "in", "2", "0.5000 ± 1.2706", "0.1000 ± 0.0000"]
    assert rows[2][:2] == ["4 erm", "0.050"]
    assert rows[3] == ["2", "-", "failed", "1", "-", "-"]
    columns, rows = first.columns, first.rows
    assert columns == ["trial", "was", "iid", "ood"]
    assert rows == [
        ["7 (= 9, 11)", "on the front", "0.6000 (+0.1000)", "0.1000 (+0.0000)"],
        ["8", "near it", "0.4000 (+0.1000)", "0.1000 (-0.2000)"],
        ["4 erm", "on the front", "0.5000 (+0.1000)", "0.2000 (+0.0000)"],
    ]


def test_the_sentences_say_what_the_tables_do_not(confirmation: Confirmation) -> None:
    lines = confirmation.sentences()
    assert lines[:4] == (
        "confirmed front (P >= 0.9): 7",
        "undecided after 10 seeds: 8",
        "trial 2 failed (lost: x); it is not on the confirmed front",
        "dominated points near the front that were too many and left out: 2",
    )
    assert lines[-2:] == (
        (
            "hypervolume of the first front: 0.11 when it was chosen, 0.09 by the means of the same points "
            "(+22.2%)"
        ),
        "7 runs; 10 seeds for every candidate are 40",
    )


def test_points_are_called_by_their_names_and_a_training_fails_once(tiny_config: Any) -> None:
    def point(trial: int, place: int, iid: float) -> Candidate:
        return Candidate(trial=trial, place=place, config=tiny_config, first=(iid, 0.2))

    alive = [point(1, 10, 0.5), point(1, 2, 0.4)]
    fitted = fit(np.array([[[0.5, 0.2], [0.4, 0.2]], [[0.6, 0.2], [0.5, 0.2]]]))
    failed = [(point(2, place, 0.3), "lost: x", 1) for place in (3, 0)]
    rows = rows_of(NAMES, alive, fitted, [2, 2], [1.0, 0.0], [Decision.IN, Decision.OUT], failed)
    found = Confirmation(
        study="toy",
        objectives=NAMES,
        sure=0.9,
        first_seeds=(3,),
        seeds=(4, 5),
        seeds_at_most=2,
        rows=rows,
        front=("1.10",),
        optimism={},
        first_hypervolume=0.0,
        hypervolume=0.0,
        left_out=0,
        runs=4,
        runs_for_all=4,
    )
    assert [line[0] for line in found.tables()[0].rows] == ["1.10", "1.2", "2.3", "2.0"]
    assert [(row["trial"], row["name"]) for row in json.loads(found.as_json())["rows"]] == [
        (1, "1.10"),
        (1, "1.2"),
        (2, "2.3"),
        (2, "2.0"),
    ]
    assert found.sentences() == (
        "confirmed front (P >= 0.9): 1.10",
        "trial 2 failed (lost: x); it is not on the confirmed front",
        "4 runs; 2 seeds for every candidate are 4",
    )
    assert "| 1.10 | 1.000 | in |" in found.as_markdown()


def test_markdown_and_json_hold_the_same(confirmation: Confirmation) -> None:
    page = confirmation.as_markdown()
    assert "| 7 (= 9, 11) | 1.000 | in | 2 | 0.5000 ± 1.2706 | 0.1000 ± 0.0000 |" in page.splitlines()
    assert all(f"- {line}" in page.splitlines() for line in confirmation.sentences())
    parsed = json.loads(confirmation.as_json())
    assert parsed["front"] == ["7"]
    assert parsed["rows"][3]["reason"] == "lost: x"
