"""How much of a front is luck, on points whose true values are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from painvrl.engine.user_values import UserStore
from painvrl.evaluation.user_values import UserValues
from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.page.luck import Luck, halved, luck

if TYPE_CHECKING:
    from collections.abc import Callable

    from painvrl.study.page.trials import Trials
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


def test_every_user_is_in_one_half_whatever_the_parts() -> None:
    rng = np.random.default_rng(0)
    points = measured(np.zeros((1, 2)), 1.0, rng)
    same = points[0].values[IID][50]  # the user 50, of both parts
    only = {
        IID: np.where(IID_USERS == 50, same, 0).astype(np.float32),
        OOD: np.where(OOD_USERS == 50, same, 0).astype(np.float32),
    }
    found = halved([UserValues(users=points[0].users, values=only)], OBJECTIVES, 40)
    assert not isinstance(found, str)
    one, other = found
    assert ((one != 0) == (other == 0)).all()  # in exactly one half
    assert ((one[:, :, 0] != 0) == (one[:, :, 1] != 0)).all()  # and in the same one of both parts
    assert 0 < (one != 0).mean() < 1


def test_the_halves_make_up_the_whole() -> None:
    users = {"iid": np.arange(40)}
    values = {IID: np.random.default_rng(1).random(40).astype(np.float32)}
    found = halved([UserValues(users=users, values=values)], (IID,), 30)
    assert not isinstance(found, str)
    np.testing.assert_allclose((found[0] + found[1]) / 2, values[IID].mean(), rtol=1e-5)


def test_a_mean_over_parts_is_halved_as_the_mean_of_its_parts() -> None:
    users = {"pop": np.arange(30), "era": np.arange(30)}
    rng = np.random.default_rng(2)
    values = {f"{part}/ndcg_at_20": rng.random(30).astype(np.float32) for part in users}
    whole = UserValues(users=users, values=values, means={"ood": ("pop", "era")})
    found, parts = halved([whole], (OOD,), 5), halved([whole], tuple(values), 5)
    assert not isinstance(found, str)
    assert not isinstance(parts, str)
    np.testing.assert_allclose(found[0][:, :, 0], parts[0].mean(axis=2))


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


def test_a_part_of_few_users_is_not_halved() -> None:
    few = UserValues(users={"iid": np.arange(12)}, values={IID: np.zeros(12, dtype=np.float32)})
    assert "the part iid has fewer than 20 users" in str(halved([few], (IID,), 3))


def test_points_of_different_users_are_not_compared() -> None:
    one, other = (
        UserValues(users={"iid": np.arange(start, start + 30)}, values={IID: np.ones(30, dtype=np.float32)})
        for start in (0, 5)
    )
    assert halved([one, other], (IID,), 3) == "not all of them were judged by the same users"
