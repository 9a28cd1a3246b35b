from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from painvrl.core.errors import ConfigError
from painvrl.data.dataset import Dataset
from painvrl.data.parts import is_scored_name
from painvrl.data.splits import GivenSplit, OfficialSplit, make_split


def labelled(dataset: Dataset, labels) -> Dataset:
    columns = dataclasses.replace(dataset.columns, interaction={"part": np.array(labels)})
    return dataclasses.replace(dataset, columns=columns)


def test_every_row_is_in_the_part_that_its_label_names(dataset, parts_of, pairs):
    parts = {
        name: set(pairs(part)) for name, part in parts_of(make_split(dataset, GivenSplit(), seed=0)).items()
    }
    warm = {item for _, item in parts["train"]}
    labels = dataset.columns.interaction["part"].tolist()
    for pair, label in zip(pairs(dataset.interactions), labels, strict=True):
        assert (pair in parts[label]) is (not label.startswith("iid") or pair[1] in warm)


def test_labels_can_stand_for_parts(dataset, parts_of, pairs):
    names = {"iid_valid": "v", "ood_far_test": "later, far", "train": "train"}
    labels = [names.get(label, label) for label in dataset.columns.interaction["part"].tolist()]
    config = GivenSplit(parts={"v": "iid_valid", "later, far": "ood_far_test"})
    one = parts_of(make_split(labelled(dataset, labels), config, seed=0))
    two = parts_of(make_split(dataset, GivenSplit(), seed=0))
    assert {k: pairs(v) for k, v in one.items()} == {k: pairs(v) for k, v in two.items()}


def test_two_labels_may_stand_for_one_part(dataset, parts_of):
    labels = dataset.columns.interaction["part"].astype("<U20")
    labels[(labels == "ood_valid") & (np.arange(1500) % 2 == 0)] = "more"
    one = parts_of(make_split(labelled(dataset, labels), GivenSplit(parts={"more": "ood_valid"}), seed=0))
    two = parts_of(make_split(dataset, GivenSplit(), seed=0))
    assert len(one["ood_valid"]) == len(two["ood_valid"])
    assert len(one["train"]) == len(two["train"])


def test_unknown_labels_are_one_refusal_that_names_them(dataset):
    labels = dataset.columns.interaction["part"].astype("<U20")
    labels[:9] = ["", "trian", "ood_test_valid", "ood", "iid_x_valid", "", "valid", "ood_a b_test", "trian"]
    with pytest.raises(
        ConfigError, match=r"split\.parts: labels of the column part must be train, "
    ) as caught:
        make_split(labelled(dataset, labels), GivenSplit(), seed=0)
    assert (
        caught.value.value == "'', 'iid_x_valid', 'ood', 'ood_a b_test', 'ood_test_valid', 'trian', 'valid'"
    )


def test_a_mapping_to_no_part_is_refused_at_load():
    with pytest.raises(ValidationError, match=r"labels must stand for train, .*\(found iid\)"):
        GivenSplit(parts={"a": "iid", "b": "train"})


@pytest.mark.parametrize("missing", ["ood_valid", "ood_far_test"])
def test_half_an_ood_part_is_refused(dataset, missing):
    labels = np.where(
        dataset.columns.interaction["part"] == missing, "train", dataset.columns.interaction["part"]
    )
    with pytest.raises(ConfigError, match=rf"split\.parts: no label of the column part stands for {missing}"):
        make_split(labelled(dataset, labels), GivenSplit(), seed=0)


def test_no_ood_part_at_all_is_refused(dataset):
    labels = np.where(np.arange(1500) % 3 == 0, "iid_valid", "train")
    labels = np.where(np.arange(1500) % 7 == 0, "iid_test", labels)
    with pytest.raises(ConfigError, match="stands for ood_valid"):
        make_split(labelled(dataset, labels), GivenSplit(), seed=0)


def test_a_missing_iid_part_is_refused(dataset):
    labels = dataset.columns.interaction["part"]
    labels = np.where(labels == "iid_test", "iid_valid", labels)
    with pytest.raises(ConfigError, match="leaves iid_test without an interaction"):
        make_split(labelled(dataset, labels), GivenSplit(), seed=0)


def test_ood_is_ranked_among_all_items_or_among_those_of_the_ood_parts(dataset, tests_of):
    assert make_split(dataset, GivenSplit(), seed=0).ood_valid.candidates.all()
    with pytest.raises(ConfigError, match=r"split\.ood_candidates: held_out needs .*other interactions"):
        make_split(dataset, GivenSplit(ood_candidates="held_out"), seed=0)
    item = dataset.interactions.item.numpy()
    cold = np.where(item % 2 == 0, "ood_valid", "ood_b_test")
    cold = np.where(item % 4 == 1, "ood_test", np.where(item % 4 == 2, "ood_b_valid", cold))
    usual = np.where(np.arange(1500) % 5 == 0, "iid_valid", "train")
    usual = np.where(np.arange(1500) % 5 == 1, "iid_test", usual)
    config = GivenSplit(ood_candidates="held_out")
    split = make_split(labelled(dataset, np.where(item >= 50, cold, usual)), config, seed=0)
    expected = (dataset.interactions.item_degree() > 0).numpy() & (np.arange(90) >= 50)
    for part in (split.ood_valid, split.valid["ood_b"], tests_of(split)["ood"]):
        assert part.candidates.numpy().tolist() == expected.tolist()
        assert part.held_out


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("iid", True),
        ("ood", True),
        ("ood_far", True),
        ("ood_gamma_0.5", True),
        ("ood_test_city", True),
        ("ood_test", False),
        ("ood_valid", False),
        ("ood_far_test", False),
        ("ood_far_valid", False),
        ("ood_", False),
        ("ood_a/b", False),
        ("iid_far", False),
        ("iid_test", False),
        ("train", False),
    ],
)
def test_names_of_parts_are_never_those_of_sealed_ones(name, fits):
    assert is_scored_name(name) is fits


@pytest.mark.parametrize("config", [GivenSplit(), OfficialSplit()])
def test_a_column_in_which_merged_rows_differ_is_no_split(dataset, config):
    columns = dataclasses.replace(dataset.columns, contradictions={"part": "3 rows say otherwise"})
    with pytest.raises(
        ConfigError, match=r"split\.column: .* of one pair: 3 rows say otherwise; .*\(found 'part'\)"
    ):
        make_split(dataclasses.replace(dataset, columns=columns), config, seed=0)
