from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from painvrl.engine.outcomes import Completed, SweptPoint
from painvrl.study.confirmation.candidates import FEW, Candidate, candidates_of, near_the_front
from painvrl.study.store.records import TrialRecord

Plane = Callable[..., Any]


def test_the_front_and_the_dominated_trials_are_reported_apart(plane: Plane) -> None:
    front, dominated = candidates_of(plane((0.3, 0.1), (0.1, 0.3), (0.2, 0.05), None, (0.25, 0.2)))
    assert [(one.trial, one.source) for one in front] == [(0, "front"), (1, "front"), (4, "front")]
    assert [(one.trial, one.source) for one in dominated] == [(2, "near")]
    assert front[0].first == (0.3, 0.1)
    assert front[0].config.mask.sparsity == 0.0
    assert front[2].config.mask.sparsity == 0.04
    assert front[0].run_id == "run-0"


def test_a_trial_that_breaks_a_constraint_is_no_candidate(plane: Plane) -> None:
    shelf = plane((0.3, 0.1), (0.9, 0.9))
    records = (shelf.records[0], replace(shelf.records[1], violated=("time 90 s > 60 s",)))
    front, dominated = candidates_of(replace(shelf, records=records))
    assert ([one.trial for one in front], dominated) == ([0], ())


def test_trials_of_one_configuration_are_one_candidate(plane: Plane) -> None:
    shelf = plane((0.3, 0.1), (0.1, 0.3), (0.3, 0.1), (0.2, 0.05))
    first = shelf.records[0].point
    # A hyperparameter may stand where the configuration has it anyway. The last trial came out otherwise.
    same = ({**first, "rounds": shelf.config.rounds}, {**first, "seed": shelf.config.seed})
    later = (replace(each, point=point) for each, point in zip(shelf.records[2:], same, strict=True))
    records = [*shelf.records[:2], *later]
    front, dominated = candidates_of(replace(shelf, records=tuple(records)))
    assert [(one.trial, one.also) for one in front] == [(0, ("2", "3")), (1, ())]
    assert dominated == ()


WEIGHT = "fusion.popularity_weight"


def swept(record: TrialRecord, *points: tuple[float, tuple[float, float]]) -> TrialRecord:
    """A trial that was swept: its points by weight, with their values."""
    names = ("iid/ndcg_at_20", "ood/ndcg_at_20")
    found = tuple(
        SweptPoint(values={WEIGHT: weight}, metrics=dict(zip(names, values, strict=True)))
        for weight, values in points
    )
    outcome = Completed(metrics=found[0].metrics, points=found)
    return replace(
        record,
        outcome=outcome,
        points=tuple(
            replace(
                record,
                place=place,
                point={**record.point, **one.values},
                values=tuple(one.metrics.values()),
                outcome=Completed(metrics=one.metrics),
            )
            for place, one in enumerate(found)
        ),
    )


def test_the_points_of_a_trial_are_candidates_of_their_own_and_share_its_configuration(plane: Plane) -> None:
    shelf = plane((0.3, 0.1), (0.2, 0.2))
    trial = swept(shelf.records[1], (0.0, (0.2, 0.2)), (-0.1, (0.1, 0.3)), (-0.2, (0.05, 0.1)))
    front, dominated = candidates_of(replace(shelf, records=(shelf.records[0], trial)))
    assert [(one.name, one.trial, one.place) for one in front] == [
        ("0", 0, None),
        ("1.0", 1, 0),
        ("1.1", 1, 1),
    ]
    assert [(one.name, one.first) for one in dominated] == [("1.2", (0.05, 0.1))]
    assert front[0].at == ()
    for one in (*front[1:], *dominated):
        assert one.at == ({WEIGHT: 0.0}, {WEIGHT: -0.1}, {WEIGHT: -0.2})
        assert one.config == shelf.config_of(trial)
        assert one.config.fusion.popularity_weight == shelf.config.fusion.popularity_weight
        assert trial.outcome is not None
        assert isinstance(trial.outcome, Completed)
        assert one.metrics_in(trial.outcome) == dict(zip(shelf.objectives, one.first, strict=True))


def test_points_of_one_full_configuration_are_one_candidate(plane: Plane) -> None:
    shelf = plane((0.3, 0.1), (0.2, 0.2), (0.1, 0.3))
    # The second trial has turned before training what the third sweeps after it.
    point = {**shelf.records[2].point, WEIGHT: -0.1}
    again = (-0.2, (0.2, 0.2)), (-0.1, (0.2, 0.2)), (-0.2, (0.2, 0.2))
    records = (shelf.records[0], replace(shelf.records[1], point=point), swept(shelf.records[2], *again))
    front, dominated = candidates_of(replace(shelf, records=records))
    assert [(one.name, one.also) for one in front] == [("0", ()), ("1", ("2.1",)), ("2.0", ("2.2",))]
    assert dominated == ()


def made(config: Any, *points: tuple[float, float]) -> list[Candidate]:
    return [Candidate(trial=place, config=config, first=point) for place, point in enumerate(points)]


def runs_with_spread(size: float, candidates: int = 2) -> np.ndarray:
    """Two seeds under which each candidate's differences move by ``size``, in both objectives."""
    moves = np.linspace(-size, size, candidates)[:, None] * np.array([0.5, -0.5])
    return np.repeat(moves[:, :, None], 2, axis=2)


def test_dominated_trials_within_two_spreads_join_nearest_first(tiny_config: Any) -> None:
    front = made(tiny_config, (1.0, 0.0), (0.0, 1.0))
    # The residuals are +-0.05 with one degree of freedom: variance 0.01, of a difference 0.02.
    runs = runs_with_spread(0.1)
    spread = np.sqrt(0.02)
    others = made(
        tiny_config,
        (1 - 1.9 * spread, -1.0),
        (1 - 2.1 * spread, -1.0),
        (-1.0, 1 - 0.5 * spread),
    )
    near, left_out = near_the_front(front, runs, others)
    assert [one.first for one in near] == [others[2].first, others[0].first]
    assert left_out == 0


def test_more_trials_than_are_allowed_are_left_out_and_counted(tiny_config: Any) -> None:
    front = made(tiny_config, (1.0, 1.0), (0.0, 2.0))
    others = made(tiny_config, *((1 - place / 1000, 1.0) for place in range(1, FEW + 4)))
    near, left_out = near_the_front(front, runs_with_spread(0.1), others)
    assert [one.trial for one in near] == [0, 1, 2, 3]
    assert left_out == 3
    larger = made(tiny_config, *((place / 10, 1 - place / 10) for place in range(6)))
    near, left_out = near_the_front(larger, runs_with_spread(9.0, 6), others)
    assert (len(near), left_out) == (6, 1)


def test_beside_a_single_trial_its_own_spread_counts(tiny_config: Any) -> None:
    front = made(tiny_config, (1.0, 1.0))
    runs = np.array([[[1.0, 1.0], [1.2, 1.0]]])  # deviation sqrt(0.02), of a difference 0.2
    near, _ = near_the_front(front, runs, made(tiny_config, (0.61, 0.5), (0.59, 0.5)))
    assert [one.trial for one in near] == [0]
    assert near_the_front(front, runs, []) == ((), 0)


def of_training(config: Any, trial: int, *points: tuple[float, float]) -> list[Candidate]:
    return [
        Candidate(trial=trial, place=place, config=config, first=point) for place, point in enumerate(points)
    ]


def test_beside_a_single_training_the_spread_of_its_points_counts(tiny_config: Any) -> None:
    front = of_training(tiny_config, 0, (1.0, 1.0), (0.5, 1.5))
    together = np.array([[[1.0, 1.0], [1.2, 1.0]], [[0.5, 1.5], [0.7, 1.5]]])  # of a difference 0.2
    others = of_training(tiny_config, 1, (0.61, 0.5), (0.59, 0.5))
    near, _ = near_the_front(front, together, others)
    assert [one.name for one in near] == ["1.0"]
    several = [front[0], replace(front[1], trial=2)]  # whose difference does not move at all
    assert near_the_front(several, together, others) == ((), 0)


def test_the_nearest_of_every_training_join_first(tiny_config: Any) -> None:
    front = of_training(tiny_config, 0, (1.0, 1.0))
    crowd = of_training(tiny_config, 1, *((1 - place / 1000, 0.9) for place in range(1, FEW + 2)))
    others = [*crowd, *of_training(tiny_config, 2, (0.98, 0.9), (0.97, 0.9))]
    near, left_out = near_the_front(front, np.array([[[1.0, 1.0], [1.2, 1.0]]]), others)
    assert [one.name for one in near] == ["1.0", "2.0", "1.1", "2.1"]
    assert left_out == 3


def test_a_front_counts_for_as_many_as_it_has_trainings(tiny_config: Any) -> None:
    line = [(place / 10, 1 - place / 10) for place in range(6)]
    crowd = made(tiny_config, *((0.5 - place / 1000, 0.5) for place in range(1, 9)))
    others = [replace(one, trial=one.trial + 10) for one in crowd]
    runs = runs_with_spread(9.0, 6)
    assert len(near_the_front(of_training(tiny_config, 0, *line), runs, others)[0]) == FEW
    assert len(near_the_front(made(tiny_config, *line), runs, others)[0]) == 6
