from __future__ import annotations

import dataclasses

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from painvrl.data.dataset import Dataset, Modality
from painvrl.data.interactions import Interactions
from painvrl.data.seal import SealLedger
from painvrl.data.sources.planted import PlantedConfig, read_planted
from painvrl.data.splits import ColdItemSplit, PlantedSplit, PopularitySplit, Split, SplitConfig, make_split
from painvrl.errors import ConfigError

CONFIGS = [PopularitySplit(), ColdItemSplit(), PlantedSplit()]
PROTOCOLS = pytest.mark.parametrize("config", CONFIGS, ids=[config.protocol for config in CONFIGS])


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    return make_dataset(planted_share=0.3)


@pytest.fixture
def parts_of(tmp_path):
    """The five parts of a split as Interactions by name."""

    def open_parts(split: Split) -> dict[str, Interactions]:
        test = split.sealed.open(SealLedger(tmp_path / "reads.jsonl"), "a test of the split")
        return {
            "train": split.train,
            "iid_valid": split.iid_valid.interactions,
            "iid_test": test.iid_test.interactions,
            "ood_valid": split.ood_valid.interactions,
            "ood_test": test.ood_test.interactions,
        }

    return open_parts


def pairs(interactions: Interactions) -> list[tuple[int, int]]:
    return list(zip(interactions.user.tolist(), interactions.item.tolist(), strict=True))


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    order = torch.randperm(len(dataset.interactions), generator=torch.Generator().manual_seed(seed))
    truth = dataset.truth
    return dataclasses.replace(
        dataset,
        interactions=dataset.interactions.select(order),
        truth=truth
        and dataclasses.replace(truth, part=truth.part[order], environment=truth.environment[order]),
    )


@PROTOCOLS
def test_parts_are_disjoint_and_cover_all_but_dropped_users(config, dataset, parts_of):
    split = make_split(dataset, config, seed=3)
    rows = [pair for part in parts_of(split).values() for pair in pairs(part)]
    assert len(rows) == len(set(rows))
    everything = set(pairs(dataset.interactions))
    assert set(rows) <= everything
    trained = set(split.train.user.tolist())
    assert everything - set(rows) == {pair for pair in everything if pair[0] not in trained}


@PROTOCOLS
def test_rows_of_every_part_are_sorted_by_user_and_item(config, dataset, parts_of):
    for part in parts_of(make_split(dataset, config, seed=0)).values():
        assert pairs(part) == sorted(pairs(part))


@PROTOCOLS
def test_every_user_of_a_part_has_a_train_interaction(config, make_dataset, parts_of):
    sparse = make_dataset(n_users=150, n_items=40, n_rows=700, planted_share=0.3)
    parts = parts_of(make_split(sparse, config, seed=1))
    trained = set(parts["train"].user.tolist())
    for part in parts.values():
        assert set(part.user.tolist()) <= trained


@PROTOCOLS
def test_positives_are_candidates_though_many_items_are_rare(config, make_dataset, tmp_path):
    rare = make_dataset(n_users=60, n_items=200, n_rows=700, planted_share=0.2)
    for seed in range(3):
        split = make_split(rare, config, seed=seed)
        test = split.sealed.open(SealLedger(tmp_path / "reads"), "test")
        for part in (split.iid_valid, split.ood_valid, test.iid_test, test.ood_test):
            assert part.candidates[part.interactions.item].all(), part.name


@PROTOCOLS
def test_iid_parts_are_ranked_among_the_items_of_train(config, dataset, tmp_path):
    split = make_split(dataset, config, seed=0)
    warm = split.train.item_degree() > 0
    test = split.sealed.open(SealLedger(tmp_path / "reads"), "test")
    assert torch.equal(split.iid_valid.candidates, warm)
    assert torch.equal(test.iid_test.candidates, warm)


@PROTOCOLS
def test_the_same_seed_gives_the_same_split(config, dataset, parts_of):
    one, two = (make_split(dataset, config, seed=5) for _ in range(2))
    assert {k: pairs(v) for k, v in parts_of(one).items()} == {k: pairs(v) for k, v in parts_of(two).items()}
    assert one.sealed.fingerprint == two.sealed.fingerprint
    assert one.card == two.card


@PROTOCOLS
def test_another_seed_gives_another_split(config, dataset, parts_of):
    one, two = (parts_of(make_split(dataset, config, seed=seed)) for seed in (5, 6))
    for name in one:
        assert set(pairs(one[name])) != set(pairs(two[name]))


@PROTOCOLS
def test_the_order_of_the_rows_does_not_matter(config, dataset, parts_of):
    one = make_split(dataset, config, seed=2)
    two = make_split(shuffled(dataset, 9), config, seed=2)
    assert {k: pairs(v) for k, v in parts_of(one).items()} == {k: pairs(v) for k, v in parts_of(two).items()}
    assert one.sealed.fingerprint == two.sealed.fingerprint


@PROTOCOLS
def test_iid_parts_are_the_share_of_all_interactions(config, dataset, parts_of):
    config = config.model_copy(update={"iid_share": 0.17})
    parts = parts_of(make_split(dataset, config, seed=0))
    assert len(parts["iid_valid"]) == round(0.17 * 1500) // 2
    assert len(parts["iid_valid"]) + len(parts["iid_test"]) == round(0.17 * 1500)


def test_the_fingerprint_sees_data_configuration_and_seed_but_no_features(dataset, make_dataset):
    def fingerprint(data=dataset, config=CONFIGS[0], seed=0):
        return make_split(data, config, seed=seed).sealed.fingerprint

    others = [
        fingerprint(data=make_dataset(seed=1)),
        fingerprint(config=PopularitySplit(gamma=0.9)),
        fingerprint(config=ColdItemSplit()),
        fingerprint(seed=1),
    ]
    assert len({fingerprint(), *others}) == 5
    modality = Modality(values=torch.ones(90, 2), present=torch.ones(90, dtype=torch.bool))
    richer = dataclasses.replace(dataset, modalities={"other": modality}, fingerprint="other")
    assert fingerprint(data=richer) == fingerprint()


# ---------------------------------------------------------------------------------- popularity


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
        cards = make_split(dataset, PopularitySplit(gamma=gamma), seed=0).card.parts
        popularity = {part.name: part.mean_popularity for part in cards}
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


# ----------------------------------------------------------------------------------- cold_item


def test_cold_items_are_in_no_part_but_their_own(dataset, parts_of):
    for seed in range(5):
        parts = {
            k: set(v.item.tolist())
            for k, v in parts_of(make_split(dataset, ColdItemSplit(), seed=seed)).items()
        }
        warm = parts["train"] | parts["iid_valid"] | parts["iid_test"]
        assert not warm & (parts["ood_valid"] | parts["ood_test"])
        assert not parts["ood_valid"] & parts["ood_test"]
        assert parts["iid_valid"] | parts["iid_test"] <= parts["train"]


def test_all_interactions_of_a_held_out_item_are_ood(dataset, parts_of):
    split = make_split(dataset, ColdItemSplit(), seed=0)
    parts = parts_of(split)
    cold = split.ood_valid.candidates[dataset.interactions.item]
    trained = split.train.user_degree() > 0
    expected = int((cold & trained[dataset.interactions.user]).sum())
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == expected


def test_a_share_of_the_items_is_held_out_and_both_halves_are_candidates(dataset, tmp_path):
    known = int((dataset.interactions.item_degree() > 0).sum())
    split = make_split(dataset, ColdItemSplit(item_share=0.4), seed=0)
    test = split.sealed.open(SealLedger(tmp_path / "reads"), "test")
    assert int(split.ood_valid.candidates.sum()) == round(0.4 * known)
    assert torch.equal(split.ood_valid.candidates, test.ood_test.candidates)
    assert not (split.ood_valid.candidates & split.iid_valid.candidates).any()
    held_out = torch.zeros_like(split.ood_valid.candidates)
    for part in (split.ood_valid, test.ood_test):
        held_out[part.interactions.item] = True
    assert torch.equal(held_out & split.ood_valid.candidates, held_out)


def test_cold_items_can_be_ranked_among_all_items(dataset, parts_of):
    held_out = make_split(dataset, ColdItemSplit(), seed=0)
    among_all = make_split(dataset, ColdItemSplit(ood_candidates="all"), seed=0)
    assert among_all.ood_valid.candidates.all()
    assert pairs(among_all.ood_valid.interactions) == pairs(held_out.ood_valid.interactions)


def test_every_user_with_a_warm_interaction_trains_on_one(make_dataset):
    sparse = make_dataset(n_users=120, n_items=30, n_rows=300)
    data = sparse.interactions
    dropped = 0
    for seed in range(8):
        split = make_split(sparse, ColdItemSplit(item_share=0.5, iid_share=0.1), seed=seed)
        warm = ~split.ood_valid.candidates[data.item]
        reachable = data.select(warm).user_degree() > 0
        assert torch.equal(split.train.user_degree() > 0, reachable)
        assert split.card.dropped_users == int((~reachable & (data.user_degree() > 0)).sum())
        assert split.card.dropped_interactions == int((~reachable[data.user]).sum())
        dropped += split.card.dropped_users
    assert dropped > 0


def test_too_few_items_for_two_halves_are_reported(make_dataset):
    small = make_dataset(n_users=20, n_items=5, n_rows=40)
    with pytest.raises(ConfigError, match=r"split\.item_share: .*at least 2 items.*0\.2 of 5 items"):
        make_split(small, ColdItemSplit(item_share=0.2), seed=0)


def test_an_iid_share_beyond_the_warm_rows_is_reported(dataset):
    with pytest.raises(ConfigError, match=r"split\.iid_share: .*of 1500"):
        make_split(dataset, ColdItemSplit(item_share=0.5, iid_share=0.9), seed=0)


# ------------------------------------------------------------------------------------- planted


def test_planted_ood_rows_are_those_of_the_truth(dataset, parts_of):
    split = make_split(dataset, PlantedSplit(), seed=0)
    parts = parts_of(split)
    trained = set(split.train.user.tolist())
    truth = {
        pair
        for pair, part in zip(pairs(dataset.interactions), dataset.truth.part.tolist(), strict=True)
        if part == 1 and pair[0] in trained
    }
    assert set(pairs(parts["ood_valid"])) | set(pairs(parts["ood_test"])) == truth
    assert abs(len(parts["ood_valid"]) - len(parts["ood_test"])) <= 1
    assert split.ood_valid.candidates.all()


def test_the_planted_reader_and_protocol_fit_each_other(parts_of):
    dataset = read_planted(PlantedConfig(n_users=30, n_items=60, interactions_per_environment=8), seed=0)
    parts = parts_of(make_split(dataset, PlantedSplit(), seed=0))
    assert len(parts["ood_valid"]) + len(parts["ood_test"]) == int((dataset.truth.part == 1).sum())
    assert sum(len(part) for part in parts.values()) == len(dataset.interactions)


def test_planted_needs_planted_data(make_dataset):
    with pytest.raises(ConfigError, match=r"split\.protocol: .*data\.kind: planted.*planted on toy"):
        make_split(make_dataset(), PlantedSplit(), seed=0)


# --------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("protocol", "key"),
    [
        ("popularity", "ood_share"),
        ("popularity", "iid_share"),
        ("cold_item", "item_share"),
        ("cold_item", "iid_share"),
        ("planted", "iid_share"),
    ],
)
def test_shares_outside_the_open_unit_interval_are_refused(protocol, key, share):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SplitConfig).validate_python({"protocol": protocol, key: share})
    assert caught.value.errors()[0]["loc"] == (protocol, key)


def test_shares_that_leave_no_train_are_refused_with_both_values():
    with pytest.raises(ValidationError, match=r"ood_share \+ iid_share must be below 1.*0\.6 \+ 0\.4"):
        PopularitySplit(ood_share=0.6, iid_share=0.4)


def test_an_unknown_protocol_or_key_is_refused():
    with pytest.raises(ValidationError, match=r"popularity.*cold_item.*planted"):
        TypeAdapter(SplitConfig).validate_python({"protocol": "yearly"})
    with pytest.raises(ValidationError, match="gama"):
        TypeAdapter(SplitConfig).validate_python({"protocol": "popularity", "gama": 1})


@PROTOCOLS
def test_a_part_that_would_be_empty_is_reported_by_name(config, make_dataset):
    tiny = make_dataset(n_users=3, n_items=8, n_rows=12, planted_share=0.4)
    with pytest.raises(ConfigError, match=r"split.*(leaves iid_valid without|leave)"):
        make_split(tiny, config.model_copy(update={"iid_share": 0.01}), seed=0)
