from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from painvrl.run.hyperparameters import Point
from painvrl.stats.intervals import Bounded
from painvrl.study.report.price import (
    HyperparameterPrice,
    Price,
    change_of,
    picture,
    price,
    price_of_invariance,
)

Make = Callable[..., Any]
AXES = ("iid/ndcg_at_20", "ood/ndcg_at_20")

KNOBS = {
    "paid": {"type": "float", "low": 0.0, "high": 1.0},
    "free": {"type": "float", "low": 0.001, "high": 10.0, "log": True},
    "idle": {"type": "int", "low": 0, "high": 9},
    "kind": {"type": "categorical", "choices": ["x", "y"]},
}


def drawn(n: int, noise: float, seed: int) -> tuple[list[Point], np.ndarray[Any, Any]]:
    """Trials whose slopes are known: by unit of ``paid``, by power of ten of ``free``, by choice."""
    rng = np.random.default_rng(seed)
    points: list[Point] = [
        {
            "paid": float(rng.random()),
            "free": float(10 ** rng.uniform(-3, 1)),
            "idle": int(rng.integers(0, 10)),
            "kind": str(rng.choice(["x", "y"])),
        }
        for _ in range(n)
    ]
    columns = np.array(
        [
            [point["paid"], math.log10(float(point["free"])), float(point["kind"] == "y")]  # type: ignore[arg-type]
            for point in points
        ]
    )
    slopes = np.array([[-0.2, 0.1], [0.01, 0.02], [0.03, -0.06]])
    return points, 0.5 + columns @ slopes + noise * rng.normal(size=(n, 2))


def priced(
    space: Make, points: list[Point], values: Any, tree: Mapping[str, object] = KNOBS, resamples: int = 2000
) -> Price:
    return price(points, np.asarray(values), space(tree).root, AXES, seed=0, resamples=resamples)


def by_hyperparameter(found: Price) -> dict[str, HyperparameterPrice]:
    return {one.hyperparameter: one for one in found.hyperparameters}


def without_paid(
    points: list[Point], values: Any, absent: Callable[[Point], bool]
) -> tuple[list[Point], np.ndarray[Any, Any]]:
    """The trials without ``paid`` and what it did, where another one says that it is absent."""
    kept = np.array(values)
    for place, point in enumerate(points):
        if absent(point):
            kept[place] -= float(point["paid"]) * np.array([-0.2, 0.1])  # type: ignore[arg-type]
    thinned: list[Point] = [
        {name: value for name, value in point.items() if name != "paid" or not absent(point)}
        for point in points
    ]
    return thinned, kept


def length(one: HyperparameterPrice) -> float:
    """Of the turn, in the units of the slopes."""
    assert isinstance(one.low, float | int)
    assert isinstance(one.high, float | int)
    return math.log10(one.high / one.low) if one.hyperparameter == "free" else one.high - one.low


def test_known_slopes_are_found_and_judged(space: Make) -> None:
    found = by_hyperparameter(priced(space, *drawn(80, 0.004, 1)))
    paid, free, idle, kind = (found[hyperparameter] for hyperparameter in KNOBS)
    assert (paid.verdict, free.verdict, idle.verdict, kind.verdict) == (
        "trade",
        "free",
        "no clear OOD effect",
        "trade",
    )
    assert paid.iid.value == pytest.approx(-0.2 * length(paid), rel=0.1)
    assert paid.ood.value == pytest.approx(0.1 * length(paid), rel=0.1)
    assert paid.price is not None
    assert paid.price.value == pytest.approx(2.0, rel=0.1)
    assert free.iid.value == pytest.approx(0.01 * length(free), rel=0.25)
    assert free.ood.value == pytest.approx(0.02 * length(free), rel=0.25)
    assert (free.price, idle.price) == (None, None)
    # The price does not depend on which choice is called the usual one.
    assert kind.price is not None
    assert kind.price.value == pytest.approx(0.5, rel=0.1)


def test_the_intervals_cover_the_truth_about_as_often_as_they_say(space: Make) -> None:
    covered = {"iid": 0, "ood": 0, "price": 0}
    studies = 80
    for seed in range(studies):
        paid = by_hyperparameter(priced(space, *drawn(60, 0.02, 100 + seed), resamples=200))["paid"]
        truth = {"iid": -0.2 * length(paid), "ood": 0.1 * length(paid), "price": 2.0}
        for name, interval in (("iid", paid.iid), ("ood", paid.ood), ("price", paid.price)):
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            assert interval.low < interval.value < interval.high
            covered[name] += interval.low <= truth[name] <= interval.high
    # 95% asked: of 80 draws at least 71 hold in 98 of 100 cases.
    assert all(hits >= 71 for hits in covered.values()), covered


def test_without_noise_the_ratio_is_exact_and_a_hyperparameter_without_effect_has_no_price(
    space: Make,
) -> None:
    found = by_hyperparameter(priced(space, *drawn(20, 0.0, 3)))
    assert found["paid"].price == Bounded(
        value=pytest.approx(2.0), low=pytest.approx(2.0), high=pytest.approx(2.0)
    )
    assert found["idle"].verdict == "no clear OOD effect"
    assert (found["idle"].iid.value, found["idle"].ood.value) == (0.0, 0.0)


def test_a_price_that_may_be_zero_is_shown_with_its_interval(space: Make) -> None:
    rng = np.random.default_rng(0)
    points: list[Point] = [{"paid": float(rng.random())} for _ in range(60)]
    x = np.array([float(point["paid"]) for point in points])  # type: ignore[arg-type]
    values = np.stack([0.05 * rng.normal(size=60), 0.3 * x + 0.01 * rng.normal(size=60)], axis=1)
    (one,) = priced(space, points, values, {"paid": KNOBS["paid"]}).hyperparameters
    assert one.verdict == "no clear cost"
    assert one.price is not None
    assert one.price.low is not None
    assert one.price.high is not None
    assert one.price.low < 0 < one.price.high


def test_too_few_trials_get_no_price(space: Make) -> None:
    points, values = drawn(6, 0.01, 0)
    found = priced(space, points, values)
    assert (found.hyperparameters, found.trials, found.needed) == ((), 6, 7)
    assert found.note == (
        "It takes 7 complete trials, presets apart, to tell the hyperparameters apart; there are 6."
    )


@pytest.mark.parametrize("n", [7, 8])
def test_trials_that_determine_every_hyperparameter_but_are_too_few_to_resample_say_that_they_are_few(
    space: Make, n: int
) -> None:
    found = priced(space, *drawn(n, 0.01, 0))
    assert (found.hyperparameters, found.needed) == ((), 7), (
        "a resample of so few holds fewer than the columns"
    )
    why = "has too few trials for an interval"
    name = next(name for name in found.left_out if name.startswith("kind"))
    assert found.left_out == {"paid": why, "free": why, "idle": why, name: why}
    assert (
        found.note == f"There are {n} complete trials: enough to tell effects apart, too few for intervals."
    )


def test_with_a_few_more_trials_every_hyperparameter_has_an_interval(space: Make) -> None:
    found = priced(space, *drawn(14, 0.01, 0))
    assert set(by_hyperparameter(found)) == set(KNOBS)
    assert (found.left_out, found.note) == ({}, None)


def test_no_trial_at_all_has_no_price(space: Make) -> None:
    found = priced(space, [], np.zeros((0, 2)))
    assert found.hyperparameters == ()
    assert found.note is not None


def test_hyperparameters_that_moved_together_cannot_be_reported_apart_and_leave_the_others_alone(
    space: Make,
) -> None:
    points, values = drawn(60, 0.004, 5)
    tree = {**KNOBS, "twin": {"type": "float", "low": 0.0, "high": 2.0}}
    twins = [{**point, "twin": 2 * float(point["paid"])} for point in points]  # type: ignore[arg-type]
    found = priced(space, twins, values, tree)
    together = "moved along with other hyperparameters: the trials cannot tell them apart"
    assert found.left_out == {"paid": together, "twin": together}
    pair = priced(space, twins, values, {name: tree[name] for name in ("paid", "twin")})
    assert (pair.hyperparameters, pair.left_out) == ((), found.left_out)
    assert (found.note, pair.note) == (None, None), "more trials of this kind would not help"
    assert by_hyperparameter(found)["free"].verdict == "free"


def test_a_conditional_hyperparameter_is_priced_over_the_trials_that_have_it(space: Make) -> None:
    thinned, values = without_paid(*drawn(80, 0.004, 6), lambda point: int(point["idle"] or 0) < 5)
    paid = by_hyperparameter(priced(space, thinned, values))["paid"]
    assert paid.verdict == "trade"
    assert paid.price is not None
    assert paid.price.value == pytest.approx(2.0, rel=0.1)


def test_the_choice_that_decides_whether_a_hyperparameter_exists_is_priced_at_that_hyperparameters_mean(
    space: Make,
) -> None:
    paid = {"type": "float", "low": 0.0, "high": 1.0, "when": {"kind": "x"}}
    thinned, values = without_paid(*drawn(80, 0.001, 6), lambda point: point["kind"] == "y")
    found = priced(space, thinned, values, {**KNOBS, "paid": paid})
    assert (found.left_out, set(by_hyperparameter(found))) == ({}, set(KNOBS))
    kind = by_hyperparameter(found)["kind"]
    mean = float(np.mean([float(point["paid"]) for point in thinned if "paid" in point]))  # type: ignore[arg-type]
    turned = 1 if kind.high == "y" else -1
    assert kind.iid.value == pytest.approx(turned * (0.03 + 0.2 * mean), abs=0.002)
    assert kind.ood.value == pytest.approx(turned * (-0.06 - 0.1 * mean), abs=0.002)


def test_of_a_hyperparameter_with_three_choices_only_the_change_that_hides_is_left_out(space: Make) -> None:
    points, values = drawn(60, 0.004, 5)
    choices = {"type": "categorical", "choices": ["a", "b", "c"]}
    # ``twin`` is ``t`` exactly where ``three`` is ``c``; ``a`` and ``b`` go their own ways.
    three: list[Point] = [
        {**point, "three": "c" if int(point["idle"] or 0) < 2 else "ab"[float(point["paid"] or 0) > 0.6]}
        for point in points
    ]
    twins: list[Point] = [{**point, "twin": "t" if point["three"] == "c" else "s"} for point in three]
    twin = {"type": "categorical", "choices": ["s", "t"]}
    found = priced(space, twins, values, {**KNOBS, "three": choices, "twin": twin})
    assert set(found.left_out) == {"three: a → c", "twin: s → t"}
    assert (by_hyperparameter(found)["three"].low, by_hyperparameter(found)["three"].high) == ("a", "b")


def test_a_hyperparameter_that_two_trials_have_is_left_out_or_has_a_wide_interval_never_a_wild_ratio(
    space: Make,
) -> None:
    points, values = drawn(30, 0.004, 7)
    least = sorted(float(point["free"]) for point in points)[1]  # type: ignore[arg-type]
    rare, values = without_paid(points, values, lambda point: float(point["free"]) > least)  # type: ignore[arg-type]
    found = priced(space, rare, values)
    assert found.left_out == {"paid": "has too few trials for an interval"}
    assert found.note is None, "the other hyperparameters have theirs"
    assert by_hyperparameter(found)["free"].iid.value > 0


def test_a_constant_axis_is_explained_by_nothing(space: Make) -> None:
    points, values = drawn(20, 0.004, 0)
    flat = np.stack([values[:, 0], np.full(20, 0.25)], axis=1)
    found = priced(space, points, flat)
    assert found.explained["ood/ndcg_at_20"] == 0.0
    assert {one.verdict for one in found.hyperparameters} == {"no clear OOD effect"}


def test_the_share_explained_is_that_of_the_regression(space: Make) -> None:
    points, values = drawn(400, 0.05, 0)
    found = priced(space, points, values, resamples=50)
    signal = drawn(400, 0.0, 0)[1]
    expected = 1 - 0.05**2 / (signal.var(axis=0) + 0.05**2)
    assert list(found.explained.values()) == pytest.approx(expected, abs=0.06)


def test_the_same_seed_gives_the_same_intervals(space: Make) -> None:
    one, other = (priced(space, *drawn(30, 0.02, 0)) for _ in range(2))
    assert one == other


def test_presets_and_infeasible_trials_do_not_enter(trials: Make, record: Make) -> None:
    rng = np.random.default_rng(0)

    def a(number: int, **more: Any) -> Any:
        sparsity = float(rng.random())
        return record(
            number, (0.5 - 0.2 * sparsity, 0.1 + 0.1 * sparsity), point={"mask.sparsity": sparsity}, **more
        )

    good = [a(number) for number in range(12)]
    bad = [
        record(20, (0.9, 0.9), preset="erm", point={}),
        record(21, (0.0, 0.9), point={"mask.sparsity": 0.0}, violated=("too long",)),
    ]
    tree = {"mask.sparsity": {"type": "float", "low": 0.0, "high": 1.0}}
    found = price_of_invariance(trials(*good, *bad, space=tree))
    assert found.trials == 12
    assert found == price_of_invariance(trials(*good, space=tree))
    assert found.hyperparameters[0].price is not None
    assert found.hyperparameters[0].price.value == pytest.approx(2.0)


def test_a_swept_training_is_one_row_and_what_was_swept_is_no_hyperparameter(
    swept_trials: Make, trials: Make, swept: Make, record: Make
) -> None:
    rng = np.random.default_rng(0)
    many, alone = [], []
    for number in range(20):
        sparsity = float(rng.uniform(0, 0.9))
        reported = (0.3 - 0.2 * sparsity + 0.01 * float(rng.random()), 0.1 + 0.1 * sparsity)
        many.append(
            swept(number, reported, (reported[0] / 2, reported[1]), point={"mask.sparsity": sparsity})
        )
        alone.append(record(number, reported, point={"mask.sparsity": sparsity}))
    found = price_of_invariance(swept_trials(*many))
    assert found == price_of_invariance(trials(*alone))
    assert (found.trials, "fusion.cold_weight" in found.left_out) == (20, False)
    assert [hyperparameter.hyperparameter for hyperparameter in found.hyperparameters] == ["mask.sparsity"]


def test_the_picture_turns_every_hyperparameter_so_that_ood_rises() -> None:
    falls = HyperparameterPrice(
        hyperparameter="kind",
        low="x",
        high="y",
        iid=Bounded(value=0.03, low=0.02, high=0.05),
        ood=Bounded(value=-0.06, low=-0.1, high=-0.05),
        verdict="trade",
        price=Bounded(value=0.5, low=0.4, high=0.6),
    )
    assert change_of(falls) == "kind: x → y"
    assert change_of(falls, rising=True) == "kind: y → x"
    found = Price(
        metrics=AXES, trials=9, needed=4, explained={}, hyperparameters=(falls,), left_out={}, note=None
    )
    figure = picture(found)
    assert figure is not None
    shown = {
        line.xaxis: (
            line.y[0],
            line.x[0],
            line.x[0] - line.error_x.arrayminus[0],
            line.x[0] + line.error_x.array[0],
        )
        for line in figure.data
        if line.name == "trade"
    }
    assert shown["x"] == ("kind: y → x", -0.03, pytest.approx(-0.05), pytest.approx(-0.02))
    assert shown["x2"] == ("kind: y → x", 0.06, pytest.approx(0.05), pytest.approx(0.1))
    assert picture(replace(found, hyperparameters=())) is None
