"""How much of a front is luck, on points whose true values are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from painvrl.engine.user_value_store import UserStore
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.report.luck import Luck, luck

if TYPE_CHECKING:
    from collections.abc import Callable

    from painvrl.study.report.trials import Trials
    from painvrl.study.store.records import TrialRecord

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"
OBJECTIVES = (IID, OOD)
IID_USERS, OOD_USERS = np.arange(0, 90), np.arange(40, 100)


def measured(truths: np.ndarray, noise: float, rng: np.random.Generator) -> list[UserValues]:
    """What users get from points of these true values ``[N, 2]``."""
    return [
        UserValues(
            users={"iid": IID_USERS, "ood": OOD_USERS},
            values={
                name: (truth + noise * rng.standard_normal(len(users))).astype(np.float32)
                for name, truth, users in zip(
                    OBJECTIVES, truths_of_point, (IID_USERS, OOD_USERS), strict=True
                )
            },
        )
        for truths_of_point in truths
    ]


def of(
    points: Sequence[UserValues],
    folder: Path,
    make: Callable[..., TrialRecord],
    trials: Callable[..., Trials],
) -> Luck:
    """The luck of a study of these points, one a trial, that has come to their means."""
    store = UserStore(folder)
    records = []
    for number, point in enumerate(points):
        store.store(number, point)
        means = tuple(float(point.values[name].mean(dtype=np.float64)) for name in OBJECTIVES)
        records.append(make(number, means))
    return luck(trials(*records), store)


def test_where_all_users_get_the_same_nothing_is_luck(
    tmp_path: Path, record: Callable[..., TrialRecord], trials: Callable[..., Trials]
) -> None:
    truths = np.array([[0.4, 0.1], [0.3, 0.2], [0.1, 0.3], [0.1, 0.1]])
    found = of(measured(truths, 0.0, np.random.default_rng(0)), tmp_path, record, trials)
    assert (found.points, found.note) == (4, None)
    assert (found.front, found.survivors) == (3, 3)
    assert found.chosen == pytest.approx(hypervolume(truths))
    assert found.lost == pytest.approx(0, abs=1e-12)
    assert [(best.objective, best.chosen, best.fresh) for best in found.best] == [
        (IID, pytest.approx(0.4), pytest.approx(0.4)),
        (OOD, pytest.approx(0.3), pytest.approx(0.3)),
    ]


def test_where_all_points_are_equal_what_was_won_by_luck_is_lost(
    tmp_path: Path, record: Callable[..., TrialRecord], trials: Callable[..., Trials]
) -> None:
    truths = np.full((60, 2), 0.5)
    found = [
        of(measured(truths, 0.3, np.random.default_rng(seed)), tmp_path / str(seed), record, trials)
        for seed in range(8)
    ]
    assert np.mean([one.lost for one in found]) > 0.1
    assert np.mean([one.survivors / one.front for one in found]) < 0.6
    for column in range(2):
        assert np.mean([one.best[column].chosen for one in found]) > 0.58
        assert np.mean([one.best[column].fresh for one in found]) == pytest.approx(0.5, abs=0.02)


def test_with_all_users_a_front_is_lucky_but_less_than_with_half_of_them(
    tmp_path: Path, record: Callable[..., TrialRecord], trials: Callable[..., Trials]
) -> None:
    """Against fresh users, of whom a real study has none."""
    by_halves, real = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        angle = rng.random(40) * np.pi / 2
        truths = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.8, 1.0, size=(40, 1))
        points, fresh = (measured(truths, 0.5, rng) for _ in range(2))
        by_halves.append(of(points, tmp_path / str(seed), record, trials).lost)
        here, there = (
            np.array([[point.values[name].mean() for name in OBJECTIVES] for point in each])
            for each in (points, fresh)
        )
        front = non_dominated(here)
        real.append(1 - hypervolume(there[front]) / hypervolume(here[front]))
    assert 0 < np.mean(real) < np.mean(by_halves) < 3 * np.mean(real)


def test_without_the_users_of_a_point_there_are_no_figures(
    tmp_path: Path, record: Callable[..., TrialRecord], trials: Callable[..., Trials]
) -> None:
    found = luck(trials(record(0), record(1)), UserStore(tmp_path))
    assert (found.points, found.lost) == (2, 0)
    assert "is not kept of all of them" in (found.note or "")
