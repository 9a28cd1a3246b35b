from __future__ import annotations

import torch

from painvrl.baselines.negatives import NegativeSampler
from painvrl.data.interactions import Interactions

# Item 3 is cold; user 0 took 0 and 1 of the warm items 0, 1, 2, 4, user 1 took 4, user 2 all of them.
TRAIN = Interactions(
    user=torch.tensor([0, 0, 1, 2, 2, 2, 2]),
    item=torch.tensor([1, 0, 4, 0, 1, 2, 4]),
    n_users=3,
    n_items=5,
)


def shares(user: int) -> list[float]:
    draws = torch.Generator().manual_seed(0)
    drawn = NegativeSampler(TRAIN).draw(torch.full((6000,), user), draws)
    return (torch.bincount(drawn, minlength=5) / 6000).tolist()


def test_negatives_are_uniform_among_the_warm_items_that_the_user_did_not_take() -> None:
    torch.testing.assert_close(shares(0), [0.0, 0.0, 0.5, 0.0, 0.5], atol=0.02, rtol=0)
    torch.testing.assert_close(shares(1), [1 / 3, 1 / 3, 1 / 3, 0.0, 0.0], atol=0.02, rtol=0)


def test_a_user_who_took_everything_gets_some_warm_item() -> None:
    assert shares(2)[3] == 0.0
