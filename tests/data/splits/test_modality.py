"""A modality of the OOD items is another item's, or is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Modality
from painvrl.data.splits import MissingModalitySplit, WrongModalitySplit, make_split

BOTH = pytest.mark.parametrize("protocol", [WrongModalitySplit, MissingModalitySplit])


def held_out_items(split, tests_of) -> torch.Tensor:
    parts = [split.ood_valid.interactions, tests_of(split)["ood"].interactions]
    held = torch.zeros(90, dtype=torch.bool)
    held[torch.cat([part.item for part in parts])] = True
    return held


@BOTH
@pytest.mark.parametrize(("ood", "train"), [(1.0, 0.3), (0.5, 0.0), (0.0, 1.0)])
def test_the_shares_of_items_are_broken(dataset, tests_of, protocol, ood, train):
    config = protocol(modality="m", ood_broken=ood, train_broken=train)
    split = make_split(dataset, config, seed=0)
    assert split.shown is not None
    changed, held = split.shown.changed, held_out_items(split, tests_of)
    assert int((changed & held).sum()) == round(ood * int(held.sum()))
    assert int((changed & ~held).sum()) == round(train * int((~held).sum()))


def test_wrong_vectors_are_swapped_among_the_broken_items(dataset):
    shown = make_split(dataset, WrongModalitySplit(modality="m"), seed=0).shown
    assert shown is not None
    broken = shown.changed.nonzero()[:, 0]
    assert sorted(shown.source[broken].tolist()) == broken.tolist()
    values = shown.of(dataset.modalities)["m"].values
    assert torch.equal(values, dataset.modalities["m"].values[shown.source])
    assert bool((values[broken] != dataset.modalities["m"].values[broken]).any(dim=1).all())


def test_missing_vectors_are_missing_and_the_others_stay(dataset):
    split = make_split(dataset, MissingModalitySplit(modality="m"), seed=0)
    assert split.shown is not None
    found = split.shown.of({**dataset.modalities, "other": dataset.modalities["m"]})
    changed = split.shown.changed
    assert torch.equal(found["m"].present, ~changed)
    assert not bool(found["m"].values[changed].any())
    assert torch.equal(found["m"].values[~changed], dataset.modalities["m"].values[~changed])
    assert found["other"] is dataset.modalities["m"]


@BOTH
def test_without_shares_nothing_is_shifted_and_the_rows_are_the_same(dataset, protocol):
    shifted = make_split(dataset, protocol(modality="m"), seed=0)
    control = make_split(dataset, protocol(modality="m", ood_broken=0, train_broken=0), seed=0)
    assert control.shown is not None
    assert not bool(control.shown.changed.any())
    assert torch.equal(control.train.cells(), shifted.train.cells())
    assert torch.equal(control.ood_valid.interactions.cells(), shifted.ood_valid.interactions.cells())
    assert control.fingerprint != shifted.fingerprint


def test_items_without_the_modality_are_not_broken(dataset):
    half = torch.arange(90) % 2 == 0
    sparse = Modality(values=dataset.modalities["m"].values * half[:, None], present=half)
    shown = make_split(
        replace(dataset, modalities={"m": sparse}), WrongModalitySplit(modality="m"), seed=0
    ).shown
    assert shown is not None
    assert not bool((shown.changed & ~half).any())
    assert torch.equal(shown.of({"m": sparse})["m"].present, half)


@BOTH
def test_an_unknown_modality_is_refused(dataset, protocol):
    with pytest.raises(ConfigError, match="no such modality; it has m"):
        make_split(dataset, protocol(modality="image"), seed=0)


def test_a_single_broken_item_has_no_one_to_swap_with(dataset):
    config = WrongModalitySplit(modality="m", ood_broken=0, train_broken=0.015)
    with pytest.raises(ConfigError, match="at least 2 items"):
        make_split(dataset, config, seed=0)


@BOTH
def test_a_column_of_the_data_is_not_replaced(dataset, protocol):
    columns = replace(dataset.columns, item={**dataset.columns.item, "batch": dataset.columns.item["genre"]})
    with pytest.raises(ConfigError, match="the data have a column batch"):
        make_split(replace(dataset, columns=columns), protocol(modality="m"), seed=0)
