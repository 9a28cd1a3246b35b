"""The table of arms: its grids, its bootstrap, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from benchmarks.invariance import Gains

NAMES = ("text", "genres", "year", "decoy")


def some_gains(seed: int, models: int = 1) -> list[Gains]:
    """Positives of 30 users, who differ from seed to seed, and of 20 items."""
    from benchmarks.invariance import Gains

    rng = np.random.default_rng(seed)
    user, item = np.sort(rng.integers(30, size=200)), rng.integers(20, size=200)
    return [Gains(user=user, item=item, gain=rng.random(200).astype(np.float32)) for _ in range(models)]


@pytest.mark.parametrize("name", ["wrong-text", "wrong-genres", "control"])
def test_every_point_of_every_arm_is_a_configuration_of_its_own(name: str) -> None:
    from benchmarks.common import config
    from benchmarks.invariance import STUDIES, arms_of, base_of

    study = STUDIES[name]
    base = base_of(study, 0)
    arms = arms_of(study, NAMES, 0.25, 2)
    assert len(arms) == 14
    points = {arm: [config(base, change) for change in changes] for arm, changes in arms.items()}
    for arm, found in points.items():
        assert len({one.fingerprint() for one in found}) == len(found), arm
        assert {one.backbone.l2 for one in found} == {0.1, 0.3}, arm
        assert all(one.evaluation.loeo for one in found), arm
    assert len(points["loeo-subset"]) == 2 * 15
    assert {one.mask.sparsity for one in points["known"]} == {0.0, 0.25}
    assert all(one.features.scales == {study.closed: 0.0} for one in points["oracle"])
    assert {one.environments.start for one in points["inferred-from-batches"]} == {"column"}


def test_the_first_row_is_the_mean_over_users_and_then_over_seeds() -> None:
    from benchmarks.invariance import drawn_means

    seeds = [some_gains(seed, models=2) for seed in range(3)]
    found = drawn_means(seeds, 10, np.random.default_rng(0))
    for model in range(2):
        expected = []
        for gains in seeds:
            of_user: dict[int, float] = {}
            for user, gain in zip(gains[model].user, gains[model].gain, strict=True):
                of_user[int(user)] = of_user.get(int(user), 0.0) + float(gain)
            expected.append(sum(of_user.values()) / len(of_user))
            assert gains[model].mean() == pytest.approx(expected[-1], rel=1e-5)
        assert found[0, model] == pytest.approx(np.mean(expected), rel=1e-5)


def test_draws_vary_with_seeds_users_and_items_and_share_them_between_models() -> None:
    from benchmarks.invariance import Gains, drawn_means

    (one,) = some_gains(0)
    twins = drawn_means([[one, one]], 300, np.random.default_rng(0))
    assert np.array_equal(twins[:, 0], twins[:, 1])
    spread = twins[1:, 0].std()
    assert spread > 0
    # All gains on one item: its weight multiplies every draw, which then spreads as the weight does.
    single = Gains(user=one.user, item=np.zeros_like(one.item), gain=one.gain)
    alone = drawn_means([[single]], 300, np.random.default_rng(0))[1:, 0]
    assert alone.std() / alone.mean() > 0.8
    assert spread / twins[1:, 0].mean() < 0.5
    # One of two seeds got nothing: a draw in four has that one twice.
    nothing = Gains(user=one.user, item=one.item, gain=0 * one.gain)
    both = drawn_means([[one], [nothing]], 400, np.random.default_rng(0))[1:, 0]
    assert np.mean(both == 0) == pytest.approx(0.25, abs=0.08)


def test_levels_by_holm_are_bonferronis_for_the_smallest_and_plain_for_the_largest() -> None:
    from benchmarks.invariance import holm_levels

    assert holm_levels([0.2, 0.001, 0.03]) == pytest.approx([0.95, 1 - 0.05 / 3, 1 - 0.05 / 2])
    assert holm_levels([0.4]) == pytest.approx([0.95])


def test_what_is_kept_is_not_trained_again_and_test_parts_are_read_for_chosen_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import invariance
    from benchmarks.invariance import STUDIES, Kept, Seed, arms_of, base_of, measure
    from painvrl.data.guard import AccessLog

    trained: list[tuple[float, bool]] = []

    def train(
        self: Seed, settings: Any, test: AccessLog | None
    ) -> tuple[dict[str, Any], Mapping[str, Gains]]:
        trained.append((settings.backbone.l2, test is not None))
        value = settings.backbone.l2
        metrics = {"loeo/ndcg_at_20": value, "iid/ndcg_at_20": -value, "ood/ndcg_at_20": 0.5}
        gains = {"iid": some_gains(1)[0], "ood": some_gains(2)[0]}
        return {"metrics": metrics, "mask": [1.0], "seconds": 1.0}, gains

    monkeypatch.setattr(invariance.Seed, "train", train)
    study = STUDIES["wrong-text"]
    base = base_of(study, 0)
    arms = {"all": arms_of(study, NAMES, 0.25, 2)["all"]}

    def again(test: AccessLog | None) -> dict[str, dict[str, str]]:
        return measure(Kept(tmp_path), Seed(study, base, 0), 0, arms, test)

    picked = again(None)
    assert trained == [(0.1, False), (0.3, False)]
    rows = Kept(tmp_path).rows
    assert rows[picked["all"]["loeo"]]["change"]["backbone"]["l2"] == 0.3
    assert rows[picked["all"]["iid"]]["change"]["backbone"]["l2"] == 0.1
    assert again(None) == picked
    assert len(trained) == 2
    sealed = again(AccessLog(tmp_path / "access.jsonl"))
    assert trained[2:] == [(0.3, True), (0.1, True)]
    assert again(AccessLog(tmp_path / "access.jsonl")) == sealed
    assert len(trained) == 4
    assert Kept(tmp_path).gains(sealed["all"]["iid"], "ood").mean() == some_gains(2)[0].mean()
