from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.data.cache import ArrayCache
from painvrl.data.sources.items import (
    ItemDescriptions,
    described_modalities,
    find,
    fits_table,
    has_every_modality,
    joined,
    numbered,
    split_names,
    titles_of,
)
from painvrl.data.sources.modality_file import KeyedValues, ModalityFile
from painvrl.errors import DataError

SOURCE = ModalityFile(path=Path("look.npz"), key="ids", values="look")
KEYED = KeyedValues(ids=np.array([30, 10]), values=np.array([[3.0, 3.5], [1.0, 1.5]], dtype=np.float32))


@given(st.lists(st.integers(0, 9)), st.sets(st.integers(0, 9)).map(list))
def test_find_matches_a_dictionary(wanted, known):
    place = {identity: index for index, identity in enumerate(known)}
    expected = [place.get(identity, -1) for identity in wanted]
    for left in (np.array(wanted, dtype=np.int64), np.array(wanted, dtype=np.int64).astype(np.str_)):
        for right in (np.array(known, dtype=np.int64), np.array(known, dtype=np.int64).astype(np.str_)):
            assert find(left, right).tolist() == expected


def test_joined_rows_are_in_the_order_of_the_items_and_zeros_where_missing():
    modality = joined(np.array([10, 20, 30]), KEYED, file=SOURCE.path, key="k")
    assert modality.values.tolist() == [[1.0, 1.5], [0.0, 0.0], [3.0, 3.5]]
    assert modality.present.tolist() == [True, False, True]
    assert modality.values.dtype == torch.float32


def test_a_file_of_other_items_is_an_error_that_shows_both_kinds_of_ids():
    with pytest.raises(
        DataError, match=r"look\.npz: data\.files\.look\.key: none of its 2 .*30.*tt1.*\(found 'ids'\)"
    ):
        joined(np.array(["tt1", "tt2"]), KEYED, file=SOURCE.path, key="data.files.look.key", value=SOURCE.key)


DESCRIBED = ItemDescriptions(
    ids=np.array([10, 20, 30]),
    titles=("Ash", "", "Cedar"),
    texts=("Ash, grey", "", "Cedar"),
    categories=(("b", "a"), (), ("c",)),
    categories_name="genres",
)


def test_categories_are_columns_in_alphabetical_order(tmp_path, fake_encoder):
    modalities = described_modalities(np.array([30, 10, 40]), DESCRIBED, ArrayCache(tmp_path))
    assert list(modalities) == ["text", "genres"]
    assert modalities["genres"].values.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert modalities["genres"].present.tolist() == [True, True, False]


def test_texts_are_encoded_for_the_items_that_are_left(tmp_path, fake_encoder):
    text = described_modalities(np.array([30, 20]), DESCRIBED, ArrayCache(tmp_path))["text"]
    assert fake_encoder == [["Cedar"]]
    assert text.present.tolist() == [True, False]
    assert text.values[:, 0].tolist() == [5.0, 0.0]


def test_a_modality_that_no_item_has_is_an_error(tmp_path, fake_encoder):
    with pytest.raises(DataError, match=r"data: no item that is left has this modality \(found 'text'\)"):
        described_modalities(np.array([20]), DESCRIBED, ArrayCache(tmp_path))


def test_titles_fall_back_to_the_raw_id():
    assert titles_of(np.array([10, 20, 30, 40]), DESCRIBED) == ("Ash", "20", "Cedar", "40")


def test_every_modality_means_text_categories_and_each_file():
    items = np.array([10, 20, 30, 10, 40])
    assert has_every_modality(items, DESCRIBED, {}).tolist() == [True, False, True, True, False]
    only_ten = KeyedValues(ids=np.array([10]), values=np.zeros((1, 2), dtype=np.float32))
    assert has_every_modality(items, DESCRIBED, {"a": KEYED, "b": only_ten}).tolist() == [
        True, False, False, True, False
    ]  # fmt: skip
    bare = ItemDescriptions(ids=np.zeros(0, dtype=np.int64), titles=())
    assert has_every_modality(items, bare, {"a": KEYED}).tolist() == [True, False, True, True, False]


def test_names_are_split_without_blanks_and_empty_ones():
    assert split_names(" a |b||c d", "|") == ("a", "b", "c d")
    assert split_names("", "|") == ()


@pytest.mark.parametrize("scale", [1, 1_000_000], ids=["by a table", "by sorting"])
def test_ids_are_found_and_numbered_as_a_slow_loop_does(scale):
    rng = np.random.default_rng(0)
    known = rng.permutation(40)[:25] * scale
    wanted = np.concatenate([rng.integers(-5, 60, 200) * scale, known])
    assert fits_table(known) == (scale == 1)
    place = {one: index for index, one in enumerate(known.tolist())}
    assert find(wanted, known).tolist() == [place.get(one, -1) for one in wanted.tolist()]
    ids = known[rng.integers(0, 25, 100)]
    distinct, index = numbered(ids)
    assert distinct.tolist() == sorted(set(ids.tolist()))
    assert distinct[index].tolist() == ids.tolist()
    assert index.dtype == np.int64


def test_negative_ids_and_texts_are_numbered_by_sorting():
    for ids in (np.array([3, -1, 3, 0]), np.array(["b", "a", "b", "aa"])):
        assert not fits_table(ids)
        distinct, index = numbered(ids)
        assert distinct.tolist() == sorted(set(ids.tolist()))
        assert distinct[index].tolist() == ids.tolist()
    assert numbered(np.zeros(0, dtype=np.int64))[0].tolist() == []
    assert find(np.array([-1, 5]), np.array([5, -1])).tolist() == [1, 0]


def test_a_matrix_in_the_order_of_the_items_is_not_copied():
    whole = KeyedValues(ids=np.array([10, 30]), values=KEYED.values)
    assert np.shares_memory(joined(whole.ids, whole, file=SOURCE.path, key="k").values.numpy(), whole.values)
    before = KEYED.values.copy()
    for ids in ([30], [10, 30], [30, 10, 40], [20, 10]):
        modality = joined(np.array(ids), KEYED, file=SOURCE.path, key="k")
        known = {30: [3.0, 3.5], 10: [1.0, 1.5]}
        assert modality.values.tolist() == [known.get(one, [0.0, 0.0]) for one in ids]
    np.testing.assert_array_equal(KEYED.values, before)
