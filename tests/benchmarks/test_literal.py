"""The literal implementation is that of the method, and painvrl in its settings takes its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from benchmarks.literal import Batch, LiteralSettings, LiteralUltraGCN
    from painvrl.model.batches import Batch as OurBatch
    from painvrl.model.ultragcn import Backbone


def literal_problem(**changes: Any) -> tuple[LiteralSettings, LiteralUltraGCN, Backbone]:
    """The same tiny model in both implementations."""
    from benchmarks import ours
    from benchmarks.literal import LiteralSettings, LiteralUltraGCN
    from benchmarks.sizes import random_dataset

    settings = LiteralSettings(
        **{"id_dim": 6, "content_dim": 5, "negatives": 7, "batch_size": 64, "l2": 1e-3} | changes
    )
    data = random_dataset(40, 50, 300, 9)
    features = data.modalities["random"].values
    training = ours.training_data(data.interactions, torch.device("cpu"))
    backbone = ours.model(features, training, ours.like_literal(settings)[0])
    literal = LiteralUltraGCN(features, data.interactions, settings, torch.Generator().manual_seed(1))
    literal.start_from(ours.tables(backbone))
    return settings, literal, backbone


def as_literal(batch: OurBatch) -> Batch:
    """The same positives and negatives."""
    from benchmarks.literal import Batch

    assert batch.drawn is not None
    return Batch(
        user=batch.users[batch.user],
        item=batch.items[batch.item],
        negative=batch.items[batch.drawn.item].view(len(batch.user), -1),
    )


def test_painvrl_in_the_literal_settings_takes_the_literal_steps() -> None:
    from benchmarks import ours
    from benchmarks.literal import LiteralTrainer
    from painvrl.core.rng import generator
    from painvrl.model.batches import epoch_of_batches
    from painvrl.model.fit import fit
    from painvrl.model.losses import SampledLoss

    # Steps of 64 among 300 pairs leave rows untouched; a large rate makes a wrong step visible.
    settings, literal, backbone = literal_problem(learning_rate=0.01)
    trainer = LiteralTrainer(literal)
    loss = backbone.config.loss
    assert isinstance(loss, SampledLoss)
    draws = generator(3, "fit")
    epochs = []

    def compare(epoch: int, values: Any) -> None:
        losses = []
        for batch in epoch_of_batches(backbone.data, loss, 0.0, draws, torch.device("cpu")):
            losses.append(literal.data_loss(as_literal(batch)).detach())
            trainer.step(as_literal(batch))
        # painvrl's optimiser adds the decay, so its loss has no such term.
        torch.testing.assert_close(
            torch.tensor(values["loss"]), torch.stack(losses).mean(), rtol=1e-5, atol=0
        )
        for name, table in ours.tables(backbone).items():
            torch.testing.assert_close(table, literal.tables()[name].detach(), rtol=1e-4, atol=2e-6)
        epochs.append((epoch, len(losses)))

    start = ours.tables(backbone)
    training = ours.like_literal(settings)[1]
    fit(backbone, training, generator(3, "fit"), evaluate=None, observe=compare, epochs=4)
    assert epochs == [(epoch, 5) for epoch in range(1, 5)]
    moved = [(table - start[name]).abs().mean() for name, table in ours.tables(backbone).items()]
    assert min(moved) > 0.02  # more than ten thousand times the tolerance


def test_the_literal_loss_is_that_of_the_method() -> None:
    from benchmarks.literal import Batch

    settings, literal, _ = literal_problem()
    user, item = torch.tensor([3, 7]), torch.tensor([11, 2])
    negative = torch.tensor([[1, 5, 9], [4, 4, 0]])
    users, items = literal.vectors()
    scores = users @ items.T
    b = literal.by_user[:, None] * literal.by_item[None, :]
    expected = torch.zeros(())
    for row in range(2):
        u, i = user[row], item[row]
        expected += (1 + b[u, i]) * torch.log1p(torch.exp(-scores[u, i])) / 2
        for j in negative[row]:
            expected += (1 + b[u, j]) * torch.log1p(torch.exp(scores[u, j])) / 6
    squares = users.square().sum() + literal.item_id.weight.square().sum()
    found = literal.loss(Batch(user=user, item=item, negative=negative))
    torch.testing.assert_close(found.detach(), (expected + settings.l2 * squares).detach())


def test_an_epoch_of_the_literal_takes_every_positive_once_with_negatives_of_its_own() -> None:
    from benchmarks.literal import batches
    from benchmarks.sizes import random_dataset

    settings, *_ = literal_problem()
    train = random_dataset(40, 50, 300, 9).interactions
    drawn = list(batches(train, settings, torch.Generator().manual_seed(0)))
    pairs = torch.cat([batch.user * 50 + batch.item for batch in drawn])
    assert pairs.sort().values.tolist() == (train.user * 50 + train.item).sort().values.tolist()
    assert [tuple(batch.negative.shape) for batch in drawn] == [(64, 7)] * 4 + [(44, 7)]
    assert len(drawn[0].negative.unique(dim=0)) == 64


@pytest.mark.parametrize("at_once", [1, 7, 512])
def test_the_literal_ranking_gives_painvrls_ndcg(tiny_prepared: Any, at_once: int) -> None:
    from benchmarks import ours
    from benchmarks.literal import ndcg

    generator = torch.Generator().manual_seed(0)
    train = tiny_prepared.train
    users = torch.randn(train.n_users, 8, generator=generator)
    items = torch.randn(train.n_items, 8, generator=generator)
    expected = ours.rank(tiny_prepared, users, items)
    for k in (5, 20):
        found = ndcg(ours.literal_iid_ranking(tiny_prepared), users, items, k, at_once)
        assert found == pytest.approx(expected[f"iid/ndcg_at_{k}"], abs=1e-9)
