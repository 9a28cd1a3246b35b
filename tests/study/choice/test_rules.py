from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.core.errors import ConfigError
from painvrl.stats.dominance import non_dominated
from painvrl.study.choice.candidates import Candidates, Verdict
from painvrl.study.choice.rules import (
    KNEE,
    PREFERENCES,
    MaxIidWithLoeo,
    MaxOodWithIid,
    Reference,
    Rule,
    Weighted,
    rule_named,
)

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"
FOUR = ("iid/recall_at_20", IID, "ood/recall_at_20", OOD)

RULES: tuple[Rule, ...] = (
    KNEE,
    rule_named("iid"),
    rule_named("ood"),
    rule_named("balanced"),
    MaxOodWithIid(share=0.0),
    MaxOodWithIid(share=0.8),
    MaxOodWithIid(share=1.0),
    Weighted(weights={IID: 1.0, OOD: 2.0}),
    Weighted(weights={IID: 1.0, OOD: 0.0}),
    Reference(reference={IID: 0.2, OOD: 0.1}),
    Reference(reference={OOD: 0.25}),
)

LOEO = ("iid/ndcg_at_20", "loeo/recall_at_20", "loeo/ndcg_at_20", "ood/ndcg_at_20")


def test_the_left_out_environments_choose_by_their_ndcg_and_not_by_ood() -> None:
    points = [(0.3, 0.2, 0.10, 0.1), (0.2, 0.1, 0.20, 0.0), (0.1, 0.3, 0.15, 0.3)]
    assert choose(rule_named("loeo"), points, LOEO).place == 1
    blind = [(iid, *middle, 1 - ood) for iid, *middle, ood in points]
    assert choose(rule_named("loeo"), blind, LOEO).place == 1
    tied = [(0.3, 0.2, 0.20, 0.1), (0.4, 0.2, 0.20, 0.1)]
    assert choose(rule_named("loeo"), tied, LOEO).place == 1
    with pytest.raises(ConfigError, match=r"needs an objective loeo/"):
        choose(rule_named("loeo"), [(0.1, 0.2)])


def test_the_best_iid_is_taken_of_what_keeps_its_share_of_the_left_out_environments() -> None:
    points = [(0.3, 0.9, 0.17, 0.1), (0.2, 0.1, 0.19, 0.0), (0.1, 0.3, 0.20, 0.3)]
    for share, place in ((1.0, 2), (0.96, 2), (0.95, 1), (0.9, 1), (0.85, 0), (0.0, 0)):
        verdict = choose(MaxIidWithLoeo(share=share), points, LOEO)
        assert verdict.place == place
        blind = [(*middle, 1 - ood) for *middle, ood in points]
        assert choose(MaxIidWithLoeo(share=share), blind, LOEO).place == place
    tied = [(0.3, 0.1, 0.20, 0.1), (0.3, 0.1, 0.19, 0.9)]
    assert choose(MaxIidWithLoeo(share=0.9), tied, LOEO).place == 0
    reason = choose(MaxIidWithLoeo(share=0.9), points, LOEO).reason
    assert "the best iid/ndcg_at_20 of the 2 points on the front whose loeo/ndcg_at_20 is at least" in reason
    assert "90% of the best, 0.1800" in reason
    assert "loeo/ndcg_at_20 0.1900 (5.0% below the best, 0.2000)" in reason
    with pytest.raises(ConfigError, match=r"max-iid-with-loeo: needs an objective loeo/"):
        choose(MaxIidWithLoeo(share=0.9), [(0.1, 0.2)])
    with pytest.raises(ConfigError, match=r"max-iid-with-loeo: needs an IID objective; the study has loeo/"):
        choose(MaxIidWithLoeo(share=0.9), [(0.1, 0.2)], ["loeo/ndcg_at_20", OOD])


COARSE = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.25, 0.3])
PLANES = st.lists(st.tuples(COARSE, COARSE), min_size=1, max_size=8)
SPACES = st.lists(st.tuples(COARSE, COARSE, COARSE, COARSE), min_size=1, max_size=8)


def front(points: Sequence[Sequence[float]], names: Sequence[str] = (IID, OOD)) -> Candidates:
    return Candidates(values=np.array(points, dtype=float), objectives=tuple(names))


def choose(rule: Rule, points: Sequence[Sequence[float]], names: Sequence[str] = (IID, OOD)) -> Verdict:
    return rule.choose(front(points, names))


def dominated(points: Sequence[Sequence[float]], place: int) -> bool:
    mine = points[place]
    return any(
        all(a >= b for a, b in zip(other, mine, strict=True)) and tuple(other) != tuple(mine)
        for other in points
    )


@given(PLANES, st.sampled_from(RULES))
@settings(deadline=None, max_examples=300)
def test_a_dominated_trial_is_never_taken_even_where_one_is_offered(
    points: list[tuple[float, float]], rule: Rule
) -> None:
    assert not dominated(points, choose(rule, points).place)


@given(SPACES, st.sampled_from(RULES))
@settings(deadline=None, max_examples=300)
def test_a_dominated_trial_is_never_taken_in_four_dimensions(
    points: list[tuple[float, float, float, float]], rule: Rule
) -> None:
    assert not dominated(points, choose(rule, points, FOUR).place)


@given(st.lists(st.tuples(COARSE, COARSE), min_size=1, max_size=5), st.sampled_from(RULES))
@settings(deadline=None, max_examples=60)
def test_the_order_of_the_trials_decides_nothing_but_which_of_equal_ones(
    points: list[tuple[float, float]], rule: Rule
) -> None:
    taken = {order[choose(rule, order).place] for order in itertools.permutations(points)}
    assert len(taken) == 1


# Powers of two scale without rounding.
@given(PLANES, st.sampled_from([0.25, 0.5, 4.0]), st.sampled_from([0.25, 0.5, 4.0]))
@settings(deadline=None, max_examples=200)
def test_scaled_rules_do_not_depend_on_the_units_of_an_objective(
    points: list[tuple[float, float]], by_iid: float, by_ood: float
) -> None:
    points = [point for point, on in zip(points, non_dominated(points), strict=True) if on]
    stretched = [(by_iid * iid, by_ood * ood) for iid, ood in points]
    for rule, other in (
        (rule_named("iid"), rule_named("iid")),
        (rule_named("ood"), rule_named("ood")),
        (MaxOodWithIid(share=0.8), MaxOodWithIid(share=0.8)),
        (Weighted(weights={IID: 1.0, OOD: 2.0}), Weighted(weights={IID: 1.0, OOD: 2.0})),
        (
            Reference(reference={IID: 0.2, OOD: 0.1}),
            Reference(reference={IID: 0.2 * by_iid, OOD: 0.1 * by_ood}),
        ),
    ):
        assert points[choose(rule, points).place] == points[choose(other, stretched).place]


@given(PLANES, st.sampled_from([0.25, 4.0]))
@settings(deadline=None, max_examples=100)
def test_knee_and_balance_do_not_depend_on_a_unit_that_both_objectives_share(
    points: list[tuple[float, float]], by: float
) -> None:
    stretched = [(by * iid, by * ood) for iid, ood in points]
    for rule in (KNEE, rule_named("balanced")):
        assert points[choose(rule, points).place] == points[choose(rule, stretched).place]


@given(PLANES)
@settings(deadline=None, max_examples=200)
def test_all_of_the_iid_is_the_iid_rule_and_none_of_it_the_ood_rule(
    points: list[tuple[float, float]],
) -> None:
    def taken(rule: Rule) -> tuple[float, float]:
        return points[choose(rule, points).place]

    assert taken(MaxOodWithIid(share=1.0)) == taken(rule_named("iid"))
    assert taken(MaxOodWithIid(share=0.0)) == taken(rule_named("ood"))


@given(PLANES, st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_max_ood_keeps_its_share_and_no_other_trial_that_keeps_it_has_more(
    points: list[tuple[float, float]], share: float
) -> None:
    iid, ood = points[choose(MaxOodWithIid(share=share), points).place]
    floor = share * max(one for one, _ in points)
    assert iid >= floor
    assert ood == max(other for one, other in points if one >= floor)


# A front that can be weighed by hand: scaled, it is (0, 1), (.5, .8), (.8, .5), (1, 0).
FRONT = [(0.1, 0.3), (0.2, 0.26), (0.26, 0.2), (0.3, 0.1)]


@pytest.mark.parametrize(
    ("weights", "place", "score"),
    [
        ({IID: 1, OOD: 1}, 2, "1.3 of 2"),  # 1, 1.3, 1.3, 1: the tie goes to the better IID
        ({IID: 1, OOD: 2}, 1, "2.1 of 3"),  # 2, 2.1, 1.8, 1
        ({IID: 1, OOD: 4}, 0, "4 of 5"),  # 4, 3.7, 2.8, 1
        ({IID: 5, OOD: 1}, 3, "5 of 6"),  # 1, 3.3, 4.5, 5
        ({OOD: 1}, 0, "1 of 1"),
    ],
)
def test_the_weighted_sum_by_hand(weights: dict[str, float], place: int, score: str) -> None:
    verdict = choose(Weighted(weights=weights), FRONT)
    assert verdict.place == place
    assert f"the largest weighted sum of the 4 points on the front, {score} (" in verdict.reason


@pytest.mark.parametrize(
    ("reference", "place", "margin", "end"),
    [
        # Margins, IID then OOD: (-.25, .5), (.25, .3), (.55, 0), (.75, -.5).
        ({IID: 0.15, OOD: 0.2}, 1, "+0.25", "so it is reached; "),
        # (-.75, .25), (-.25, .05), (.05, -.25), (.25, -.75): a tie of -.25, and equal sums: the better IID.
        ({IID: 0.25, OOD: 0.25}, 2, "-0.25", "so no trial reaches it: this one misses ood/ndcg_at_20; "),
        ({OOD: 0.3}, 0, "+0", "so it is reached; "),
        (
            {IID: 0.3, OOD: 0.3},
            2,
            "-0.5",
            "so no trial reaches it: this one misses iid/ndcg_at_20 and ood/ndcg_at_20; ",
        ),
    ],
)
def test_the_reference_point_by_hand(reference: dict[str, float], place: int, margin: str, end: str) -> None:
    verdict = choose(Reference(reference=reference), FRONT)
    assert verdict.place == place
    assert f", {margin} of the front's range, {end}" in verdict.reason


def test_a_tie_of_the_worst_margin_goes_to_the_larger_sum_of_margins() -> None:
    # Ranges 1: worst margins .2 of both middle trials, sums 1.1 and .8.
    points = [(0.0, 1.0), (0.2, 0.9), (0.6, 0.2), (1.0, 0.0)]
    assert choose(Reference(reference={IID: 0.0, OOD: 0.0}), points).place == 1


def test_a_trial_that_misses_by_rounding_does_not_hide_one_that_reaches_the_reference() -> None:
    points = [(0.0, 1.0), (0.5 - 1e-14, 0.9), (0.5, 0.6), (1.0, 0.0)]
    verdict = choose(Reference(reference={IID: 0.5, OOD: 0.5}), points)
    assert verdict.place == 2
    assert "it is reached" in verdict.reason


def test_an_objective_without_a_range_decides_nothing_but_whether_the_point_is_reached() -> None:
    points = [(0.2, 0.1), (0.2, 0.3), (0.2, 0.2)]
    low = choose(Reference(reference={IID: 0.1, OOD: 0.2}), points)
    high = choose(Reference(reference={IID: 0.5, OOD: 0.2}), points)
    assert low.place == high.place == 1
    assert "it is reached" in low.reason
    assert "this one misses iid/ndcg_at_20" in high.reason
    assert choose(Reference(reference={IID: 0.1}), points).place == 1, "nothing to tell apart: the better OOD"


@given(PLANES, st.tuples(COARSE, COARSE))
@settings(deadline=None, max_examples=200)
def test_a_reference_is_said_to_be_reached_if_and_only_if_some_trial_reaches_it(
    points: list[tuple[float, float]], wanted: tuple[float, float]
) -> None:
    verdict = choose(Reference(reference={IID: wanted[0], OOD: wanted[1]}), points)
    reached = any(iid >= wanted[0] and ood >= wanted[1] for iid, ood in points)
    assert ("it is reached" in verdict.reason) is reached
    assert ("no trial reaches it" in verdict.reason) is not reached


def test_the_reference_rule_is_pymoos_achievement_scalarisation() -> None:
    from pymoo.decomposition.asf import ASF

    random = np.random.default_rng(4)
    for _ in range(40):
        values = random.random((12, 4))
        values = values[non_dominated(values)]
        wanted = random.random(4)
        reference = dict(zip(FOUR, wanted.tolist(), strict=True))
        # pymoo minimises the largest (f - reference) / weight.
        scores = ASF().do(-values, weights=np.ptp(values, axis=0), ideal_point=-wanted)
        assert Reference(reference=reference).choose(front(values, FOUR)).place == int(np.argmin(scores))


def test_the_weighted_rule_is_pymoos_weighted_sum() -> None:
    from pymoo.decomposition.weighted_sum import WeightedSum

    random = np.random.default_rng(5)
    for _ in range(40):
        values = random.random((12, 4))
        values = values[non_dominated(values)]
        weights = random.random(4)
        loss = (values.max(axis=0) - values) / np.ptp(values, axis=0)
        rule = Weighted(weights=dict(zip(FOUR, weights.tolist(), strict=True)))
        expected = int(np.argmin(WeightedSum().do(loss, weights=weights)))
        assert rule.choose(front(values, FOUR)).place == expected


@pytest.mark.filterwarnings("ignore:Please import")  # pymoo asks SciPy for a namespace that goes
def test_the_knee_of_a_front_with_one_bend_is_pymoos_point_of_the_highest_trade_off() -> None:
    from pymoo.mcdm.high_tradeoff import HighTradeoffPoints

    points = [(0, 1), (0.25, 0.95), (0.5, 0.9), (0.8, 0.8), (0.9, 0.5), (0.95, 0.25), (1, 0)]
    assert list(HighTradeoffPoints().do(1 - np.array(points))) == [choose(KNEE, points).place] == [3]


def test_the_reason_gives_the_losses_against_both_ends() -> None:
    verdict = choose(rule_named("balanced"), FRONT)
    assert verdict.place == 2
    assert verdict.reason.endswith(
        "; iid/ndcg_at_20 0.2600 (13.3% below the best, 0.3000), "
        "ood/ndcg_at_20 0.2000 (33.3% below the best, 0.3000)"
    )
    assert "harmonic mean of iid/ndcg_at_20 and ood/ndcg_at_20 of the 4 points on the front, 0.2261" in (
        verdict.reason
    )
    assert choose(rule_named("ood"), FRONT).reason.endswith("ood/ndcg_at_20 0.3000 (the best)")


def test_the_reason_tells_what_was_weighed_beside_the_axes() -> None:
    points = [(0.4, 0.1, 0.2, 0.3), (0.2, 0.3, 0.2, 0.1)]
    reason = choose(Weighted(weights={"iid/recall_at_20": 1}), points, FOUR).reason
    assert reason.endswith("iid/recall_at_20 0.4000 (the best)")


def test_max_ood_says_how_many_trials_it_had_to_choose_from() -> None:
    # At least .24: two trials.
    verdict = choose(MaxOodWithIid(share=0.8), FRONT)
    assert verdict.place == 2
    assert "of the 2 points on the front whose iid/ndcg_at_20 is at least 80% of the best, 0.2400" in (
        verdict.reason
    )
    assert "of the 1 point on the front" in choose(MaxOodWithIid(share=0.98), FRONT).reason


@pytest.mark.parametrize("rule", RULES[:4])
def test_with_one_part_a_rule_takes_its_best(rule: Rule) -> None:
    for part, points in (("iid", [(0.1,), (0.3,), (0.3,)]), ("ood", [(0.1,), (0.3,), (0.2,)])):
        verdict = choose(rule, points, [f"{part}/ndcg_at_20"])
        assert verdict.place == 1
        assert "the study has no other part to weigh" in verdict.reason


def test_a_share_of_the_iid_needs_both_parts() -> None:
    with pytest.raises(ConfigError, match=r"needs an IID and an OOD objective; the study has iid/ndcg_at_20"):
        choose(MaxOodWithIid(share=0.9), [(0.1,)], [IID])


@pytest.mark.parametrize("rule", RULES)
def test_one_trial_is_taken_and_loses_nothing(rule: Rule) -> None:
    verdict = choose(rule, [(0.2, 0.1)])
    assert verdict.place == 0
    assert verdict.reason.endswith("iid/ndcg_at_20 0.2000 (the best), ood/ndcg_at_20 0.1000 (the best)")


@pytest.mark.parametrize("rule", RULES)
def test_of_equal_trials_the_first_is_taken(rule: Rule) -> None:
    assert choose(rule, [(0.2, 0.1)] * 3).place == 0


@pytest.mark.parametrize("rule", RULES)
def test_trials_that_are_worth_nothing_are_chosen_among_without_a_nan(rule: Rule) -> None:
    with np.errstate(all="raise"):
        verdict = choose(rule, [(0.0, 0.0), (0.0, 0.0)])
    assert verdict.place == 0
    assert "nan" not in verdict.reason


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Weighted(weights={IID: -1.0}), "weight of iid/ndcg_at_20 must be a number of at least 0"),
        (lambda: Weighted(weights={IID: math.nan}), "must be a number of at least 0"),
        (lambda: Weighted(weights={IID: math.inf}), "must be a number of at least 0"),
        (lambda: Weighted(weights={IID: 1e308, OOD: 1e308}), r"weight of iid/ndcg_at_20 .* at most 1e\+100"),
        (lambda: Weighted(weights={IID: 0.0}), "at least one weight must be above 0"),
        (lambda: Weighted(weights={}), "at least one weight must be above 0"),
        (lambda: Reference(reference={}), "must name at least one objective"),
        (lambda: Reference(reference={IID: math.nan}), "must be finite"),
        (lambda: Reference(reference={IID: -1e308}), r"value of iid/ndcg_at_20 .* at most 1e\+100"),
        (lambda: MaxOodWithIid(share=1.01), r"must be a share of the best IID.*\(found 1.01\)"),
        (lambda: MaxOodWithIid(share=-0.1), "must be a share"),
        (lambda: MaxIidWithLoeo(share=1.01), r"must be a share of the best left-out metric.*\(found 1.01\)"),
        (lambda: MaxOodWithIid(share=math.nan), "must be a share"),
        (lambda: rule_named("best"), r"must be one of knee, iid, ood, loeo, balanced \(found 'best'\)"),
        (
            lambda: choose(Weighted(weights={"ood/x": 1.0}), FRONT),
            r"weights: is no objective of the study; it has",
        ),
        (lambda: choose(Reference(reference={"ood/x": 1.0}), FRONT), r"reference: is no objective"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "rule",
    [
        Weighted(weights={IID: 1e100, OOD: 1e100}),
        Reference(reference={IID: 1e100, OOD: -1e100}),
        Reference(reference={IID: -1e100, OOD: -1e100}),
    ],
)
def test_the_largest_numbers_that_a_rule_takes_do_not_overflow(rule: Rule) -> None:
    with np.errstate(all="raise"):
        verdict = choose(rule, FRONT)
    assert "inf" not in verdict.reason
    assert "nan" not in verdict.reason


def test_every_word_names_the_rule_of_that_label() -> None:
    assert [rule_named(word).label for word in PREFERENCES] == list(PREFERENCES)


def test_a_label_says_the_rule_and_its_numbers() -> None:
    assert MaxOodWithIid(share=0.985).label == "max-ood-with-iid 98.5%"
    assert MaxIidWithLoeo(share=0.9).label == "max-iid-with-loeo 90%"
    assert Weighted(weights={IID: 1, OOD: 2.5}).label == "weights iid/ndcg_at_20=1,ood/ndcg_at_20=2.5"
    assert Reference(reference={OOD: 0.05}).label == "reference ood/ndcg_at_20=0.05"
