from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from painvrl.core.errors import DataError
from painvrl.data.sources import words
from painvrl.data.sources.values import KeyedValues
from painvrl.data.sources.words import bag_of_words, is_index_pairs

FILE = Path("feat_t.pt")
# Items 0, 1, 1, 1, 3, 3, 4; word 9 twice in item 1, word 2 in three items, words 5 and 9 in one each.
PAIRS = np.array([[3, 0, 1, 1, 1, 3, 4], [2, 2, 9, 9, 2, 0, 0]])


def keyed_bag(pairs: np.ndarray, **changes: object) -> KeyedValues:
    settings = {"n_users": 7, "n_items": 6, "vocabulary": 100, "file": FILE, "key": "k", **changes}
    return bag_of_words(pairs, **settings)  # type: ignore[arg-type]


def bag(pairs: np.ndarray, **changes: object) -> tuple[list[int], list[list[float]]]:
    keyed = keyed_bag(pairs, **changes)
    assert keyed.values.dtype == np.float32
    assert all(isinstance(identity, str) for identity in keyed.ids)
    return [int(identity) for identity in keyed.ids], keyed.values.tolist()


def test_words_are_counted_in_the_order_of_their_indices():
    assert bag(PAIRS) == ([0, 1, 3, 4], [[0, 1, 0], [0, 1, 2], [1, 1, 0], [1, 0, 0]])


def test_ids_offset_by_the_number_of_users_are_the_same_items():
    assert bag(PAIRS + np.array([[7], [0]])) == bag(PAIRS)


def test_the_words_of_most_items_are_kept_and_items_without_any_are_absent():
    # Word 2 is in three items, word 0 in two, word 9 in one, though it occurs twice.
    assert bag(PAIRS, vocabulary=2) == ([0, 1, 3, 4], [[0, 1], [0, 1], [1, 1], [1, 0]])
    assert bag(PAIRS, vocabulary=1) == ([0, 1, 3], [[1], [1], [1]])


def test_columns_are_named_by_their_word_and_words_that_are_left_out_are_noted():
    everything, two, one = (keyed_bag(PAIRS, vocabulary=words) for words in (3, 2, 1))
    assert everything.names == ("word 0", "word 2", "word 9")
    assert (everything.counted, everything.rows, everything.notes) == (True, 4, ())
    start = "k: the {} words that most items have are kept of 3 (data.vocabulary)"
    assert two.notes == (start.format(2),)
    assert (one.rows, one.notes) == (4, (f"{start.format(1)}; 1 items have none of them",))


def test_among_equally_common_words_the_first_ones_are_kept():
    pairs = np.array([[0, 1, 2, 3], [8, 3, 5, 4]])
    assert bag(pairs, vocabulary=2) == ([1, 3], [[1, 0], [0, 1]])


def test_the_bag_times_an_embedding_is_the_sum_of_the_words_embeddings():
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, 6, 40), rng.integers(0, 5, 40)])
    embedding = torch.from_numpy(rng.standard_normal((5, 3)).astype(np.float32))
    ids, values = bag(pairs)
    sums = torch.zeros(6, 3).index_add(0, torch.from_numpy(pairs[0]), embedding[torch.from_numpy(pairs[1])])
    torch.testing.assert_close(torch.tensor(values) @ embedding, sums[ids])


def test_the_counts_match_a_slow_loop():
    rng = np.random.default_rng(1)
    pairs = np.stack([rng.integers(0, 6, 60), rng.choice([2, 3, 11, 40, 41], 60)])
    counts = Counter(map(tuple, pairs.T.tolist()))
    kept = sorted({word for _, word in counts}, key=lambda w: (-sum(one == w for _, one in counts), w))[:3]
    ids, values = bag(pairs, vocabulary=3)
    for item, row in zip(ids, values, strict=True):
        assert row == [counts[item, word] for word in sorted(kept)]


def test_index_pairs_are_two_rows_of_whole_numbers():
    assert is_index_pairs(PAIRS)
    assert not is_index_pairs(PAIRS.astype(np.float32))
    assert not is_index_pairs(PAIRS.T)
    assert not is_index_pairs(np.zeros((2, 0), dtype=np.int64))


@pytest.mark.parametrize(
    ("pairs", "sizes", "message"),
    [
        ([[0, 6], [1, 1]], (7, 6), r"item indices from 0 to 5, or ids from 7 to 12, .*items 0 to 6"),
        ([[7, 13], [1, 1]], (7, 6), r"item indices from 0 to 5, or ids from 7 to 12, .*items 7 to 13"),
        ([[-1, 2], [1, 1]], (7, 6), r"item indices from 0 to 5, .*items -1 to 2"),
        ([[0, 2], [1, -4]], (7, 6), r"words from 0 on \(found 'items 0 to 2, words from -4'\)"),
        ([[3, 4], [1, 1]], (2, 6), r"can be read as item indices and as ids .* users, 2; .*data\.files"),
    ],
)
def test_indices_that_fit_no_or_both_readings_are_an_error(pairs, sizes, message):
    with pytest.raises(DataError, match=rf"^feat_t\.pt: k: row 0 .*{message}"):
        bag(np.array(pairs), n_users=sizes[0], n_items=sizes[1])


def test_a_bag_that_would_fill_the_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(words, "MAX_BYTES", 4 * 3 * 4 - 1)
    with pytest.raises(
        DataError, match=r"feat_t\.pt: data\.vocabulary: 3 words for 4 items .*lower it \(found 100\)"
    ):
        bag(PAIRS)
    assert len(bag(PAIRS, vocabulary=2)[0]) == 4
