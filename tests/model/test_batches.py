from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from painvrl.model.batches import epoch_of_batches, make_batch
from painvrl.model.losses import SampledLoss
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Toy

CPU = torch.device("cpu")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_places_lead_back_to_the_users_and_items() -> None:
    user, item, negative = torch.tensor([7, 2, 7]), torch.tensor([4, 9, 9]), torch.tensor([9, 0, 0])
    batch = make_batch(user, item, negative, None, CPU)
    assert batch.users.tolist() == [2, 7]
    assert batch.items.tolist() == [0, 4, 9]
    assert torch.equal(batch.users[batch.user], user)
    assert torch.equal(batch.items[batch.item], item)
    assert torch.equal(batch.items[batch.negative], negative)
    assert batch.user_share.tolist() == [1 / 3, 2 / 3] or torch.allclose(
        batch.user_share, torch.tensor([1 / 3, 2 / 3])
    )
    torch.testing.assert_close(batch.item_share, torch.tensor([0.0, 1 / 3, 2 / 3]))
    assert batch.drawn is None


def test_negatives_drawn_per_pair_stay_with_their_pair() -> None:
    user, item = torch.tensor([7, 2, 7]), torch.tensor([4, 9, 9])
    negative = torch.tensor([[0, 4], [9, 9], [3, 0]])
    batch = make_batch(user, item, negative, None, CPU)
    assert batch.drawn is not None
    assert batch.drawn.user.tolist() == [0, 0, 1, 1, 2, 2]
    found = batch.items[batch.drawn.item].view(3, 2)
    assert [sorted(row) for row in found.tolist()] == [sorted(row) for row in negative.tolist()]
    assert len(batch.negative) == 0


def test_a_batch_knows_which_of_its_items_show_their_id_part() -> None:
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0])
    batch = make_batch(torch.tensor([0]), torch.tensor([3]), torch.tensor([2, 1]), kept, CPU)
    assert batch.kept is not None
    assert dict(zip(batch.items.tolist(), batch.kept.tolist(), strict=True)) == {1: 0.0, 2: 1.0, 3: 0.0}


def test_an_epoch_draws_as_many_negatives_as_asked(toy: Toy) -> None:
    for per, shape in (("batch", 7), ("pair", 7 * 4)):
        loss = SampledLoss.model_validate({"negatives": 7, "batch_size": 4, "negatives_per": per})
        batch = next(epoch_of_batches(toy.data, loss, 0.0, gen(), CPU))
        drawn = batch.negative if batch.drawn is None else batch.drawn.item
        assert drawn.shape == (shape,)
        assert toy.cold not in batch.items[drawn].tolist()


def test_shared_and_per_pair_negatives_estimate_the_same_loss(toy: Toy) -> None:
    # Both estimates of the loss of one batch, each the mean over many draws.
    user, item = torch.tensor([0, 1, 3, 2]), torch.tensor([4, 1, 5, 0])
    warm, draw = toy.data.host.warm_items, gen(1)
    means, errors = [], []
    for per, shape in (("batch", (3,)), ("pair", (4, 3))):
        loss = SampledLoss.model_validate({"negatives": 3, "batch_size": 4, "negatives_per": per})
        config = BackboneConfig(id_dim=2, content_dim=3, loss=loss)
        model = Backbone(toy.features, toy.data, config, gen())
        values = []
        for _ in range(1500):
            negative = warm[torch.randint(len(warm), shape, generator=draw)]
            batch = make_batch(user, item, negative, None, CPU)
            values.append(float(model.batch_loss(batch, model.rows(batch)).detach()))
        means.append(np.mean(values))
        errors.append(np.std(values, ddof=1) / math.sqrt(len(values)))
    assert abs(means[0] - means[1]) < 3 * math.hypot(*errors)
    assert max(errors) < 0.01 * means[0]  # the bound above means something
