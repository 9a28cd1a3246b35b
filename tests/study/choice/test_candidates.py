from __future__ import annotations

import numpy as np
import pytest

from painvrl.study.choice.candidates import Candidates, scaled

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"


def candidates(*points: tuple[float, ...], names: tuple[str, ...] = (IID, OOD)) -> Candidates:
    return Candidates(values=np.array(points, dtype=float), objectives=names)


def test_the_plane_is_that_of_the_axes_wherever_they_stand() -> None:
    plane = candidates((0.1, 0.2, 0.3), names=("ood/recall_at_5", "iid/recall_at_5", OOD)).plane
    assert plane is not None
    assert plane.names == ("iid/recall_at_5", OOD)
    assert (plane.iid.tolist(), plane.ood.tolist()) == ([0.2], [0.3])
    assert candidates((0.1,), names=(IID,)).plane is None
    assert candidates((0.1,), names=("ood_far/ndcg_at_20",)).plane is None


def test_ties_go_by_what_is_given_then_the_axes_then_all_objectives_then_the_first() -> None:
    score = np.ones(3)
    several = candidates((0.2, 0.1), (0.1, 0.2), (0.2, 0.1))
    assert several.best(score) == 0, "the better IID, and of equal trials the first"
    assert several.best(score, several.column(OOD)) == 1
    assert candidates((0.1, 0.2), (0.2, 0.1), names=(OOD, IID)).best(np.ones(2)) == 0, (
        "IID, wherever it stands"
    )
    names = ("ood/recall_at_5", IID, OOD)
    assert candidates((0.1, 0.2, 0.2), (0.3, 0.2, 0.2), names=names).best(np.ones(2)) == 1


def test_a_tie_is_as_wide_as_it_is_said_to_be() -> None:
    two = candidates((0.1, 0.2), (0.2, 0.1))
    score = np.array([1.0, 0.9])
    assert (two.best(score), two.best(score, tie=0.2), two.best(score, tie=0.05)) == (0, 1, 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (0.3, 0.1),
            "iid/ndcg_at_20 0.3000 (the best), ood/ndcg_at_20 0.1000 (50.0% below the best, 0.2000)",
        ),
        ((0.4, 0.2), "iid/ndcg_at_20 0.4000 (above the front), ood/ndcg_at_20 0.2000 (the best)"),
    ],
)
def test_a_trial_is_set_against_the_best_of_the_front(values: tuple[float, float], said: str) -> None:
    assert candidates((0.3, 0.1), (0.15, 0.2)).against_the_best(values) == said


def test_a_column_is_scaled_to_the_unit_interval_or_to_zeros() -> None:
    assert scaled(np.array([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert scaled(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]
