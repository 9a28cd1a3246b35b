from __future__ import annotations

import json
from dataclasses import replace

from painvrl.baselines.offsets import Offset
from painvrl.baselines.results import (
    IID,
    OOD,
    BaselinePoint,
    BaselineReport,
    ComparisonReport,
    PairedComparison,
    TrialRun,
)
from painvrl.stats.intervals import Interval

Runs = tuple[tuple[float, float] | None, ...]


def point(place: int, *runs: tuple[float, float] | None) -> BaselinePoint:
    """A point with these (IID, OOD) on seeds 0, 1, ...; None failed."""
    return BaselinePoint(
        trial=4,
        place=place,
        settings={"k": 1},
        offset=Offset(popularity=-0.5 * place, cold=float(place)),
        runs=tuple(
            TrialRun(seed=seed, metrics={}, seconds=2.0, failure="it broke")
            if values is None
            else TrialRun(seed=seed, metrics={IID: values[0], OOD: values[1]}, seconds=float(seed))
            for seed, values in enumerate(runs)
        ),
    )


def report(*points: Runs) -> BaselineReport:
    return BaselineReport(
        name="some",
        summary="",
        points=tuple(point(place, *runs) for place, runs in enumerate(points)),
        shared_seconds=3.0,
    )


def front(found: BaselineReport) -> list[int]:
    return [one.place for one in found.front()]


def best(found: BaselineReport, metric: str) -> int | None:
    one = found.best(metric)
    return one and one.place


def test_points_are_judged_by_their_means_over_seeds() -> None:
    found = report(
        ((0.1, 0.1), (0.3, 0.3)),  # 0.2, 0.2
        ((0.4, 0.0), (0.4, 0.1)),  # 0.4, 0.05
        ((0.2, 0.4), (0.0, 0.4)),  # 0.1, 0.4
        ((0.3, 0.1), (0.1, 0.2)),  # 0.2, 0.15: point 0 is better
    )
    assert front(found) == [1, 0, 2]
    assert best(found, IID) == 1
    assert best(found, OOD) == 2


def test_of_points_with_equal_means_the_first_is_on_the_front() -> None:
    assert front(report(((0.4, 0.1),), ((0.2, 0.3),), ((0.4, 0.1),), ((0.2, 0.3),))) == [0, 1]


def test_of_equally_good_points_on_one_part_the_better_on_the_other_is_the_best() -> None:
    found = report(((0.4, 0.1),), ((0.4, 0.2),), ((0.3, 0.2),))
    assert front(found) == [1]
    assert best(found, IID) == best(found, OOD) == 1


def test_a_point_that_failed_on_a_seed_is_no_choice() -> None:
    found = report(((0.9, 0.9), None), ((0.1, 0.1), (0.1, 0.1)))
    assert front(found) == [1]
    assert front(report((None,))) == []
    assert best(report((None,)), IID) is None


def test_trials_are_counted_by_their_settings() -> None:
    others = tuple(replace(one, trial=7) for one in report(((0.1, 0.1),), ((0.2, 0.2),)).points)
    one = report(((0.1, 0.1),), ((0.2, 0.2),))
    assert replace(one, points=one.points + others).trials == 2


def test_the_json_holds_every_point_seed_by_seed() -> None:
    compared = ComparisonReport(
        data="d",
        split="popularity",
        seeds=(0, 1),
        trials=2,
        baselines=(
            report(((0.5, 0.25), None), ((0.1, 0.2), (0.3, 0.4))),
            BaselineReport(name="other", summary="", skipped="needs x"),
        ),
    )
    reported = json.loads(json.dumps(compared.as_dict()))
    assert (reported["seeds"], reported["trials"], reported["chosen_by"]) == ([0, 1], 2, [IID, OOD])
    some, other = reported["baselines"]
    assert [one["name"] for one in some["points"]] == ["4.0", "4.1"]
    assert some["points"][1]["offset"] == {"popularity": -0.5, "cold": 1.0}
    assert some["points"][0]["settings"] == {"k": 1}
    assert some["points"][0]["runs"] == [
        {"seed": 0, "metrics": {IID: 0.5, OOD: 0.25}, "seconds": 0.0, "failure": None},
        {"seed": 1, "metrics": {}, "seconds": 2.0, "failure": "it broke"},
    ]
    assert [run["metrics"][OOD] for run in some["points"][1]["runs"]] == [0.2, 0.4]
    assert (some["front"], some["shared_seconds"]) == (["4.1"], 3.0)
    assert some["best"] == {IID: "4.1", OOD: "4.1"}
    assert (other["skipped"], other["points"], other["best"]) == ("needs x", [], {IID: None, OOD: None})


def test_the_json_of_a_comparison_names_its_points() -> None:
    first, second, third = (point(place, (0.1, 0.1)) for place in range(3))
    comparison = PairedComparison(
        baseline="als",
        rival=third,
        own=first,
        iid=Interval(mean=0.2, low=0.1, high=0.3),
        ood=Interval(mean=0.3, low=0.2, high=0.4),
        beats=(first, second),
    )
    assert json.loads(json.dumps(comparison.as_dict())) == {
        "baseline": "als",
        "point": "4.2",
        "own": "4.0",
        "beats": ["4.0", "4.1"],
        "iid": {"mean": 0.2, "low": 0.1, "high": 0.3},
        "ood": {"mean": 0.3, "low": 0.2, "high": 0.4},
        "verdict": "ahead",
    }
