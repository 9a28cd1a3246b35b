"""Laws of every protocol."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Dataset, Modality
from painvrl.data.guard import AccessLog
from painvrl.data.splits import (
    ColdItemSplit,
    GivenSplit,
    ItemGroupSplit,
    ItemRangeSplit,
    MissingModalitySplit,
    OfficialSplit,
    PlantedSplit,
    PopularitySplit,
    SplitConfig,
    TemporalSplit,
    TemporalUserSplit,
    UserGroupSplit,
    WrongModalitySplit,
    make_split,
)
from painvrl.data.splits.rows import table_of
from painvrl.evaluation.protocol import EvaluationConfig
from painvrl.evaluation.ranking import evaluate
from painvrl.run.prepare import plan_parts

CONFIGS = {
    "popularity": PopularitySplit(),
    "popularity, graded": PopularitySplit(gamma=(0.0, 1.0, 2.0), ood_share=0.3),
    "cold_item": ColdItemSplit(),
    "planted": PlantedSplit(),
    "temporal": TemporalSplit(force=True),
    "temporal_user": TemporalUserSplit(),
    "item_group": ItemGroupSplit(column="genre"),
    "item_group, clusters": ItemGroupSplit(clusters=8),
    "user_group": UserGroupSplit(column="city", share=0.3),
    "official, popularity": OfficialSplit.model_validate(
        {"column": "official", "ood": {"protocol": "popularity"}}
    ),
    "official, cold_item": OfficialSplit.model_validate(
        {"column": "official", "ood": {"protocol": "cold_item"}}
    ),
    "official, item_group": OfficialSplit.model_validate(
        {"column": "official", "ood": {"protocol": "item_group", "column": "genre"}}
    ),
    "given": GivenSplit(),
    "item_range": ItemRangeSplit(column="year", train=(1970, None), ood=(None, 1960)),
    "item_range, matched": ItemRangeSplit(
        column="year", train=(1970, None), ood=(None, 1960), matched=True, ood_candidates="all"
    ),
    "wrong_modality": WrongModalitySplit(modality="m", ood_candidates="all"),
    "missing_modality": MissingModalitySplit(modality="m"),
}
FROM_FILES = {"official", "given"}


def protocols(*, but: set[str] = frozenset()):
    chosen = {name: config for name, config in CONFIGS.items() if not {name, config.protocol} & but}
    return pytest.mark.parametrize("config", chosen.values(), ids=chosen)


EVERY = protocols()
SHIFTED_FEATURES = {"wrong_modality", "missing_modality"}
READING = protocols(but={"popularity", "cold_item", "planted", "item_group, clusters", *SHIFTED_FEATURES})
WITH_IID_SHARE = protocols(but=FROM_FILES)
FILES = protocols(but={config.protocol for config in CONFIGS.values()} - FROM_FILES)


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    return make_dataset(planted_share=0.3)


def kept_rows(config, dataset) -> torch.Tensor:
    """``[N]`` bool: all rows in the order of a split but those that the protocol leaves out."""
    rows = config.assign(table_of(dataset), 3)
    return (
        torch.ones(len(dataset.interactions), dtype=torch.bool) if rows.left_out is None else ~rows.left_out
    )


@EVERY
def test_parts_are_disjoint_and_lose_unknown_users_and_cold_iid_rows_only(
    config, make_dataset, parts_of, pairs
):
    for size in ({}, {"n_users": 150, "n_items": 60, "n_rows": 900}):
        dataset = make_dataset(planted_share=0.3, **size)
        split = make_split(dataset, config, seed=3)
        parts = parts_of(split)
        rows = [pair for part in parts.values() for pair in pairs(part)]
        assert len(rows) == len(set(rows))
        kept = table_of(dataset).interactions.select(kept_rows(config, dataset))
        gap = set(pairs(dataset.interactions)) - set(pairs(kept))
        everything = set(pairs(kept))
        assert set(rows) <= everything
        known = set(split.train.user.tolist())
        if split.support is not None:
            known |= set(split.support.user.tolist())
        lost = everything - set(rows)
        of_unknown_users = {pair for pair in everything if pair[0] not in known}
        assert lost >= of_unknown_users
        warm = set(split.train.item.tolist())
        assert all(item not in warm for _, item in lost - of_unknown_users)
        if config.protocol not in FROM_FILES:
            assert lost == of_unknown_users
        assert split.statistics.dropped_interactions == len(lost) + len(gap)
        unknown_users = set(dataset.interactions.user.tolist()) - known
        assert split.statistics.dropped_users == len(unknown_users)


@EVERY
def test_a_protocol_gives_every_row_one_part(config, dataset):
    rows = config.assign(table_of(dataset), 3)
    members = [rows.train(), rows.iid_valid, rows.iid_test]
    members += [half for part in rows.ood.values() for half in (part.valid, part.test)]
    members += [others for others in (rows.support, rows.left_out) if others is not None]
    assert torch.equal(torch.stack(members).sum(dim=0), torch.ones(1500, dtype=torch.int64))


@EVERY
def test_rows_of_every_part_are_sorted_by_user_and_item(config, dataset, parts_of, pairs):
    for part in parts_of(make_split(dataset, config, seed=0)).values():
        assert pairs(part) == sorted(pairs(part))


@EVERY
def test_the_statistics_names_every_part(config, dataset, parts_of):
    split = make_split(dataset, config, seed=0)
    parts = parts_of(split)
    assert {part.name: part.interactions for part in split.statistics.parts} == {
        k: len(v) for k, v in parts.items()
    }
    assert [part.name for part in split.statistics.parts][:4] == [
        "train",
        "iid_valid",
        "iid_test",
        split.ood_valid.name,
    ]


@EVERY
def test_every_user_of_a_part_has_a_train_or_support_interaction(config, make_dataset, parts_of):
    sparse = make_dataset(n_users=150, n_items=40, n_rows=700, planted_share=0.3)
    parts = parts_of(make_split(sparse, config, seed=1))
    known = set(parts["train"].user.tolist())
    if config.protocol == "user_group":
        assert not known & set(parts["support"].user.tolist())
        known |= set(parts["support"].user.tolist())
    else:
        assert "support" not in parts
    for part in parts.values():
        assert set(part.user.tolist()) <= known


@EVERY
def test_positives_are_candidates_though_many_items_are_rare(config, make_dataset, tests_of):
    rare = make_dataset(n_users=60, n_items=200, n_rows=700, planted_share=0.2)
    for seed in range(3):
        split = make_split(rare, config, seed=seed)
        for part in (*split.valid.values(), *tests_of(split).values()):
            assert part.candidates[part.interactions.item].all(), part.name


@EVERY
@pytest.mark.parametrize("candidates", ["warm", "all"])
def test_iid_parts_are_ranked_among_warm_items_or_among_all(config, candidates, dataset, tests_of):
    split = make_split(dataset, config.model_copy(update={"iid_candidates": candidates}), seed=0)
    kept = table_of(dataset).interactions.select(kept_rows(config, dataset)).item_degree() > 0
    everything = kept | (dataset.interactions.item_degree() == 0)
    wanted = everything if candidates == "all" else split.train.item_degree() > 0
    assert torch.equal(split.iid_valid.candidates, wanted)
    assert torch.equal(tests_of(split)["iid"].candidates, wanted)


@EVERY
def test_by_default_iid_parts_are_in_one_list_with_ood_parts_of_warm_and_cold_items(config, dataset):
    split = make_split(dataset, config, seed=0)
    warm = split.train.item_degree() > 0
    for part in split.valid.values():
        mixed = bool((part.candidates & warm).any() & (part.candidates & ~warm).any())
        assert not mixed or torch.equal(part.candidates, split.iid_valid.candidates)
    if split.iid_valid.candidates.all():
        assert split.ood_valid.candidates.all()


@EVERY
def test_under_all_a_constant_on_every_cold_item_costs_all_iid_recall_and_under_warm_none(
    config, make_dataset
):
    sparse = make_dataset(n_users=60, n_items=300, n_rows=700, planted_share=0.2)
    plan_of = partial(plan_parts, evaluation=EvaluationConfig(ks=(5,)), device=torch.device("cpu"))

    def recall(candidates: str, constant: float) -> float:
        """Of scores that know every IID positive, and give every cold item a constant more."""
        split = make_split(sparse, config.model_copy(update={"iid_candidates": candidates}), seed=0)
        cold = split.train.item_degree() == 0
        assert int(cold.sum()) >= 5
        known = torch.zeros(300, 60)
        known[split.iid_valid.interactions.item, split.iid_valid.interactions.user] = 1
        raised = torch.cat([known, constant * cold[:, None]], dim=1)
        users = torch.cat([torch.eye(60), torch.ones(60, 1)], dim=1)
        return evaluate(plan_of(split.valid, [split.train]), users, raised)["iid/recall_at_5"]

    assert recall("all", 1e4) == 0 < recall("all", 0.0)
    assert recall("warm", 1e4) == recall("warm", 0.0) > 0


@EVERY
def test_iid_parts_that_cannot_see_a_cold_item_of_an_ood_list_are_warned_of(config, dataset):
    def found(candidates: str | None) -> list[str]:
        split = make_split(dataset, config.model_copy(update={"iid_candidates": candidates}), seed=0)
        return [one for one in split.statistics.provenance.warnings if one.startswith("split.iid_candidates")]

    split = make_split(dataset, config.model_copy(update={"iid_candidates": "warm"}), seed=0)
    warm = split.train.item_degree() > 0
    blind = any(
        bool((part.candidates & ~warm).any() & (part.candidates & warm).any())
        for part in split.valid.values()
    )
    assert found(None) == found("all") == []
    assert len(found("warm")) == blind
    if blind:
        assert f"among {int(warm.sum())} warm items" in found("warm")[0]


@EVERY
def test_the_statistics_counts_what_every_part_is_ranked_among(config, dataset, tests_of):
    split = make_split(dataset, config, seed=0)
    scored = {part.name: part for part in (*split.valid.values(), *tests_of(split).values())}
    for part in split.statistics.parts:
        expected = int(scored[part.name].candidates.sum()) if part.name in scored else None
        assert part.candidates == expected


@EVERY
def test_reads_of_the_same_test_rows_add_up_whatever_they_are_ranked_among(config, dataset):
    warm, all_items = (
        make_split(dataset, config.model_copy(update={"iid_candidates": one}), seed=0)
        for one in ("warm", "all")
    )
    assert warm.sealed.fingerprint == all_items.sealed.fingerprint
    assert warm.fingerprint != all_items.fingerprint


@EVERY
def test_valid_and_test_parts_come_in_pairs(config, dataset, tests_of):
    split = make_split(dataset, config, seed=0)
    tests = tests_of(split)
    names = config.ood_names() or ("ood", "ood_far")
    assert list(split.valid) == list(tests) == ["iid", *names]
    for name in tests:
        assert (split.valid[name].name, tests[name].name) == (f"{name}_valid", f"{name}_test")
        assert torch.equal(split.valid[name].candidates, tests[name].candidates)


@EVERY
def test_the_same_seed_gives_the_same_split(config, dataset, parts_of, pairs):
    one, two = (make_split(dataset, config, seed=5) for _ in range(2))
    assert {k: pairs(v) for k, v in parts_of(one).items()} == {k: pairs(v) for k, v in parts_of(two).items()}
    assert one.fingerprint == two.fingerprint
    assert one.statistics == two.statistics


@protocols(but={"given", "temporal", "temporal_user", "official"})
def test_another_seed_gives_other_parts(config, dataset, parts_of, pairs):
    one, two = (parts_of(make_split(dataset, config, seed=seed)) for seed in (5, 6))
    for name in one:
        assert set(pairs(one[name])) != set(pairs(two[name]))


@protocols(but={"given"})
def test_another_seed_gives_another_train_part(config, dataset, pairs):
    one, two = (make_split(dataset, config, seed=seed) for seed in (5, 6))
    assert set(pairs(one.train)) != set(pairs(two.train))
    assert one.fingerprint != two.fingerprint


@EVERY
def test_the_order_of_the_rows_does_not_matter(config, dataset, parts_of, pairs, shuffled):
    one = make_split(dataset, config, seed=2)
    two = make_split(shuffled(dataset, 9), config, seed=2)
    assert {k: pairs(v) for k, v in parts_of(one).items()} == {k: pairs(v) for k, v in parts_of(two).items()}
    assert one.fingerprint == two.fingerprint


@WITH_IID_SHARE
def test_iid_parts_are_the_share_of_all_interactions(config, dataset, parts_of):
    config = config.model_copy(update={"iid_share": 0.17})
    parts = parts_of(make_split(dataset, config, seed=0))
    size = round(0.17 * int(kept_rows(config, dataset).sum()))
    assert len(parts["iid_valid"]) == size // 2
    assert len(parts["iid_valid"]) + len(parts["iid_test"]) == size


def test_the_fingerprint_sees_data_configuration_and_seed_but_no_features(dataset, make_dataset):
    def fingerprint(data=dataset, config=CONFIGS["popularity"], seed=0):
        return make_split(data, config, seed=seed).fingerprint

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


@READING
def test_the_fingerprint_sees_the_columns_that_decide_the_rows(config, dataset):
    columns = dataset.columns
    other = dataclasses.replace(
        columns,
        time=columns.time.roll(7),
        interaction={name: np.roll(labels, 7) for name, labels in columns.interaction.items()},
        item={name: np.roll(labels, 7) for name, labels in columns.item.items()},
        user={name: np.roll(labels, 7) for name, labels in columns.user.items()},
    )
    one = make_split(dataset, config, seed=0)
    two = make_split(dataclasses.replace(dataset, columns=other), config, seed=0)
    assert one.fingerprint != two.fingerprint


@protocols(but=FROM_FILES)
def test_reads_of_drawn_test_parts_are_counted_by_the_split(config, dataset):
    split = make_split(dataset, config.model_copy(update={"iid_candidates": "warm"}), seed=3)
    assert split.sealed.fingerprint == split.fingerprint


@FILES
def test_reads_of_the_files_own_test_rows_add_up_over_seeds_and_settings(config, dataset, tmp_path):
    access_log = AccessLog(tmp_path / "reads")
    if isinstance(config, OfficialSplit):
        other = OfficialSplit(column="official", ood=PopularitySplit(gamma=0.3, ood_share=0.1))
    else:
        other = GivenSplit(parts={"unused": "train"})
    settings = [(config, 0), (config, 1), (other, 0), (other, 7)]
    reads = [
        make_split(dataset, each, seed=seed).sealed.open(access_log, "a test").reads
        for each, seed in settings
    ]
    assert reads == [1, 2, 3, 4]


@FILES
def test_the_files_test_rows_are_named_by_their_raw_ids_and_by_nothing_else(config, dataset, shuffled):
    def sealed(data: Dataset) -> str:
        return make_split(data, config, seed=0).sealed.fingerprint

    def relabelled(old: str, new: str) -> Dataset:
        interaction = {}
        for name, labels in dataset.columns.interaction.items():
            changed = labels.copy()
            changed[np.flatnonzero(labels == old)[:1]] = new
            interaction[name] = changed
        columns = dataclasses.replace(dataset.columns, interaction=interaction)
        return dataclasses.replace(dataset, columns=columns)

    label = "test" if config.protocol == "official" else "ood_far_test"
    valid = "valid" if config.protocol == "official" else "ood_far_valid"
    same = [shuffled(dataset, 4), relabelled("train", valid)]
    assert {sealed(data) for data in same} == {sealed(dataset)}
    others = [
        relabelled(label, "train"),
        relabelled("train", label),
        dataclasses.replace(dataset, user_ids=dataset.user_ids + "x"),
        dataclasses.replace(dataset, item_ids=dataset.item_ids + "x"),
    ]
    assert len({sealed(dataset), *map(sealed, others)}) == 5


@READING
def test_data_without_the_column_are_refused_by_its_name(config, dataset, make_dataset):
    bare = dataclasses.replace(dataset, columns=type(dataset.columns)())
    with pytest.raises(ConfigError) as caught:
        make_split(bare, config, seed=0)
    said = str(caught.value)
    if config.protocol.startswith("temporal"):
        assert said.startswith("split.protocol: needs the time of every interaction")
        assert f"(found '{config.protocol} on toy')" in said
    else:
        assert said.startswith("split.column: the data set toy has no such column")
        assert "it has none" in said


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("protocol", "key"),
    [
        ("popularity", "ood_share"),
        ("popularity", "iid_share"),
        ("cold_item", "item_share"),
        ("cold_item", "iid_share"),
        ("planted", "iid_share"),
        ("temporal", "ood_share"),
        ("temporal_user", "iid_share"),
        ("item_group", "share"),
        ("user_group", "iid_share"),
    ],
)
def test_shares_outside_the_open_unit_interval_are_refused(protocol, key, share):
    column = {"column": "x"} if protocol.endswith("group") else {}
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SplitConfig).validate_python({"protocol": protocol, key: share, **column})
    assert caught.value.errors()[0]["loc"] == (protocol, key)


@pytest.mark.parametrize("config", [PopularitySplit, TemporalSplit, TemporalUserSplit])
def test_shares_that_leave_no_train_are_refused_with_both_values(config):
    with pytest.raises(ValidationError, match=r"ood_share \+ iid_share must be below 1.*0\.6 \+ 0\.4"):
        config(ood_share=0.6, iid_share=0.4)


def test_an_unknown_protocol_or_key_is_refused():
    with pytest.raises(ValidationError, match=r"cold_item.*user_group.*popularity.*given.*planted"):
        TypeAdapter(SplitConfig).validate_python({"protocol": "yearly"})
    with pytest.raises(ValidationError, match="gama"):
        TypeAdapter(SplitConfig).validate_python({"protocol": "popularity", "gama": 1})


@WITH_IID_SHARE
def test_a_part_that_would_be_empty_is_reported_by_name(config, make_dataset):
    tiny = make_dataset(n_users=3, n_items=8, n_rows=12, planted_share=0.4)
    with pytest.raises(ConfigError, match=r"split.*(leaves \w+ without|leave|fewer than 2)"):
        make_split(tiny, config.model_copy(update={"iid_share": 0.01}), seed=0)
