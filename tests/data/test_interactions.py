from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.data.interactions import Interactions, among

PAIRS = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=40).map(sorted)


def interactions(pairs: list[tuple[int, int]]) -> Interactions:
    columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return Interactions(user=columns[:, 0], item=columns[:, 1], n_users=7, n_items=9)


@given(PAIRS, st.randoms(use_true_random=False))
def test_csr_lists_each_users_items_in_order(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    offsets, items = interactions(shuffled).by_user()
    assert offsets.shape == (8,)
    for user in range(7):
        assert items[offsets[user] : offsets[user + 1]].tolist() == [i for u, i in pairs if u == user]


@given(PAIRS)
def test_cells_number_the_pairs_in_the_order_of_their_users_and_items(pairs):
    cells = interactions(pairs).cells()
    assert cells.dtype == torch.int64
    assert cells.tolist() == [9 * user + item for user, item in pairs] == sorted(cells.tolist())


@given(PAIRS)
def test_degrees_count_rows_and_keep_the_ones_without(pairs):
    data = interactions(pairs)
    assert data.user_degree().tolist() == [sum(u == user for u, _ in pairs) for user in range(7)]
    assert data.item_degree().tolist() == [sum(i == item for _, i in pairs) for item in range(9)]
    assert data.user_degree().dtype == torch.float32


def test_select_takes_rows_by_index_and_by_mask_and_keeps_the_id_space():
    data = interactions([(0, 1), (2, 3), (4, 5)])
    by_index = data.select(torch.tensor([2, 0]))
    assert (by_index.user.tolist(), by_index.item.tolist()) == ([4, 0], [5, 1])
    by_mask = data.select(torch.tensor([True, False, True]))
    assert (by_mask.user.tolist(), by_mask.item.tolist()) == ([0, 4], [1, 5])
    assert (by_mask.n_users, by_mask.n_items, len(by_mask)) == (7, 9, 2)


def test_to_moves_both_columns():
    moved = interactions([(0, 1)]).to(torch.device("meta"))
    assert (moved.user.device.type, moved.item.device.type) == ("meta", "meta")
    assert (moved.n_users, moved.n_items) == (7, 9)


@given(st.lists(st.integers(-5, 20), max_size=30), st.lists(st.integers(-5, 20), max_size=30))
def test_among_is_membership(values, others):
    ascending = torch.tensor(sorted(others), dtype=torch.int64)
    found = among(torch.tensor(values, dtype=torch.int64), ascending)
    assert found.tolist() == [value in others for value in values]
