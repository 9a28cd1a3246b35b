from __future__ import annotations

import numpy as np
import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data import features as features_module
from painvrl.data.dataset import Columns, Modality
from painvrl.data.features import FeatureConfig, build_features, modalities_of

PRESENT = torch.tensor([True, True, True, False])
TRAIN = torch.tensor([True, True, False, True])
A = Modality(values=torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0], [0.0, 0.0]]), present=PRESENT)
B = Modality(values=torch.tensor([[2.0], [-1.0], [0.0], [7.0]]), present=torch.ones(4, dtype=torch.bool))


def test_rows_of_each_modality_have_unit_length_by_hand():
    features = build_features({"a": A, "b": B}, TRAIN, FeatureConfig())
    expected = torch.tensor([[0.6, 0.8, 1.0], [0.0, 1.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(features, expected)


def test_columns_follow_the_order_of_the_modalities():
    features = build_features({"b": B, "a": A}, TRAIN, FeatureConfig())
    swapped = build_features({"a": A, "b": B}, TRAIN, FeatureConfig())
    assert torch.equal(features, swapped[:, [2, 0, 1]])


def test_standardised_columns_by_hand():
    # Fitted on items 0 and 1 alone (2 is not in train, 3 lacks the modality):
    # means 1.5 and 3, deviations 1.5 and 1.
    features = build_features({"a": A}, TRAIN, FeatureConfig(standardise=True))
    raw = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [3.5 / 1.5, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(features, torch.nn.functional.normalize(raw, dim=1))


def test_a_missing_row_stays_zeros_though_columns_are_centred():
    features = build_features({"a": A}, TRAIN, FeatureConfig(standardise=True))
    assert features[3].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("held_out", [torch.tensor([9.0, -9.0]), torch.tensor([1e6, 0.0])])
def test_statistics_do_not_see_items_outside_train(held_out):
    values = A.values.clone()
    values[2] = held_out
    changed = build_features(
        {"a": Modality(values=values, present=PRESENT)}, TRAIN, FeatureConfig(standardise=True)
    )
    original = build_features({"a": A}, TRAIN, FeatureConfig(standardise=True))
    assert torch.equal(changed[TRAIN], original[TRAIN])


def test_a_constant_column_stays_finite():
    constant = Modality(values=torch.full((4, 2), 3.0), present=torch.ones(4, dtype=torch.bool))
    features = build_features({"c": constant}, TRAIN, FeatureConfig(standardise=True))
    assert torch.equal(features, torch.zeros(4, 2))


def in_one_go(modality: Modality, train: torch.Tensor, config: FeatureConfig) -> torch.Tensor:
    """What the blocks of rows must come to, to the last digit."""
    values = modality.values
    if config.standardise:
        deviation, mean = torch.std_mean(values[train & modality.present], dim=0, correction=0)
        values = (values - mean) / torch.where(deviation > 1e-6, deviation, 1.0)
    values = torch.nn.functional.normalize(values, dim=1)
    return torch.where(modality.present[:, None], values, 0.0)


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("rows", [1, 6, 7, 8, 15, 50])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_size_of_a_block_does_not_change_the_last_digit(rows, standardise, threads, monkeypatch):
    monkeypatch.setattr(features_module, "_BLOCK_ROWS", 7)
    draw = torch.Generator().manual_seed(rows)
    wide, narrow = (
        Modality(
            values=torch.randn(rows, width, generator=draw), present=torch.rand(rows, generator=draw) < 0.8
        )
        for width in (40_000, 3)
    )
    train, config = torch.rand(rows, generator=draw) < 0.8, FeatureConfig(standardise=standardise)
    torch.set_num_threads(threads)
    try:
        found = build_features({"wide": wide, "narrow": narrow}, train, config)
        expected = [in_one_go(modality, train, config) for modality in (wide, narrow)]
    finally:
        torch.set_num_threads(1)
    assert torch.equal(found, torch.cat(expected, dim=1))
    assert found.is_contiguous()


def test_a_list_standardises_those_modalities_alone():
    both = {"a": A, "b": B}
    some = build_features(both, TRAIN, FeatureConfig(standardise=("a",)))
    assert torch.equal(some[:, :2], build_features(both, TRAIN, FeatureConfig(standardise=True))[:, :2])
    assert torch.equal(some[:, 2:], build_features(both, TRAIN, FeatureConfig())[:, 2:])


def test_a_scale_is_the_length_of_a_row():
    both = {"a": A, "b": B}
    scaled = build_features(both, TRAIN, FeatureConfig(scales={"a": 0.25, "b": 0.0}))
    torch.testing.assert_close(scaled[:3, :2].norm(dim=1), torch.full((3,), 0.25))
    torch.testing.assert_close(scaled[:, :2], 0.25 * build_features(both, TRAIN, FeatureConfig())[:, :2])
    assert scaled[:, 2].tolist() == [0.0] * 4


def test_a_smooth_column_is_a_modality_behind_those_of_the_data():
    columns = Columns(item={"year": np.array(["1990", "2000", "2015", ""], dtype=object)})
    config = FeatureConfig.model_validate({"smooth": {"year": {"width": 10}}, "scales": {"year": 0.5}})
    found = modalities_of({"a": A}, columns, TRAIN, config)
    assert list(found) == ["a", "year"]
    assert torch.equal(found["a"].values, A.values)
    made = build_features(found, TRAIN, config)
    torch.testing.assert_close(made[:3, 2:].norm(dim=1), torch.full((3,), 0.5))


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"scales": {"image": 1.0}}, "features.scales"),
        ({"standardise": ["image"]}, "features.standardise"),
        ({"smooth": {"a": {"width": 1}}}, "features.smooth.a"),
        ({"smooth": {"year": {"width": 1}}}, "features.smooth.year"),
    ],
)
def test_names_that_the_data_do_not_have_are_refused(wrong, key):
    with pytest.raises(ConfigError) as refused:
        modalities_of({"a": A}, Columns(), TRAIN, FeatureConfig.model_validate(wrong))
    assert refused.value.key == key


def test_columns_of_large_modalities_are_standardised_alike_without_a_copy_of_their_rows(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    values = 50 + 3 * torch.randn(40, 5, generator=draw)
    values[:, 2] = 7.0  # a constant column
    modality = Modality(values=values, present=torch.arange(40) % 3 > 0)
    train = torch.arange(40) % 5 > 0
    expected = build_features({"a": modality}, train, FeatureConfig(standardise=True))
    nobody = build_features({"a": modality}, torch.zeros_like(train), FeatureConfig(standardise=True))
    monkeypatch.setattr(features_module, "_LARGE_BYTES", 0)
    monkeypatch.setattr(features_module, "_BLOCK_ROWS", 7)
    found = build_features({"a": modality}, train, FeatureConfig(standardise=True))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(
        build_features({"a": modality}, torch.zeros_like(train), FeatureConfig(standardise=True)), nobody
    )


def test_one_name_stands_for_a_list_of_it() -> None:
    assert FeatureConfig.model_validate({"standardise": "a"}).standardise == ("a",)
    assert FeatureConfig.model_validate({"standardise": True}).standardise is True


@pytest.mark.parametrize("size", [1e-40, 3e-24, 1e-13, 1e-9, 0.999e-9, 1.0, 1e17])
def test_rows_of_any_size_come_out_at_unit_length(size):
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]]) * size
    features = build_features(
        {"a": Modality(values=values, present=torch.ones(3) > 0)}, TRAIN[:3], FeatureConfig()
    )
    torch.testing.assert_close(
        features, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0]]), atol=1e-4, rtol=0
    )
