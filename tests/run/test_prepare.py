from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.core.rng import derive_seed
from painvrl.data.interactions import Interactions
from painvrl.data.sources.planted import read_planted
from painvrl.data.splits import make_split
from painvrl.model.streamed import StreamedFeatures
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import check_fits, plan_parts, prepare, prepare_split, split_of, with_features

if TYPE_CHECKING:
    from painvrl.evaluation.ranking import RankingPlan
    from painvrl.run.prepare import Prepared

CPU = torch.device("cpu")


def pairs(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.user.tolist(), interactions.item.tolist(), strict=True))


def hidden_pairs(plan: RankingPlan) -> set[tuple[int, int]]:
    """The (user, item) pairs that are no negatives, in the ids of the data set."""
    found = set()
    for block in plan.blocks:
        for cell in block.hidden.tolist():
            row, column = divmod(cell, len(plan.candidates))
            found.add((int(block.users[row]), int(plan.candidates[column])))
    return found


def positive_pairs(plan: RankingPlan, part: int) -> set[tuple[int, int]]:
    """The (user, item) pairs that count as hits of a part."""
    found = set()
    for block in plan.blocks:
        for user, columns in zip(block.users.tolist(), block.positives[part].tolist(), strict=True):
            found |= {(user, int(plan.candidates[column])) for column in columns if column >= 0}
    return found


def test_each_valid_part_is_ranked_without_train_and_without_the_other_part(tiny_prepared: Prepared) -> None:
    split, plan = tiny_prepared.split, tiny_prepared.valid_plan
    assert [part.name for part in plan.parts] == ["iid", "ood"]
    parts = (split.iid_valid, split.ood_valid)
    for index, part in enumerate(parts):
        assert positive_pairs(plan, index) == pairs(part.interactions)
    both = pairs(parts[0].interactions) | pairs(parts[1].interactions)
    users = {user for user, _ in both}
    items = set((parts[0].candidates | parts[1].candidates).nonzero(as_tuple=True)[0].tolist())
    assert hidden_pairs(plan) == {(u, i) for u, i in pairs(split.train) | both if u in users and i in items}
    assert set(plan.candidates.tolist()) == items


def test_training_knows_the_train_part_alone(tiny_prepared: Prepared) -> None:
    data, train = tiny_prepared.training.pairs, tiny_prepared.split.train
    assert set(zip(data.user.tolist(), data.item.tolist(), strict=True)) == pairs(train)
    assert tiny_prepared.training.n_pairs == len(train)
    assert pairs(tiny_prepared.train) == pairs(train)


def test_preparing_is_loading_and_splitting_with_the_runs_seed(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    config = tiny_config.model_copy(update={"seed": 5})
    prepared = prepare(config, cache_dir=tmp_path, device=CPU)
    dataset = read_planted(config.data, 5)  # type: ignore[arg-type]
    split = make_split(dataset, config.split, seed=derive_seed(5, "split"))
    assert torch.equal(prepared.split.train.item, split.train.item)
    assert torch.equal(prepared.split.ood_valid.interactions.item, split.ood_valid.interactions.item)
    assert prepared.split.fingerprint == split.fingerprint
    assert prepared.dataset.fingerprint == dataset.fingerprint


def test_a_seed_means_data_and_split_together(tiny_config: TrainConfig, tmp_path: Path) -> None:
    def train_of(**change: Any) -> set[tuple[int, int]]:
        config = tiny_config.model_copy(update=change)
        return pairs(prepare(config, cache_dir=tmp_path, device=CPU).split.train)

    assert train_of() == train_of()
    assert train_of() != train_of(seed=1)
    fixed = tiny_config.data.model_copy(update={"seed": 0})  # the data stay, the split still turns
    assert train_of(data=fixed) == train_of()
    assert train_of(data=fixed, seed=1) != train_of(data=fixed)


def test_feature_statistics_are_fitted_on_train_items(tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        tiny_settings | {"split": {"protocol": "cold_item"}, "features": {"standardise": True}}
    )
    prepared = prepare(config, cache_dir=tmp_path, device=CPU)
    values = prepared.dataset.modalities["planted"].values.double()
    warm = prepared.split.train.item_degree() > 0
    assert not warm.all()
    fitted = (values - values[warm].mean(dim=0)) / values[warm].std(dim=0, correction=0)
    expected = fitted / fitted.norm(dim=1, keepdim=True)
    torch.testing.assert_close(prepared.features.double(), expected, atol=1e-5, rtol=0)


def test_a_larger_train_part_warms_its_items(tiny_prepared: Prepared, tiny_config: TrainConfig) -> None:
    split = tiny_prepared.split
    parts = [split.train, split.iid_valid.interactions]
    more = Interactions(
        user=torch.cat([part.user for part in parts]),
        item=torch.cat([part.item for part in parts]),
        n_users=split.train.n_users,
        n_items=split.train.n_items,
    )
    enlarged = prepare_split(tiny_config, tiny_prepared.dataset, split, more, CPU)
    assert pairs(enlarged.train) == pairs(split.train) | pairs(split.iid_valid.interactions)
    assert enlarged.training.n_pairs == len(more)
    assert enlarged.split is split
    # What was trained on is never ranked again.
    users = {user for user, _ in pairs(split.ood_valid.interactions)}
    hidden = hidden_pairs(enlarged.valid_plan)
    assert {pair for pair in pairs(more) if pair[0] in users} <= hidden


def test_a_planned_part_takes_the_name_of_its_metrics(tiny_prepared: Prepared) -> None:
    valid = tiny_prepared.split.ood_valid
    plan = plan_parts({"ood_test": valid}, [], tiny_prepared.evaluation, CPU)
    assert [part.name for part in plan.parts] == ["ood_test"]
    assert plan.ks == tiny_prepared.evaluation.ks
    assert hidden_pairs(plan) == pairs(valid.interactions)


@pytest.mark.parametrize("seed", [0, 1])
def test_features_have_a_unit_row_for_every_item(tiny_config: TrainConfig, tmp_path: Path, seed: int) -> None:
    prepared = prepare(tiny_config.model_copy(update={"seed": seed}), cache_dir=tmp_path, device=CPU)
    norms = prepared.features.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_features_and_batches_are_those_that_the_split_shows(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    shifted = {"protocol": "missing_modality", "modality": "planted", "train_broken": 0.5}
    prepared = prepare(
        TrainConfig.model_validate(tiny_settings | {"split": shifted}), cache_dir=tmp_path, device=CPU
    )
    assert prepared.split.shown is not None
    changed = prepared.split.shown.changed
    assert bool(changed.any())
    assert not bool(prepared.features[changed].any())
    assert bool(prepared.features[~changed].any(dim=1).all())
    batch = prepared.dataset.columns.item["batch"].tolist()
    assert [label == "changed" for label in batch] == changed.tolist()


def test_widths_name_the_columns_of_each_modality_and_columns_that_are_read_are_in_the_fingerprint(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    plain = prepare(TrainConfig.model_validate(tiny_settings), cache_dir=tmp_path, device=CPU)
    settings = tiny_settings | {
        "features": {"decoys": {"noise": 3}},
        "environments": {"assignment": "column", "column": {"column": "popularity", "bins": 2}},
    }
    made = prepare(TrainConfig.model_validate(settings), cache_dir=tmp_path, device=CPU)
    assert dict(made.widths) == {**plain.widths, "noise": 3}
    assert made.features.shape[1] == sum(made.widths.values())
    assert torch.equal(made.features[:, :10], plain.features)
    assert made.fingerprints[:2] == plain.fingerprints
    assert len(made.fingerprints) == 3
    later = with_features(plain, TrainConfig.model_validate(settings))
    assert later.fingerprints == made.fingerprints


def test_a_column_that_is_not_there_is_said_before_anything_is_trained(
    tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    wrong = {"assignment": "column", "column": "era"}
    config = TrainConfig.model_validate(tiny_settings | {"environments": wrong})
    with pytest.raises(ConfigError, match=r"environments\.column: .* has no such column"):
        split_of(config, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("items", "k", "share"), [(60, 20, "33%"), (60, 50, "83%"), (80, 20, ""), (60, 10, "")]
)
def test_a_list_that_holds_a_large_part_of_its_candidates_is_a_warning(
    tiny_settings: dict[str, Any], tmp_path: Path, items: int, k: int, share: str
) -> None:
    tiny_settings["data"]["n_items"] = items
    tiny_settings["training"]["monitor"] = f"iid/ndcg_at_{k}"
    _, split = split_of(TrainConfig.model_validate(tiny_settings), cache_dir=tmp_path)
    said = [text for text in split.statistics.provenance.warnings if text.startswith("training.monitor")]
    if not share:
        assert said == []
        return
    (text,) = said
    assert f"a list of {k} is chosen from few candidates, {items} of iid_valid, {items} of ood_valid" in text
    assert f"at random it has {share} of what is sought" in text


def test_features_that_do_not_fit_are_streamed_and_train_to_the_same_model(
    tiny_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = TrainConfig.model_validate(
        tiny_settings | {"split": {"protocol": "cold_item"}, "features": {"standardise": True}}
    )
    whole = prepare(config, cache_dir=tmp_path, device=CPU)
    monkeypatch.setattr("painvrl.run.prepare.MOST_OF_MEMORY", 0.0)
    monkeypatch.setattr("painvrl.model.streamed.BLOCK_BYTES", 4 * whole.features.shape[1] * 7)
    with caplog.at_level("INFO", logger="painvrl"):
        streamed = prepare(config, cache_dir=tmp_path, device=CPU)
    assert isinstance(streamed.features, StreamedFeatures)
    assert "features take 0.0 GiB, more than 0% of the memory of cpu: they pass it in blocks" in caplog.text
    assert streamed.widths == whole.widths
    assert isinstance(whole.features, torch.Tensor)
    assert torch.equal(streamed.features.cpu(), whole.features)
    found, expected = run(config, streamed), run(config, whole)
    assert len(found.parts.items) == len(whole.features)
    torch.testing.assert_close(found.mask, expected.mask, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.parts.items, expected.parts.items, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(found.parts.users, expected.parts.users, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"training": {"compile": True}}, "training.compile"),
        ({"backbone": {"modality_dropout": 0.5}}, "backbone.modality_dropout"),
        ({"mask": {"penalty": "coefficient_variance"}}, "mask.penalty"),
    ],
)
def test_what_needs_all_features_at_once_is_refused_where_they_do_not_fit(
    tiny_settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    key: str,
) -> None:
    monkeypatch.setattr("painvrl.run.prepare.MOST_OF_MEMORY", 0.0)
    config = TrainConfig.model_validate(tiny_settings | change)
    with pytest.raises(ConfigError, match="needs features that fit the device") as refused:
        prepare(config, cache_dir=tmp_path, device=CPU)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"decoys": {"coin": 1}}, "features: coin has one column, of which only the sign is left"),
        (
            {"smooth": {"popular": {"width": 5}}},
            "features.smooth.popular.width: all train items have one value",
        ),
    ],
)
def test_features_that_say_next_to_nothing_are_told(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, features: dict[str, Any], said: str
) -> None:
    config = TrainConfig.model_validate(tiny_settings | {"features": features})
    dataset = tiny_prepared.dataset
    numbers = np.full(dataset.interactions.n_items, "7", dtype=object)
    columns = replace(dataset.columns, item={**dataset.columns.item, "popular": numbers})
    split = check_fits(config, replace(dataset, columns=columns), tiny_prepared.split)
    assert split.statistics.provenance.findings[-1].startswith(said)


@pytest.mark.parametrize("source", ["learned", "random", "ones", "half"])
def test_gates_are_counted_where_a_mask_is_trained(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared, source: str
) -> None:
    mask = {"source": source, "groups": "modality", "sparsity": 0.9}
    config = TrainConfig.model_validate(tiny_settings | {"mask": mask})
    check_fits(config, tiny_prepared.dataset, tiny_prepared.split)
    if source in {"ones", "half"}:
        check_fits(config, tiny_prepared.dataset, tiny_prepared.split, trained=True)
        return
    with pytest.raises(ConfigError, match=r"mask\.sparsity: closes all of the 1 gates"):
        check_fits(config, tiny_prepared.dataset, tiny_prepared.split, trained=True)
