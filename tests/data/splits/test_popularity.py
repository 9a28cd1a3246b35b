from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.splits import PopularitySplit, make_split


def test_popularity_ood_is_its_share_and_train_keeps_the_core(make_dataset, parts_of):
    sparse = make_dataset(n_users=150, n_items=60, n_rows=700)  # the core is half of it
    data = sparse.interactions
    for seed in range(5):
        parts = parts_of(make_split(sparse, PopularitySplit(ood_share=0.25), seed=seed))
        assert len(parts["ood_valid"]) == 175 // 2
        assert len(parts["ood_test"]) == 175 - 175 // 2
        train = parts["train"]
        assert (train.user_degree() >= data.user_degree().clamp(max=2)).all()
        assert (train.item_degree() >= data.item_degree().clamp(max=1)).all()


def test_the_popularity_shift_grows_with_gamma(make_dataset):
    dataset = make_dataset(n_users=200, n_items=150, n_rows=6000)
    means = []
    for gamma in (0.0, 0.5, 1.0, 2.0):
        splits = make_split(dataset, PopularitySplit(gamma=gamma), seed=0).statistics.parts
        popularity = {part.name: part.mean_popularity for part in splits}
        means.append(popularity["ood_valid"])
        if gamma == 0:
            assert popularity["ood_valid"] == pytest.approx(popularity["iid_valid"], rel=0.05)
        else:
            assert popularity["ood_valid"] < 0.9 * popularity["iid_valid"]
            assert popularity["ood_test"] == pytest.approx(popularity["ood_valid"], rel=0.15)
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.5 * means[0]


def test_popularity_draws_items_with_weight_one_over_their_count(make_dataset):
    """With gamma 1 every item has, at a small share, the same chance to lose a row to OOD."""
    dataset = make_dataset(n_users=150, n_items=40, n_rows=1500)
    total = torch.zeros(40)
    for seed in range(150):
        split = make_split(dataset, PopularitySplit(ood_share=0.0134, iid_share=0.01), seed=seed)
        drawn = split.ood_valid.interactions.item
        total += torch.bincount(drawn, minlength=40)
    popular, rare = total[:10].sum(), total[10:20].sum()
    # 10 drawn in each of 150 splits, a quarter of them in each of these groups.
    assert total.sum() == 1500
    assert abs(popular - 375) < 5 * (1500 * 0.25 * 0.75) ** 0.5
    assert abs(rare - 375) < 5 * (1500 * 0.25 * 0.75) ** 0.5


def test_popularity_says_how_much_the_core_leaves(make_dataset):
    sparse = make_dataset(n_users=100, n_items=80, n_rows=220)
    with pytest.raises(ConfigError, match=r"split: .*lower the shares \(found '\d+ of 220'\)"):
        make_split(sparse, PopularitySplit(ood_share=0.5, iid_share=0.4), seed=0)


def test_graded_parts_share_the_ood_rows_and_shift_with_their_gamma(make_dataset, parts_of):
    dataset = make_dataset(n_users=200, n_items=150, n_rows=6000)
    gammas = (0.0, 0.5, 1.0, 2.0)
    split = make_split(dataset, PopularitySplit(gamma=gammas, ood_share=0.31), seed=0)
    parts = parts_of(split)
    names = [f"ood_gamma_{gamma:g}" for gamma in gammas]
    sizes = [len(parts[f"{name}_valid"]) + len(parts[f"{name}_test"]) for name in names]
    assert sum(sizes) == round(0.31 * 6000)
    assert max(sizes) - min(sizes) <= 1
    popularity = {part.name: part.mean_popularity for part in split.statistics.parts}
    flat = make_split(dataset, PopularitySplit(gamma=0.0), seed=0).statistics.parts
    flat_popularity = {part.name: part.mean_popularity for part in flat}
    for stage in ("valid", "test"):
        means = [popularity[f"{name}_{stage}"] for name in names]
        assert means == sorted(means, reverse=True)
        assert means[0] == pytest.approx(flat_popularity[f"ood_{stage}"], rel=0.1)
        assert means[-1] < 0.6 * means[0]


def test_a_list_with_one_gamma_takes_as_many_rows_as_the_number(make_dataset, parts_of):
    dataset = make_dataset()
    one = parts_of(make_split(dataset, PopularitySplit(gamma=1.0), seed=0))
    listed = parts_of(make_split(dataset, PopularitySplit(gamma=(1.0,)), seed=0))
    assert len(listed["ood_gamma_1_valid"]) == len(one["ood_valid"])
    assert len(listed["train"]) == len(one["train"])


@pytest.mark.parametrize("gamma", [[], [1.0, 1.0], [2.0, 1.0]])
def test_gammas_that_do_not_rise_are_refused(gamma):
    with pytest.raises(ValidationError, match="a list of gammas must rise"):
        PopularitySplit(gamma=gamma)


def test_gammas_whose_parts_would_have_one_name_are_refused():
    with pytest.raises(ValidationError, match=r"differ in the six digits .*1\.0000001.*ood_gamma_1, ood"):
        PopularitySplit(gamma=[1.0, 1.0000001])
    assert PopularitySplit(gamma=[1.0, 1.00001]).ood_names() == ("ood_gamma_1", "ood_gamma_1.00001")


@pytest.mark.parametrize("gamma", [-1, 11, [0.0, 11]])
def test_gammas_out_of_range_are_refused(gamma):
    with pytest.raises(ValidationError, match="than or equal to"):
        PopularitySplit(gamma=gamma)
