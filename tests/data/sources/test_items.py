from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.errors import DataError
from painvrl.data.cache import ArrayCache
from painvrl.data.sources.items import (
    NOTHING,
    ItemDescriptions,
    JoinedIds,
    described_modalities,
    has_every_modality,
    joined,
    labels_at,
    odd_names,
    split_names,
    titles_of,
)
from painvrl.data.sources.texts import Texts, as_objects, find
from painvrl.data.sources.values import KeyedValues


def ids(text: str) -> np.ndarray:
    return as_objects(text.split())


def keyed(of: str, values: list[list[float]], **more: object) -> KeyedValues:
    matrix = np.array(values, dtype=np.float32)
    return KeyedValues(ids=ids(of), values=matrix, rows=len(matrix), **more)  # type: ignore[arg-type]


def items(left: str, everyone: str | None = None) -> JoinedIds:
    return JoinedIds(of="items", everyone=ids(everyone or left), left=ids(left))


FILE = Path("look.npz")
LOOK = keyed("30 10", [[3.0, 3.5], [1.0, 1.5]])
TEXTS = st.text("01a", max_size=2)


@given(st.lists(TEXTS), st.sets(TEXTS).map(list))
def test_find_matches_a_dictionary(wanted, known):
    place = {identity: index for index, identity in enumerate(known)}
    found = find(as_objects(wanted), as_objects(known))
    assert found.tolist() == [place.get(identity, -1) for identity in wanted]
    assert found.dtype == np.int64


def test_joined_rows_are_in_the_order_of_the_items_and_zeros_where_missing():
    modality, _, findings = joined("look", items("10 20 30"), LOOK, file=FILE, key="k")
    assert modality.values.tolist() == [[1.0, 1.5], [0.0, 0.0], [3.0, 3.5]]
    assert modality.present.tolist() == [True, False, True]
    assert modality.values.dtype == torch.float32
    assert findings == ()


def test_a_join_counts_what_matched_what_was_filtered_and_what_no_interaction_has():
    look = keyed("30 40 10 50 60", [[3.0, 4.0], [9.0, 9.0], [0.0, 12.0], [1.0, 1.0], [1.0, 1.0]])
    _, join, _ = joined("look", items("10 20 30", "10 20 30 40 70"), look, file=FILE, key="data.files.look")
    assert (join.name, join.key, join.of) == ("look", "data.files.look", "items")
    assert (join.total, join.matched, join.rows, join.rows_filtered, join.rows_unmatched) == (3, 2, 5, 1, 2)
    assert (join.largest_column, join.largest_share) == ("1", pytest.approx(160 / 169))
    named = keyed("10", [[5.0, 1.0]], names=("f", "g"))
    assert joined("look", items("10"), named, file=FILE, key="k")[1].largest_column == "f"


COLUMNS = [[0.0, 1.0, 1.0, -9.0], [0.0, 1.0, 2.0, 1.0], [0.0, 1.0, 3.0, 1.0]]


def test_columns_that_say_nothing_and_columns_of_one_item_are_findings():
    look = keyed("10 20 30", COLUMNS, names=tuple("abcd"), findings=("before",))
    before, constant, zero, dominated = joined("look", items("10 20 30"), look, file=FILE, key="k")[2]
    assert before == "before"
    assert constant == "k: 1 column is the same for all items; the first is b"
    assert zero == "k: 1 column is zero for all items; the first is a"
    assert dominated == (
        "k: 2 columns are dominated by one item, which has more than half of the column's squared sum; "
        "the first is c, item 30"
    )
    counted = keyed("10 20 30", COLUMNS, counted=True)
    assert joined("look", items("10 20 30"), counted, file=FILE, key="k")[2] == ()


def test_a_file_of_other_items_is_an_error_that_shows_both_kinds_of_ids():
    with pytest.raises(
        DataError, match=r"look\.npz: data\.files\.look\.key: none of its 2 .*30.*tt1.*\(found 'ids'\)"
    ):
        joined("look", items("tt1 tt2"), LOOK, file=FILE, key="data.files.look", value="ids")


DESCRIBED = ItemDescriptions(
    ids=ids("10 20 30"),
    titles=("Ash", "", "Cedar"),
    texts=("Ash, grey", "", "Cedar"),
    categories=(("b", "a"), (), ("c",)),
    categories_name="genres",
)


def test_categories_are_columns_in_alphabetical_order(tmp_path, fake_encoder):
    modalities, joins, notes = described_modalities(items("30 10 40"), DESCRIBED, ArrayCache(tmp_path))
    assert list(modalities) == ["text", "genres"]
    assert modalities["genres"].values.tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert modalities["genres"].present.tolist() == [True, True, False]
    assert [(join.name, join.matched, join.total) for join in joins] == [("text", 2, 3), ("genres", 2, 3)]
    assert notes == ()
    assert (joins[1].largest_column, joins[1].largest_share) == ("a", pytest.approx(1 / 3))


def test_texts_are_encoded_for_the_items_that_are_left(tmp_path, fake_encoder):
    modalities, (join, _), _ = described_modalities(
        items("30 20", "30 20 10"), DESCRIBED, ArrayCache(tmp_path)
    )
    assert fake_encoder == [["Cedar"]]
    assert modalities["text"].present.tolist() == [True, False]
    assert modalities["text"].values[:, 0].tolist() == [5.0, 0.0]
    assert (join.matched, join.rows, join.rows_filtered, join.rows_unmatched) == (1, 3, 1, 0)


def test_texts_that_the_encoder_cuts_are_noted(tmp_path, fake_encoder):
    long = replace(DESCRIBED, texts=("a" * 41, "b" * 41, "c"))
    _, _, notes = described_modalities(items("10 20 30"), long, ArrayCache(tmp_path))
    assert notes == ("text: the encoder read the first 64 tokens of 2 longer texts",)


def test_a_modality_that_no_item_has_is_an_error(tmp_path, fake_encoder):
    with pytest.raises(DataError, match=r"data: no item that is left has this modality \(found 'text'\)"):
        described_modalities(items("20"), DESCRIBED, ArrayCache(tmp_path))


def test_ids_none_of_which_is_known_are_shown_beside_those_of_the_interactions(tmp_path, fake_encoder):
    with pytest.raises(DataError, match=r"it has 10, 20, 30, \.\.\., and the interactions 50, \.\.\."):
        described_modalities(items("50"), DESCRIBED, ArrayCache(tmp_path))


def test_titles_and_labels_are_in_the_order_of_the_items_and_empty_where_unknown():
    assert titles_of(ids("40 30 20 10"), DESCRIBED) == ("", "Cedar", "", "Ash")
    labels = labels_at(ids("40 30 10"), DESCRIBED.ids, {"x": ["a", "bb", "ccc"]})
    assert labels["x"].tolist() == ["", "ccc", "a"]


def test_every_modality_means_text_categories_and_each_file():
    rows = Texts.of(["10", "20", "30", "10", "40"])
    assert has_every_modality(rows, DESCRIBED, {}).tolist() == [True, False, True, True, False]
    assert has_every_modality(rows, DESCRIBED, {"a": LOOK, "b": keyed("10", [[0.0]])}).tolist() == [
        True, False, False, True, False
    ]  # fmt: skip
    assert has_every_modality(rows, NOTHING, {"a": LOOK}).tolist() == [True, False, True, True, False]


def test_names_are_split_as_they_stand_and_without_empty_ones():
    assert split_names(" a |b||c d", "|") == (" a ", "b", "c d")
    assert split_names("", "|") == ()


def test_names_with_a_blank_beside_them_are_named():
    assert odd_names([("a", "b c"), ()], key="k") == ()
    (finding,) = odd_names([("a", " a"), ("b ", " a")], key="k")
    assert finding == (
        "k: 2 category names begin or end with a blank, such as ' a'; each is another name than without it. "
        "A separator may hold blanks"
    )


def test_pieces_of_a_printed_list_are_named():
    assert odd_names([("[live]",), ("O'Hara",)], key="k") == ()
    (finding,) = odd_names([split_names(text, ", ") for text in ("['a', 'b']", "['c']")], key="k")
    assert finding.startswith("k: 3 category names are pieces of printed lists, such as \"'b']\"; write")


def test_a_matrix_in_the_order_of_the_items_is_not_copied():
    whole = keyed("10 30", [[3.0, 3.5], [1.0, 1.5]])
    shared, _, _ = joined("look", items("10 30"), whole, file=FILE, key="k")
    assert np.shares_memory(shared.values.numpy(), whole.values)
    before = LOOK.values.copy()
    for left in ("30", "10 30", "30 10 40", "20 10"):
        known = dict(zip(LOOK.ids.tolist(), before.tolist(), strict=True))
        modality, _, _ = joined("look", items(left), LOOK, file=FILE, key="k")
        assert modality.values.tolist() == [known.get(one, [0.0, 0.0]) for one in left.split()]
    np.testing.assert_array_equal(LOOK.values, before)
