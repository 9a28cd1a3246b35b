from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.core.errors import ConfigError, NothingFeasible, StudyError
from painvrl.engine.outcomes import Failed
from painvrl.study.choice.candidates import axes_of
from painvrl.study.choice.picks import Pick
from painvrl.study.choice.rules import PREFERENCES as ALL_PREFERENCES
from painvrl.study.choice.rules import MaxOodWithIid, Reference, Rule, Weighted, rule_named
from painvrl.study.choice.selection import select
from painvrl.study.store.records import TrialState

Plane = Callable[..., Any]
PREFERENCES = tuple(word for word in ALL_PREFERENCES if word != "loeo")
"""Those that look at the plane of IID and OOD."""

COARSE = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3])
POINTS = st.lists(st.tuples(COARSE, COARSE), min_size=1, max_size=8)


def test_the_knee_is_farthest_above_the_line_of_the_ends(plane: Plane) -> None:
    # Scaled to the unit square: (0, 1), (.5, .9), (.9, .5), (.95, .1), (1, 0); heights .4, .4, .05.
    study = plane((0.1, 0.2), (0.2, 0.19), (0.28, 0.15), (0.29, 0.11), (0.3, 0.1))
    # Equal heights go to the better IID.
    assert select(study).trial == 2
    assert select(plane((0.1, 0.2), (0.2, 0.199), (0.28, 0.15), (0.3, 0.1))).trial == 1


def test_the_knee_does_not_depend_on_the_units_of_the_axes(plane: Plane) -> None:
    points = [(0.1, 0.2), (0.15, 0.19), (0.25, 0.14), (0.3, 0.1)]
    stretched = [(3 * iid - 0.2, ood / 7 + 0.3) for iid, ood in points]
    assert select(plane(*points)).trial == select(plane(*stretched)).trial == 2


def test_trials_off_the_front_are_never_picked_by_a_rule(plane: Plane) -> None:
    study = plane(
        (0.1, 0.1), (0.3, 0.2), (0.2, 0.3), (0.29, 0.2), Failed(reason="diverged", message="no"), None
    )
    for prefer in PREFERENCES:
        pick = select(study, prefer=prefer)
        assert pick.trial in {1, 2}
        assert "dominates" not in pick.reason


def test_iid_and_ood_take_the_ends(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.2, 0.2), (0.3, 0.1))
    assert select(study, prefer="iid").trial == 2
    assert select(study, prefer="ood").trial == 0
    assert "best iid/ndcg_at_20 of the 3 points" in select(study, prefer="iid").reason
    assert "best ood/ndcg_at_20 of the 3 points" in select(study, prefer="ood").reason


def test_balanced_takes_the_largest_harmonic_mean(plane: Plane) -> None:
    # Harmonic means .15, .1714, .1778, .1636.
    study = plane((0.1, 0.3), (0.15, 0.2), (0.2, 0.16), (0.3, 0.1125))
    assert select(study, prefer="balanced").trial == 2


@pytest.mark.parametrize(
    ("points", "picked"),
    [
        ([(0.2, 0.1)], 0),
        ([(0.1, 0.2), (0.3, 0.15)], 1),  # two ends have no bend: harmonic means .133, .2
        ([(0.1, 0.3), (0.2, 0.2), (0.3, 0.1)], 1),  # on the line: .15, .2, .15
        ([(0.1, 0.3), (0.12, 0.12), (0.3, 0.1)], 2),  # below the line: .15, .12, .15, the tie by IID
        ([(0.0, 0.0)], 0),
        ([(0.2, 0.1), (0.2, 0.1)], 0),
    ],
)
def test_a_front_without_a_knee_falls_back_to_balance(
    plane: Plane, points: list[tuple[float, float]], picked: int
) -> None:
    pick = select(plane(*points))
    assert pick.trial == picked
    assert "the front has no knee; it has the largest harmonic mean" in pick.reason


@given(POINTS, st.sampled_from(PREFERENCES))
@settings(deadline=None, max_examples=80)
def test_every_rule_picks_from_the_front_whatever_its_shape(
    plane: Plane, points: list[tuple[float, float]], prefer: str
) -> None:
    pick = select(plane(*points), prefer=prefer)
    chosen = points[pick.trial]
    assert "dominates" not in pick.reason
    assert not any(other != chosen and other[0] >= chosen[0] and other[1] >= chosen[1] for other in points)
    if prefer == "iid":
        assert chosen[0] == max(iid for iid, _ in points)
    if prefer == "ood":
        assert chosen[1] == max(ood for _, ood in points)


@given(POINTS)
@settings(deadline=None, max_examples=80)
def test_the_knee_is_what_a_slow_search_finds(plane: Plane, points: list[tuple[float, float]]) -> None:
    front = [p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)]
    low = [min(axis) for axis in zip(*front, strict=True)]
    high = [max(axis) for axis in zip(*front, strict=True)]

    def scaled(point: tuple[float, float]) -> list[float]:
        return [(value - a) / (b - a) if b > a else 0.0 for value, a, b in zip(point, low, high, strict=True)]

    # Scaled, the ends are (0, 1) and (1, 0), so that the line is x + y = 1.
    heights = {point: sum(scaled(point)) - 1 for point in front}
    best = max(heights.values())
    pick = points[select(plane(*points)).trial]
    if len(set(front)) > 2 and best > 1e-6:
        assert heights[pick] == pytest.approx(best)
    else:
        means = {(iid, ood): 2 * iid * ood / (iid + ood) for iid, ood in front}
        assert means[pick] == pytest.approx(max(means.values()))


def test_rules_look_at_ndcg_and_else_at_the_first_objective_of_the_part() -> None:
    axes = axes_of(["iid/recall_at_20", "iid/ndcg_at_20", "ood/precision_at_5", "ood/recall_at_20"])
    assert (axes.iid, axes.ood) == ("iid/ndcg_at_20", "ood/precision_at_5")
    assert axes_of(["iid/ndcg_invrl_at_5", "iid/ndcg_at_5"]).iid == "iid/ndcg_at_5"
    assert axes_of(["ood/recall_at_5"]).iid is None


def test_rules_look_at_their_plane_of_a_front_in_four_dimensions(shelf: Plane) -> None:
    names = ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20"]
    rows = [
        dict(zip(names, values, strict=True))
        for values in [
            (0.9, 0.1, 0.1, 0.3),
            (0.1, 0.28, 0.1, 0.28),
            (0.1, 0.3, 0.9, 0.1),
            (0.2, 0.2, 0.95, 0.2),
        ]
    ]
    study = shelf(rows, names)
    assert [select(study, prefer=prefer).trial for prefer in ("knee", "iid", "ood")] == [1, 2, 0]


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_with_one_part_every_rule_takes_its_best(shelf: Plane, prefer: str) -> None:
    for part in ("iid", "ood"):
        metric = f"{part}/ndcg_at_20"
        pick = select(shelf([{metric: 0.1}, {metric: 0.3}, {metric: 0.2}], [metric]), prefer=prefer)
        assert pick.trial == 1
        assert "no other part" in pick.reason


def test_a_number_or_a_run_names_any_complete_trial(plane: Plane) -> None:
    study = plane((0.1, 0.1), (0.3, 0.2))
    by_number, by_run = select(study, trial="0"), select(study, run_id="run-0")
    assert by_number.trial == by_run.trial == 0
    assert by_number.reason == "trial 0 was asked for by its number (another point dominates it)"
    assert "run run-0 was asked for" in by_run.reason


def test_a_tag_wins_over_the_rule_and_a_name_over_the_tag(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1))
    tagged = select(study, prefer="iid", tagged=["run-0"])
    assert tagged.trial == 0
    assert "run run-0 is tagged selected = true in MLflow, which wins over the rule 'iid'" in tagged.reason
    assert select(study, trial="1", tagged=["run-0"]).trial == 1
    assert select(study, run_id="run-1", tagged=["run-0"]).trial == 1


def test_two_tags_are_a_mistake_that_names_both(plane: Plane) -> None:
    with pytest.raises(StudyError, match=r"2 runs are tagged .*run-0, run-1"):
        select(plane((0.1, 0.3), (0.3, 0.1)), tagged=["run-0", "run-1"])


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"trial": "7"}, StudyError, r"no such trial \(found '7'\)"),
        ({"trial": "-1"}, StudyError, r"no such trial \(found '-1'\)"),
        ({"trial": "1"}, StudyError, r"trial 1 is failed \(diverged: the loss is nan\)"),
        ({"trial": "2"}, StudyError, "trial 2 is running"),
        ({"run_id": "run-9"}, StudyError, r"no trial of the study 'toy' has this run \(found 'run-9'\)"),
        ({"run_id": "run-2"}, StudyError, "trial 2 is running"),
        ({"tagged": ["run-1"]}, StudyError, "trial 1 is failed"),
        ({"tagged": ["elsewhere"]}, StudyError, "elsewhere"),
        ({"trial": "0", "run_id": "run-0"}, ConfigError, "give one of them"),
        (
            {"prefer": "best"},
            ConfigError,
            r"prefer: must be one of knee, iid, ood, loeo, balanced \(found 'best'\)",
        ),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    plane: Plane, request_: dict[str, Any], error: type[Exception], words: str
) -> None:
    study = plane((0.1, 0.2), Failed(reason="diverged", message="the loss is nan"), None)
    with pytest.raises(error, match=words):
        select(study, **request_)


@pytest.mark.parametrize("rows", [[], [None], [Failed(reason="diverged", message="no")]])
def test_without_a_complete_trial_nothing_is_feasible(plane: Plane, rows: list[Any]) -> None:
    for request_ in ({}, {"trial": "0"}, {"run_id": "run-0"}):
        with pytest.raises(NothingFeasible):
            select(plane(*rows), **request_)


def test_a_pick_carries_what_training_it_again_needs(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1))
    pick = select(study, trial="1")
    assert pick.config == study.config_of(study.records[1])
    assert pick.config.mask.sparsity == pick.point["mask.sparsity"] == 0.01
    assert pick.values == pick.metrics == {"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}
    assert pick.run_id == "run-1"


def test_every_pick_says_what_iid_alone_would_have_got(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1), (0.3, 0.05), (0.2, 0.25))
    for request_ in ({"prefer": "ood"}, {"trial": "3"}, {"tagged": ["run-0"]}):
        alone = select(study, **request_).iid_only
        assert alone is not None
        assert alone.trial == 1
        assert alone.values == {"iid/ndcg_at_20": 0.3, "ood/ndcg_at_20": 0.1}


def test_iid_alone_does_not_look_at_ood_not_even_for_ties(plane: Plane) -> None:
    alone = select(plane((0.3, 0.1), (0.3, 0.2))).iid_only
    assert alone is not None
    assert alone.trial == 0


def test_iid_alone_is_known_even_where_only_ood_is_an_objective(shelf: Plane) -> None:
    rows = [{"iid/ndcg_at_20": iid, "ood/ndcg_at_20": ood} for iid, ood in [(0.1, 0.3), (0.4, 0.1)]]
    pick = select(shelf(rows, ["ood/ndcg_at_20"]))
    assert pick.trial == 0
    assert pick.iid_only is not None
    assert pick.iid_only.trial == 1
    assert select(shelf([{"ood/ndcg_at_20": 0.1}], ["ood/ndcg_at_20"])).iid_only is None


def test_the_order_of_the_trials_decides_nothing_but_ties(plane: Plane) -> None:
    points = [(0.1, 0.3), (0.22, 0.28), (0.27, 0.2), (0.3, 0.1)]
    for prefer in PREFERENCES:
        picks = {
            order[select(plane(*order), prefer=prefer).trial] for order in itertools.permutations(points)
        }
        assert len(picks) == 1


def test_named_ood_objectives_are_the_ood_axis_where_there_is_no_plain_one() -> None:
    assert (
        axes_of(["iid/ndcg_at_20", "ood_far/recall_at_20", "ood_far/ndcg_at_20"]).ood == "ood_far/ndcg_at_20"
    )
    assert axes_of(["ood_far/ndcg_at_20", "ood/recall_at_20"]).ood == "ood/recall_at_20"
    assert axes_of(["ood_far/ndcg_at_20"]).iid is None


def test_an_iid_only_choice_is_reported_where_the_only_objective_is_a_named_ood_part(shelf: Plane) -> None:
    rows = [{"iid/ndcg_at_20": iid, "ood_far/ndcg_at_20": ood} for iid, ood in ((0.1, 0.3), (0.2, 0.1))]
    pick = select(shelf(rows, ["ood_far/ndcg_at_20"]))
    assert pick.trial == 0
    assert pick.iid_only is not None
    assert pick.iid_only.trial == 1


def pick_of(alias: str, trial: int) -> Pick:
    return Pick(alias=alias, trial=trial, rule="knee", reason="it bends", values={})


EVERY_RULE: tuple[Rule, ...] = (
    *(rule_named(word) for word in PREFERENCES),
    MaxOodWithIid(share=0.5),
    Weighted(weights={"iid/ndcg_at_20": 1, "ood/ndcg_at_20": 1}),
    Reference(reference={"iid/ndcg_at_20": 0.2, "ood/ndcg_at_20": 0.2}),
)


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_no_rule_takes_a_trial_that_is_pruned_failed_under_way_or_infeasible(
    plane: Plane, rule: Rule
) -> None:
    study = plane((0.1, 0.1), (0.9, 0.9), (0.8, 0.8), Failed(reason="diverged", message="no"), None)
    records = list(study.records)
    records[1] = replace(records[1], violated=("time <= 3",))
    records[2] = replace(records[2], state=TrialState.PRUNED, values=None)
    chosen = select(replace(study, records=tuple(records)), prefer=rule)
    assert chosen.trial == 0
    assert chosen.iid_only is not None
    assert chosen.iid_only.trial == 0


def test_where_every_trial_breaks_a_constraint_rules_find_nothing_but_hands_do(plane: Plane) -> None:
    study = plane((0.1, 0.1))
    study = replace(study, records=(replace(study.records[0], violated=("time <= 3", "oom")),))
    with pytest.raises(
        NothingFeasible, match="no complete trial of the study 'toy' keeps to its constraints"
    ):
        select(study)
    by_hand = select(study, trial="0")
    assert by_hand.reason == "trial 0 was asked for by its number (it breaks time <= 3, oom)"
    assert by_hand.iid_only is None


def test_what_wins_over_what(plane: Plane) -> None:
    # One trial for each way of asking; the knee would be trial 4.
    study = plane((0.1, 0.5), (0.2, 0.48), (0.3, 0.45), (0.5, 0.1), (0.4, 0.4), (0.45, 0.3))
    picks = [pick_of("mine", 2)]
    asked: dict[str, Any] = {
        "trial": "0",
        "tagged": ["run-1"],
        "pick": "mine",
        "prefer": "iid",
        "picks": [*picks, pick_of("other", 5)],
    }
    found = []
    for name in ("trial", "tagged", "pick", "prefer"):
        found.append(select(study, **asked).trial)
        del asked[name]
    assert found == [0, 1, 2, 3]
    assert select(study, picks=picks).trial == 2
    assert select(study).trial == 4
    assert select(study, run_id="run-5", tagged=["run-1"], pick="mine", prefer="iid", picks=picks).trial == 5


def test_several_picks_and_no_name_are_a_mistake_that_names_them(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1))
    picks = [pick_of("iid", 1), pick_of("ood", 0)]
    with pytest.raises(StudyError, match=r"name one with --pick, or give a rule .*\(found 'iid, ood'\)"):
        select(study, picks=picks)
    assert select(study, picks=picks, pick="ood").trial == 0
    assert select(study, picks=picks, prefer="iid").trial == 1
    with pytest.raises(StudyError, match=r"no such pick; there is iid, ood \(found 'mine'\)"):
        select(study, picks=picks, pick="mine")


@pytest.mark.parametrize(
    ("trial", "why"),
    [(7, r"no such trial \(found '7'\)"), (1, "trial 1 is failed"), (2, "trial 2 is running")],
)
def test_a_pick_whose_trial_has_no_result_is_one_clear_error(plane: Plane, trial: int, why: str) -> None:
    study = plane((0.1, 0.2), Failed(reason="diverged", message="no"), None)
    with pytest.raises(StudyError, match=f"pick mine: its trial {trial} cannot be trained again: .*{why}"):
        select(study, picks=[pick_of("mine", trial)])


def test_a_pick_gives_its_alias_and_a_rule_its_own_and_a_hand_none(plane: Plane) -> None:
    study = plane((0.1, 0.3), (0.3, 0.1))
    picks = [pick_of("mine", 0)]
    assert select(study, picks=picks).alias == "mine"
    assert select(study, picks=picks).reason == "it is the pick 'mine': it bends"
    aliases = [select(study, prefer=word).alias for word in PREFERENCES]
    assert aliases == list(PREFERENCES)
    assert select(study).alias == "knee"
    for by_hand in ({"trial": "0"}, {"run_id": "run-0"}, {"tagged": ["run-0"]}):
        assert select(study, picks=picks, **by_hand).alias is None  # type: ignore[arg-type]


def test_a_pick_that_was_overtaken_is_still_followed_and_says_so(plane: Plane) -> None:
    chosen = select(plane((0.1, 0.1), (0.3, 0.2)), picks=[pick_of("mine", 0)])
    assert chosen.trial == 0
    assert chosen.reason.endswith("it bends (another point dominates it)")


@pytest.mark.parametrize(
    ("asked", "over"),
    [({"pick": "mine"}, "the pick 'mine'"), ({}, "picks and rules"), ({"prefer": "iid"}, "the rule 'iid'")],
)
def test_a_tag_says_what_it_wins_over(plane: Plane, asked: dict[str, Any], over: str) -> None:
    chosen = select(plane((0.1, 0.3)), tagged=["run-0"], picks=[pick_of("mine", 0)], **asked)
    assert chosen.reason.endswith(f"which wins over {over}")
