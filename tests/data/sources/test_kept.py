from __future__ import annotations

import numpy as np

from painvrl.data.cache import ArrayCache
from painvrl.data.sources.assemble import SourceConfig, assemble
from painvrl.data.sources.items import ItemDescriptions
from painvrl.data.sources.kept import kept_rows
from painvrl.data.sources.rows import RawInteractions, without_duplicates

BARE = ItemDescriptions(ids=np.zeros(0, dtype=np.int64), titles=())


def raw_of(pairs: np.ndarray, rating: np.ndarray | None = None) -> RawInteractions:
    return RawInteractions(user=pairs[:, 0] * 3 + 5, item=pairs[:, 1] * 7, rating=rating, file="f")


def test_rows_follow_the_interactions_through_the_filters(tmp_path):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 12, size=(80, 2)), axis=0)
    rng.shuffle(pairs)
    raw = raw_of(pairs, rng.integers(1, 6, len(pairs)).astype(np.float64))
    dataset = assemble("toy", raw, BARE, SourceConfig(core=3, min_rating=2), ArrayCache(tmp_path))
    rows = kept_rows(dataset, raw)
    assert 0 < len(rows) < len(pairs)
    np.testing.assert_array_equal(raw.user[rows], dataset.user_ids[dataset.interactions.user])
    np.testing.assert_array_equal(raw.item[rows], dataset.item_ids[dataset.interactions.item])


def test_of_repeated_pairs_it_is_the_row_that_was_kept(tmp_path):
    rng = np.random.default_rng(1)
    pairs = rng.integers(0, 5, size=(60, 2))
    time = rng.integers(0, 4, 60).astype(np.float64)
    raw = raw_of(pairs, rng.permutation(60).astype(np.float64))
    for times in (time, None):
        kept = without_duplicates(raw, times, duplicates="drop")
        dataset = assemble("toy", kept, BARE, SourceConfig(core=1), ArrayCache(tmp_path))
        rows = kept_rows(dataset, raw, times)
        assert sorted(raw.rating[rows].tolist()) == sorted(kept.rating.tolist())
        np.testing.assert_array_equal(raw.user[rows], dataset.user_ids[dataset.interactions.user])
