from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.model.pairs import Pairs, canonical_order, half_sums, pair_scores, sort_pairs, weighted_rows

LISTED = ((2, 1), (0, 3), (0, 3), (4, 0), (2, 0), (0, 1))  # users 1 and 3, item 2 have no pair; one twice
USERS, ITEMS = 5, 4


def index(listed: Sequence[tuple[int, int]], n_users: int = USERS, n_items: int = ITEMS) -> Pairs:
    columns = torch.tensor(listed, dtype=torch.long).reshape(-1, 2)
    return sort_pairs(Interactions(user=columns[:, 0], item=columns[:, 1], n_users=n_users, n_items=n_items))


def vectors(width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    users = torch.randn(USERS, width, generator=draw, dtype=torch.float64)
    items = torch.randn(ITEMS, width, generator=draw, dtype=torch.float64)
    return users.requires_grad_(), items.requires_grad_()


def gathered(users: Tensor, items: Tensor, pairs: Pairs) -> Tensor:
    """The oracle: both rows of every pair, multiplied one by one."""
    return torch.stack([(users[u] * items[i]).sum() for u, i in zip(pairs.user, pairs.item, strict=True)])


listings = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), min_size=1, max_size=25)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(listed=listings, width=st.integers(1, 5), seed=st.integers(0, 1000))
def test_scores_and_both_gradients_equal_the_gathered_ones(
    listed: list[tuple[int, int]], width: int, seed: int
) -> None:
    pairs = index(listed)
    users, items = vectors(width, seed)
    weights = torch.randn(len(pairs), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scores, expected = pair_scores(users, items, pairs), gathered(users, items, pairs)
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((scores * weights).sum(), (users, items))
    wanted = torch.autograd.grad((expected * weights).sum(), (users, items))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_gradients_pass_gradcheck() -> None:
    pairs = index(LISTED)
    assert torch.autograd.gradcheck(lambda u, i: pair_scores(u, i, pairs), vectors(3))


def test_a_summed_score_has_its_gradient() -> None:
    # The gradient of a sum arrives as an expanded tensor without memory of its own.
    pairs = index(LISTED)
    users, items = vectors(3)
    found = torch.autograd.grad(pair_scores(users, items, pairs).sum(), (users, items))
    wanted = torch.autograd.grad(gathered(users, items, pairs).sum(), (users, items))
    torch.testing.assert_close(found, wanted)


def test_only_the_asked_gradient_is_computed() -> None:
    pairs = index(LISTED)
    users, items = vectors(3)
    pair_scores(users.detach(), items, pairs).sum().backward()
    assert items.grad is not None
    other_users, other_items = vectors(3)
    pair_scores(other_users, other_items.detach(), pairs).sum().backward()
    assert other_users.grad is not None
    assert other_items.grad is None


def test_rows_without_a_pair_have_no_gradient() -> None:
    users, items = vectors(3)
    pair_scores(users, items, index(LISTED)).square().sum().backward()
    assert users.grad is not None
    assert items.grad is not None
    assert users.grad[[1, 3]].abs().sum() == 0
    assert items.grad[2].abs().sum() == 0
    assert (users.grad[[0, 2, 4]].abs().sum(dim=1) > 0).all()


def test_vectors_without_columns_score_zero() -> None:
    scores = pair_scores(torch.zeros(USERS, 0), torch.zeros(ITEMS, 0), index(LISTED))
    assert torch.equal(scores, torch.zeros(len(LISTED)))


def test_second_gradients_pass_gradcheck() -> None:
    pairs = index(LISTED)
    assert torch.autograd.gradgradcheck(lambda u, i: pair_scores(u, i, pairs), vectors(3))


def looped_half_sums(weights: Tensor, users: Tensor, half: Tensor, pairs: Pairs) -> Tensor:
    """The oracle: one pair after the other."""
    sums = [[torch.zeros_like(users[0]) for _ in range(ITEMS)] for _ in range(2)]
    for n, (user, item) in enumerate(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True)):
        sums[int(half[n])][item] = sums[int(half[n])][item] + weights[n] * users[user]
    return torch.stack([torch.stack(rows) for rows in sums])


@settings(deadline=None, derandomize=True, max_examples=30)
@given(listed=listings, width=st.integers(1, 5), seed=st.integers(0, 1000))
def test_half_sums_and_their_gradient_equal_the_looped_ones(
    listed: list[tuple[int, int]], width: int, seed: int
) -> None:
    pairs, draw = index(listed), torch.Generator().manual_seed(seed)
    users = vectors(width, seed)[0].detach()
    weights = torch.randn(len(pairs), generator=draw, dtype=torch.float64).requires_grad_()
    half = torch.randint(2, (len(pairs),), generator=draw)
    probe = torch.randn(2, ITEMS, width, generator=draw, dtype=torch.float64)
    found, wanted = half_sums(weights, users, half, pairs), looped_half_sums(weights, users, half, pairs)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    (slope,) = torch.autograd.grad((found * probe).sum(), weights)
    (expected,) = torch.autograd.grad((wanted * probe).sum(), weights)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


def test_operators_keep_torchs_rules_for_operators() -> None:
    pairs = index(LISTED)
    users, items = (tensor.detach() for tensor in vectors(3))
    checks = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_dynamic")
    torch.library.opcheck(
        torch.ops.painvrl.pair_scores.default,
        (users.requires_grad_(), items.requires_grad_(), *pairs.indices),
        test_utils=checks,
    )
    half = torch.zeros(len(pairs), dtype=torch.long)
    torch.library.opcheck(
        torch.ops.painvrl.half_sums.default,
        (torch.ones(len(pairs)).double().requires_grad_(), users.detach(), half, *pairs.indices),
        test_utils=checks,
    )


def test_gradients_flow_where_the_caller_switched_them_off_and_on() -> None:
    users, items = vectors(2)
    with torch.no_grad():
        scores = pair_scores(users, items, index(LISTED))
    assert not scores.requires_grad
    torch.testing.assert_close(scores, gathered(users, items, index(LISTED)).detach())


@settings(deadline=None, derandomize=True, max_examples=30)
@given(listed=listings)
def test_both_orders_list_the_same_pairs(listed: list[tuple[int, int]]) -> None:
    pairs = index(listed)
    canonical = list(zip(pairs.user.tolist(), pairs.item.tolist(), strict=True))
    assert canonical == sorted(listed)
    by_item = [canonical[place] for place in pairs.by_item.tolist()]
    assert [item for _, item in by_item] == sorted(item for _, item in listed)
    assert [user for user, _ in by_item] == pairs.user_by_item.tolist()
    for user in range(USERS):
        start, stop = pairs.user_offsets[user : user + 2].tolist()
        assert canonical[start:stop] == [pair for pair in sorted(listed) if pair[0] == user]
    for item in range(ITEMS):
        start, stop = pairs.item_offsets[item : item + 2].tolist()
        assert all(by_item[place][1] == item for place in range(start, stop))
    assert pairs.user_offsets[-1] == pairs.item_offsets[-1] == len(pairs) == len(listed)


def test_the_canonical_order_does_not_depend_on_the_listing() -> None:
    straight, turned = index(LISTED), index(LISTED[::-1])
    assert torch.equal(straight.user, turned.user)
    assert torch.equal(straight.item, turned.item)
    columns = torch.tensor(LISTED)
    interactions = Interactions(user=columns[:, 0], item=columns[:, 1], n_users=USERS, n_items=ITEMS)
    order = canonical_order(interactions)
    assert [LISTED[place] for place in order.tolist()] == sorted(LISTED)


def test_bags_sum_their_weighted_rows() -> None:
    rows = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    sums = weighted_rows(
        rows, torch.tensor([2, 0, 1, 1]), torch.tensor([1.0, -1.0, 0.5, 2.0]), torch.tensor([0, 2, 2, 4])
    )
    assert sums.tolist() == [[2.0, 20.0], [0.0, 0.0], [5.0, 50.0]]


def test_scores_are_bit_for_bit_the_gradient_of_a_bags_weights() -> None:
    # How they were computed before: with the forward pass of the bag in front.
    draw = torch.Generator().manual_seed(3)
    cells = torch.randperm(60 * 40, generator=draw)[:700]
    pairs = index([(int(cell) // 40, int(cell) % 40) for cell in cells], 60, 40)
    users, items = torch.randn(60, 24, generator=draw), torch.randn(40, 24, generator=draw)
    weights = torch.zeros(len(pairs), requires_grad=True)
    bags = weighted_rows(items, pairs.item, weights, pairs.user_offsets)
    (before,) = torch.autograd.grad((bags * users).sum(), weights)
    assert torch.equal(pair_scores(users, items, pairs), before)
