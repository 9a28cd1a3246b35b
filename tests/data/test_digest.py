from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from painvrl.data.dataset import Modality
from painvrl.data.digest import (
    dataset_fingerprint,
    digest_for_all_seeds,
    digest_of,
    digest_of_file,
    digest_of_interactions,
    digested_ids,
)
from painvrl.data.sources import PlantedConfig, load
from painvrl.data.sources.texts import as_objects


def test_equal_content_has_an_equal_digest():
    assert digest_of(np.arange(3), ["a"], {"x": 1, "y": 2}) == digest_of(
        np.array([0, 1, 2]), ["a"], {"y": 2, "x": 1}
    )


def test_dtype_shape_bytes_order_and_borders_of_parts_all_count():
    digests = [
        digest_of(np.zeros(4, dtype=np.int64)),
        digest_of(np.zeros(4, dtype=np.float64)),
        digest_of(np.zeros((2, 2), dtype=np.int64)),
        digest_of(np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)),
        digest_of("ab", "c"),
        digest_of("a", "bc"),
        digest_of("bc", "a"),
        digest_of("1"),
        digest_of(1),
    ]
    assert len(set(digests)) == len(digests)


def test_the_width_of_a_string_array_does_not_count():
    assert digest_of(np.array(["a", "b"], dtype="<U9")) == digest_of(np.array(["a", "b"]))


def test_memory_layout_does_not_count():
    matrix = np.arange(6).reshape(2, 3)
    assert digest_of(matrix) == digest_of(np.asfortranarray(matrix))


def test_a_file_is_digested_by_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x" * 3_000_000)
    two.write_bytes(b"x" * 3_000_000)
    assert digest_of_file(one) == digest_of_file(two)
    two.write_bytes(b"x" * 2_999_999 + b"y")
    assert digest_of_file(one) != digest_of_file(two)


def test_ids_that_are_all_integers_are_digested_as_numbers(make_dataset):
    numbers = np.array([-(10**17), 0, 7, 10**18 - 1])
    texts = as_objects([str(number) for number in numbers.tolist()])
    assert digest_of(digested_ids(texts)) == digest_of(numbers)
    data = make_dataset(n_users=4, n_rows=90)
    user, item = data.interactions.user.numpy(), data.interactions.item.numpy()
    assert digest_of_interactions(data.interactions, texts, data.item_ids) == digest_of(
        numbers, data.item_ids, user, item
    )


@pytest.mark.parametrize("text", ["07", "1.0", "-0", "+1", " 1", "1_0", "\u0661", "1000000000000000000"])
def test_one_text_that_no_short_integer_prints_as_makes_all_ids_texts(text):
    ids = as_objects(["3", text])
    assert digest_of(digested_ids(ids)) == digest_of(["3", text])


def test_a_data_sets_fingerprint_sees_everything_that_training_sees(make_dataset):
    data = make_dataset()

    def fingerprint(interactions=data.interactions, items=data.item_ids, modalities=data.modalities):
        return dataset_fingerprint(interactions, data.user_ids, items, modalities)

    modality = data.modalities["m"]
    values = modality.values.clone()
    values[0, 0] = torch.nextafter(values[0, 0], torch.tensor(9.0))
    one_less = data.interactions.select(torch.arange(len(data.interactions) - 1))
    absent = modality.present.clone()
    absent[4] = False
    others = [
        fingerprint(interactions=one_less),
        fingerprint(interactions=dataclasses.replace(data.interactions, item=data.interactions.item.flip(0))),
        fingerprint(items=data.item_ids[::-1]),
        fingerprint(modalities={}),
        fingerprint(modalities={"n": modality}),
        fingerprint(modalities={"m": Modality(values=values, present=modality.present)}),
        fingerprint(modalities={"m": Modality(values=modality.values, present=absent)}),
    ]
    assert fingerprint() == fingerprint()
    assert len({fingerprint(), *others}) == len(others) + 1


def test_what_all_seeds_share_is_features_and_columns_and_no_seed(make_dataset, tmp_path):
    data = make_dataset()

    def columns(**changed):
        return dataclasses.replace(data, columns=dataclasses.replace(data.columns, **changed))

    labels = np.array(["a"] * len(data.interactions))
    others = [
        dataclasses.replace(data, fingerprint="other"),
        columns(time=torch.arange(len(data.interactions), dtype=torch.float64)),
        columns(interaction={"part": labels}),
        columns(interaction={"trap": labels}),
        columns(item={"part": labels[: len(data.item_ids)]}),
        columns(user={"part": labels[: len(data.user_ids)]}),
    ]
    digests = {digest_for_all_seeds(one) for one in (data, *others)}
    assert len(digests) == len(others) + 1
    assert digest_for_all_seeds(make_dataset()) in digests
    one, two = (load(PlantedConfig(n_users=30, n_items=20), cache_dir=tmp_path, seed=seed) for seed in (0, 1))
    assert one.fingerprint != two.fingerprint
    assert digest_for_all_seeds(one) == digest_for_all_seeds(two)
