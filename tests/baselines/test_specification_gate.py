"""The gate's ranking against a loop, its verdict on shifts whose answer is known, and its size."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.baselines import specification_gate as module
from painvrl.baselines.specification_gate import Gate, specification_gate, under_seeds
from painvrl.core.errors import ConfigError
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.run.config import TrainConfig
from painvrl.stats.intervals import Interval

SMALL = {"kind": "planted", "n_users": 150, "n_items": 160, "interactions_per_environment": 12}


MEDIUM = {"kind": "planted", "n_users": 400, "n_items": 500, "interactions_per_environment": 30}


def asked(tmp_path: Path, seeds: int = 1, data: dict[str, Any] = MEDIUM, **settings: Any) -> Gate:
    config = TrainConfig.model_validate({"data": data} | settings)
    return specification_gate(under_seeds(config, seeds, tmp_path), seed=config.seed)


def test_a_positives_gain_is_what_a_loop_over_the_items_gives() -> None:
    rng = torch.Generator().manual_seed(0)
    n_users, n_items = 7, 60
    kind = torch.rand(n_users, n_items, generator=rng)
    taken, positive = (
        (kind < 0.2).nonzero(as_tuple=True),
        ((kind > 0.7) & (kind < 0.9)).nonzero(as_tuple=True),
    )
    fitted, rows = (
        Interactions(user=user, item=item, n_users=n_users, n_items=n_items)
        for user, item in (taken, positive)
    )
    candidates = torch.zeros(n_items, dtype=torch.bool)
    candidates[rows.item] = True
    users = torch.tensor([0, 2, 3, 5, 6])
    one = module.Asked(Part(name="ood", interactions=rows, candidates=candidates), fitted, users, 0)
    scores = torch.randn(len(users), n_items, generator=rng, dtype=torch.float64)
    found = dict(zip(zip(one.user.tolist(), one.item.tolist(), strict=True), one.gains(scores), strict=True))
    for row, user in enumerate(users.tolist()):
        own = rows.item[rows.user == user].tolist()
        hidden = set(fitted.item[fitted.user == user].tolist())
        listed = [
            item
            for item in scores[row].argsort(descending=True).tolist()
            if bool(candidates[item]) and item not in hidden
        ]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(20, len(own))))
        for item in own:
            place = listed.index(item)
            expected = 1 / math.log2(place + 2) / ideal if place < 20 else 0.0
            assert found[user, item] == pytest.approx(expected), (user, item)
    assert len(found) == sum(int((rows.user == user).sum()) for user in users.tolist())


def test_equal_scores_are_told_apart_by_a_lot() -> None:
    """A subset that says nothing must not put every positive first, nor last."""
    rows = Interactions(user=torch.zeros(40).long(), item=torch.arange(40), n_users=1, n_items=80)
    fitted = Interactions(user=torch.tensor([0]), item=torch.tensor([79]), n_users=1, n_items=80)
    part = Part(name="ood", interactions=rows, candidates=torch.ones(80, dtype=torch.bool))
    for score in (0.0, 1.0):
        scores = torch.full((1, 80), score, dtype=torch.float64)
        gains = module.Asked(part, fitted, torch.tensor([0]), 0).gains(scores)
        assert 0.2 < gains.sum() < 0.8


def test_users_that_train_does_not_have_cannot_be_asked(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({"data": SMALL, "split": {"protocol": "planted"}})
    (prepared,) = under_seeds(config, 1, tmp_path)
    part = prepared.split.ood_valid
    new = part.interactions.select(part.interactions.user < 5)
    valid = {**prepared.split.valid, "ood": replace(part, interactions=new)}
    known = prepared.train.select(prepared.train.user >= 5)
    without = replace(prepared, train=known, split=replace(prepared.split, valid=valid))
    with pytest.raises(ConfigError, match="ood_valid has none of them"):
        specification_gate([without])


def test_what_is_not_asked_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig.model_validate({"data": SMALL, "split": {"protocol": "planted"}})
    (prepared,) = under_seeds(config, 1, tmp_path)
    assert specification_gate([prepared], draws=5).left_out == ()
    known = prepared.train.select(prepared.train.user >= 5)
    without = replace(prepared, train=known)
    asked_of = [prepared.split.iid_valid.interactions, prepared.split.ood_valid.interactions]
    users = {user for rows in asked_of for user in rows.user.tolist()}
    few = sum(user < 5 for user in users)
    assert few
    said = f"{few} of {len(users)} users, who have no row that is fitted"
    assert specification_gate([without], draws=5).left_out == (said,)
    monkeypatch.setattr(module, "MAX_CELLS", 40 * 160)
    gate = specification_gate([without], draws=5)
    drawn = len(users) - few
    assert gate.left_out == (said, f"{drawn - 40} of {drawn} users at random: all would be too many scores")
    lines = [str(block) for block in gate.blocks()]
    assert lines[-2:] == [f"left out by the gate: {one}" for one in gate.left_out]
    assert gate.as_dict()["left_out"] == list(gate.left_out)


def test_rows_of_items_that_train_has_are_counted_where_ood_items_are_new(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({"data": SMALL, "split": {"protocol": "cold_item"}})
    (prepared,) = under_seeds(config, 1, tmp_path)
    part = prepared.split.ood_valid
    warm = prepared.train.select(torch.arange(len(prepared.train)) < 7)
    rows = Interactions(
        user=torch.cat([part.interactions.user, warm.user]),
        item=torch.cat([part.interactions.item, warm.item]),
        n_users=warm.n_users,
        n_items=warm.n_items,
    )
    valid = {**prepared.split.valid, "ood": replace(part, interactions=rows)}
    mixed = replace(prepared, split=replace(prepared.split, valid=valid))
    gate = specification_gate([mixed], draws=5)
    assert gate.cold
    assert f"7 of {len(rows)} rows of ood_valid, of items that train has" in gate.left_out


@pytest.mark.slow
def test_a_planted_shift_can_pay(tmp_path: Path) -> None:
    gate = asked(tmp_path, seeds=2, split={"protocol": "planted"})
    assert gate.can_pay
    assert not gate.cold
    assert gate.correlation < 0
    assert "a mask can pay" in gate.verdict


def test_items_held_out_at_random_cannot(tmp_path: Path) -> None:
    gate = asked(tmp_path, split={"protocol": "cold_item"})
    assert gate.cold
    assert not gate.can_pay
    assert gate.correlation > 0.5


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.2, "a mask can pay"), (-0.001, 0.009, "no sign that"), (-0.001, 0.02, "too few data to say")],
)
def test_too_few_data_are_told_from_a_no(low: float, high: float, said: str) -> None:
    gate = module.Gate(
        subsets=(("text",), ("tags",)),
        iid=np.array([0.2, 0.1]),
        ood=np.array([0.1, 0.1]),
        correlation=0.0,
        regret=Interval(mean=0.0, low=low, high=high),
        chosen_by_iid=0,
        cold=False,
    )
    assert gate.verdict.startswith(said)
    assert any("not comparable with its NDCG" in str(block) for block in gate.blocks())


@pytest.mark.slow
def test_with_random_groups_as_ood_it_says_so_in_at_most_5_of_100_draws(tmp_path: Path) -> None:
    config = TrainConfig.model_validate({"data": SMALL, "split": {"protocol": "cold_item"}})
    said = 0
    for seed in range(100):
        (prepared,) = under_seeds(config.model_copy(update={"seed": seed}), 1, tmp_path)
        said += specification_gate([prepared], seed=seed, draws=200).can_pay
    assert said <= 5


def test_all_subsets_of_few_modalities_and_random_ones_of_many() -> None:
    assert len(module._subsets(["a", "b", "c"], 0)) == 7
    many = module._subsets([str(index) for index in range(9)], 0)
    assert len(set(many)) == len(many) == 30
    assert tuple(str(index) for index in range(9)) in many
    assert all(many)


def test_a_single_modality_is_cut_in_groups_of_columns_that_cover_it() -> None:
    def groups_of(**widths: int) -> dict[str, torch.Tensor]:
        return module._groups(module._columns_of(widths), 0)

    assert sorted(torch.cat(list(groups_of(only=13).values())).tolist()) == list(range(13))
    assert [part.tolist() for part in groups_of(a=2, b=1).values()] == [[0, 1], [2]]
    with pytest.raises(ConfigError, match="at least 2 features"):
        groups_of(only=1)


def test_seeds_may_have_other_numbers_of_smooth_columns(tmp_path: Path) -> None:
    """They span the years of the train items, which a seed draws."""
    content = {"data": SMALL, "split": {"protocol": "cold_item"}}
    (prepared,) = under_seeds(TrainConfig.model_validate(content), 1, tmp_path)
    narrow, wide = (
        replace(prepared, features=torch.rand(prepared.train.n_items, 5 + more), widths={"a": 5, "b": more})
        for more in (2, 4)
    )
    for seeds in ([narrow, wide], [wide, narrow]):
        assert specification_gate(seeds, draws=20).subsets == (("a", "b"), ("a",), ("b",))


def test_a_modality_of_scale_zero_is_not_asked(tmp_path: Path) -> None:
    def asked(scale: float) -> module.Gate:
        features = {"decoys": {"noise": 3}, "scales": {"noise": scale}}
        content = {"data": SMALL, "split": {"protocol": "cold_item"}, "features": features}
        return specification_gate(under_seeds(TrainConfig.model_validate(content), 1, tmp_path), draws=20)

    named = [{one for names in asked(scale).subsets for one in names} for scale in (1.0, 0.0)]
    assert ["noise" in names for names in named] == [True, False]


def test_regret_is_nothing_where_one_subset_is_best_for_everybody() -> None:
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 20, 200), rng.integers(0, 30, 200)
    best = rng.random(200)
    gains = module._Gains(user=user, item=item, gain=np.stack([best, best / 2, best / 3]))
    assert np.allclose(module._regrets(gains, gains, 50, rng), 0.0)
    turned = module._Gains(user=user, item=item, gain=gains.gain[::-1])
    regrets = module._regrets(gains, turned, 50, rng)
    assert regrets[0] == pytest.approx(gains.gain.sum(axis=1)[0] / 20 * (1 - 1 / 3))
    assert (regrets > 0).all()


def test_the_answer_is_said_in_words_and_figures(tmp_path: Path) -> None:
    gate = asked(tmp_path, data=SMALL, split={"protocol": "cold_item"})
    _, line, _ = gate.blocks()
    assert "it reads held-out train items and ood_valid, and sets nothing" in str(line)
    assert gate.as_dict()["reads"] == ["train", "ood_valid"]
    assert len(gate.as_dict()["subsets"]) == len(gate.subsets)  # type: ignore[arg-type]
