from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.model.batches import Batch, make_batch
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.model.mixing import ItemAttention, Mixing, ScalarWeights
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Toy

SAMPLED = SampledLoss(w1=0.5, w2=2.0, w3=0.25, w4=3.0, negative_weight=0.7, negatives=3, batch_size=4)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(
    toy: Toy, base: tuple[Tensor, Tensor] | None = None, base_id_dim: int = 0, **hyperparameters: object
) -> Backbone:
    config = BackboneConfig.model_validate({"id_dim": 2, "content_dim": 3} | hyperparameters)
    return Backbone(toy.features, toy.data, config, gen(), base=base, base_id_dim=base_id_dim)


def a_base(toy: Toy, width: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(toy.n_users, width, generator=gen(8)), torch.randn(
        toy.n_items, width, generator=gen(9)
    )


def number(value: Tensor) -> float:
    return float(value.detach())


def arrays(model: Backbone) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def slow_score(model: Backbone, toy: Toy, user: int, item: int, sees_id: bool = True) -> float:
    """``<p_u, q_i> + <c_u, W' f_i + bias>``, and the base's score, from the method's formula."""
    if user == toy.silent:
        return 0.0
    p = arrays(model)
    content = toy.features[item].double().numpy() @ p["weight"] + p["bias"]
    score = float(p["user_content"][user] @ content)
    if sees_id and item != toy.cold:
        score += float(p["user_id"][user] @ p["item_id"][item])
    return score


def slow_penalty(model: Backbone, toy: Toy, a0: float) -> float:
    p, config = arrays(model), model.config
    total = 0.0
    for user in range(toy.n_users):
        degree = sum(u == user for u, _ in toy.listed)
        weight = math.sqrt(degree + a0 * toy.n_items)
        total += weight * ((p["user_id"][user] ** 2).sum() + (p["user_content"][user] ** 2).sum())
    for item in range(toy.n_items):
        degree = sum(i == item for _, i in toy.listed)
        if degree:
            total += math.sqrt(degree + a0 * toy.n_users) * (p["item_id"][item] ** 2).sum()
    return config.l2 * total / len(toy.listed) + config.projection_l2 * (p["weight"] ** 2).sum()


def test_a_score_is_its_id_part_plus_its_content_part(toy: Toy) -> None:
    model = build(toy)
    scores = (model.user_vectors() @ model.item_vectors().T).tolist()
    for user in range(toy.n_users):
        for item in range(toy.n_items):
            assert scores[user][item] == pytest.approx(slow_score(model, toy, user, item), abs=1e-6)


def test_users_without_a_pair_have_zero_vectors(toy: Toy) -> None:
    users = build(toy).user_vectors()
    assert users[toy.silent].tolist() == [0.0] * 5
    assert (users[:4].abs() > 0).all()


def test_the_bias_moves_the_content_part(toy: Toy) -> None:
    model = build(toy)
    with torch.no_grad():
        model.bias += 1.0
    torch.testing.assert_close(model.content(), toy.features @ model.weight + 1.0)


def test_initialisation_is_a_function_of_the_generator(toy: Toy) -> None:
    first, second = build(toy), build(toy)
    other = Backbone(toy.features, toy.data, first.config, gen(1))
    for name, value in first.named_parameters():
        assert torch.equal(value, dict(second.named_parameters())[name])
        if name != "bias":
            assert not torch.equal(value, dict(other.named_parameters())[name])
    assert first.bias.tolist() == [0.0] * 3
    wide = build(toy, content_dim=1024)
    assert float(wide.weight.detach().std()) == pytest.approx(0.1, rel=0.05)


def test_cold_items_have_a_zero_id_part(toy: Toy) -> None:
    items = build(toy).item_vectors()
    assert items[toy.cold, :2].tolist() == [0.0, 0.0]
    assert (items[toy.cold, 2:].abs() > 0).all()
    assert (items[[0, 1, 3, 4, 5], :2].abs() > 0).all()


@pytest.mark.parametrize("a0", [0.1, 0.7])
def test_the_whole_loss_equals_the_dense_double_loop(toy: Toy, a0: float) -> None:
    model = build(toy, l2=0.3, projection_l2=0.05, loss=GramianLoss(all_pairs_weight=a0))
    own = everything = 0.0
    for user, item in toy.listed:
        score = slow_score(model, toy, user, item)
        own += (1 - score) ** 2 - a0 * score**2
    for user in range(toy.n_users):
        for item in sorted({item for _, item in toy.listed}):
            everything += slow_score(model, toy, user, item) ** 2
    expected = (own + a0 * everything) / len(toy.listed) + slow_penalty(model, toy, a0)
    assert number(model.full_loss(None)) == pytest.approx(expected, rel=1e-5)


def test_the_l2_term_weighs_each_row_by_its_degree(toy: Toy) -> None:
    model = build(toy, l2=0.3, projection_l2=0.05, loss=GramianLoss(all_pairs_weight=0.2))
    assert number(model.penalty()) == pytest.approx(slow_penalty(model, toy, 0.2), rel=1e-5)
    assert number(build(toy, l2=0.0, projection_l2=0.0).penalty()) == 0.0


def test_the_l2_term_of_the_sampled_loss_has_no_all_pairs_share(toy: Toy) -> None:
    model = build(toy, l2=0.3, projection_l2=0.05, loss=SAMPLED)
    assert number(model.penalty()) == pytest.approx(slow_penalty(model, toy, 0.0), rel=1e-5)


@pytest.mark.parametrize("dropped", [(), (0, 4)])
@pytest.mark.parametrize("negatives", [[1, 5, 5, 4], [[1, 5], [0, 0], [3, 1]]], ids=["shared", "per-pair"])
def test_the_loss_of_a_batch_equals_the_loop_over_its_pairs(
    toy: Toy, dropped: tuple[int, ...], negatives: list[int] | list[list[int]]
) -> None:
    model = build(toy, l2=0.3, projection_l2=0.05, loss=SAMPLED, id_dropout=0.5)
    kept = torch.ones(toy.n_items)
    kept[list(dropped)] = 0
    rows = [7, 0, 2]
    canonical = sorted(toy.listed)

    def b(user: int, item: int) -> float:
        d_u = max(1, sum(u == user for u, _ in toy.listed))
        d_i = sum(i == item for _, i in toy.listed)
        return math.sqrt(d_u + 1) / d_u / math.sqrt(d_i + 1)

    expected = 0.0
    for place, row in enumerate(rows):
        user, item = canonical[row]
        score = slow_score(model, toy, user, item, item not in dropped)
        expected += (0.5 + 2.0 * b(user, item)) * math.log1p(math.exp(-score)) / len(rows)
        mine = negatives[place] if isinstance(negatives[place], list) else negatives
        for j in mine:  # type: ignore[union-attr]
            score = slow_score(model, toy, user, j, j not in dropped)
            repel = (0.25 + 3.0 * b(user, j)) * math.log1p(math.exp(score))
            expected += 0.7 * repel / len(mine) / len(rows)  # type: ignore[arg-type]
    p = arrays(model)
    for row in rows:  # the L2 of a row, once for every pair that it has in the batch
        user, item = canonical[row]
        d_u, d_i = (sum(pair[side] == (user, item)[side] for pair in canonical) for side in (0, 1))
        squares = (p["user_id"][user] ** 2).sum() + (p["user_content"][user] ** 2).sum()
        expected += 0.3 * math.sqrt(d_u) / d_u * squares / len(rows)
        expected += 0.3 * math.sqrt(d_i) / d_i * (p["item_id"][item] ** 2).sum() / len(rows)
    expected += 0.05 * (p["weight"] ** 2).sum()
    batch = make_batch(
        torch.tensor([canonical[row][0] for row in rows]),
        torch.tensor([canonical[row][1] for row in rows]),
        torch.tensor(negatives),
        kept if dropped else None,
        torch.device("cpu"),
    )
    assert number(model.batch_loss(batch, model.rows(batch))) == pytest.approx(expected, rel=1e-5)


NEIGHBOURED = SampledLoss(negatives=2, batch_size=4)


def neighboured(toy: Toy, **hyperparameters: object) -> Backbone:
    return build(toy, **{"loss": NEIGHBOURED, "item_item_neighbours": 2, **hyperparameters})


def batch_of(model: Backbone, pairs: list[tuple[int, int]], kept: Tensor | None = None) -> Batch:
    user, item = torch.tensor(pairs).T
    near = model.item_neighbours()
    return make_batch(user, item, torch.tensor([0, 3]), kept, torch.device("cpu"), near)


@pytest.mark.parametrize("count", [2, 4])  # with four, items are filled up with themselves at no weight
@pytest.mark.parametrize("dropped", [False, True])
def test_the_item_item_term_is_the_loop_over_pairs_and_neighbours(
    toy: Toy, dropped: bool, count: int
) -> None:
    pairs = [(0, 1), (3, 5), (0, 0), (1, 1)]
    kept = torch.zeros(toy.n_items) if dropped else None  # the term is about the ID parts, seen or not
    plain = neighboured(toy)
    model = neighboured(toy, item_item_weight=0.6, item_item_neighbours=count)
    near, p, expected = model.item_neighbours(), arrays(model), 0.0
    assert near is not None
    for user, item in pairs:
        for j, weight in zip(near.index[item].tolist(), near.weight[item].tolist(), strict=True):
            score = float(p["user_id"][user] @ p["item_id"][j])
            expected += 0.6 * weight * math.log1p(math.exp(-score)) / len(pairs)
    without, batch = batch_of(plain, pairs, kept), batch_of(model, pairs, kept)
    found = number(model.batch_loss(batch, model.rows(batch)))
    assert found - number(plain.batch_loss(without, plain.rows(without))) == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_the_item_item_term_moves_neighbours_that_the_batch_does_not_name(toy: Toy) -> None:
    model = neighboured(toy, item_item_weight=1.0, l2=0.0)
    batch = batch_of(model, [(1, 1)])
    near = model.item_neighbours()
    assert near is not None
    reached = set(near.index[1].tolist()) - {1, 0, 3}
    assert reached  # neither the positive nor a negative
    model.batch_loss(batch, model.rows(batch)).backward()
    assert model.item_id.grad is not None
    for j in reached:
        assert model.item_id.grad[j].abs().max() > 0
    assert model.item_id.grad[toy.cold].tolist() == [0.0, 0.0]


def test_neighbours_that_a_batch_only_looks_at_have_no_l2(toy: Toy) -> None:
    plain, model = neighboured(toy), neighboured(toy, item_item_weight=1.0)
    without, batch = batch_of(plain, [(1, 1)]), batch_of(model, [(1, 1)])
    assert len(batch.items) > len(without.items)
    rows = (model.rows(batch), plain.rows(without))
    assert number(model._batch_penalty(batch, rows[0])) == pytest.approx(
        number(plain._batch_penalty(without, rows[1])), rel=1e-6
    )


def test_without_its_weight_nothing_asks_for_neighbours(toy: Toy) -> None:
    model = neighboured(toy)
    assert model.item_neighbours() is None
    assert batch_of(model, [(2, 5)]).neighbours is None
    assert batch_of(model, [(2, 5)]).items.tolist() == [0, 3, 5]
    assert toy.data._neighbours == {}


def test_a_variant_branch_has_no_item_item_term(toy: Toy) -> None:
    config = BackboneConfig(loss=NEIGHBOURED, item_item_weight=1.0).model_copy(update={"id_dim": 0})
    branch = Backbone(toy.features, toy.data, config, gen(), base=a_base(toy), base_id_dim=2)
    assert branch.item_neighbours() is None


def test_the_item_item_term_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(ValidationError, match=r"item_item_weight must be 0 unless loss\.kind is 'sampled'"):
        BackboneConfig(item_item_weight=0.1)
    with pytest.raises(ValidationError, match="item_item_weight must be 0 where id_dim is 0"):
        BackboneConfig(item_item_weight=0.1, id_dim=0, loss=NEIGHBOURED)
    assert BackboneConfig(item_item_weight=0.1, loss=NEIGHBOURED).item_item_neighbours == 10


@pytest.mark.parametrize("mixing", [ScalarWeights, ItemAttention])
def test_a_learned_fusion_is_the_content_part_of_a_model(toy: Toy, mixing: type[Mixing]) -> None:
    gates = torch.tensor([1.0, 0.0, 0.3, 0.7])
    config = BackboneConfig(id_dim=2, content_dim=3)
    both = torch.cat([gates, 1 - gates])
    model = Backbone(toy.features, toy.data, config, gen(), gates=both, mixing=mixing)
    weights = next(model.mixing.parameters())
    with torch.no_grad():
        weights.copy_(torch.arange(len(weights)).float())
        model.bias += 0.5
    parts = torch.stack([gates[:, None] * model.weight[:4], (1 - gates)[:, None] * model.weight[4:]])
    torch.testing.assert_close(model.item_vectors()[:, 2:], model.mixing(toy.features, parts) + 0.5)
    assert [name for name, _ in model.named_parameters() if name.startswith("mixing.")]
    assert any(weights is each for each in model.content_parameters())


def test_the_l2_of_batches_is_the_whole_l2_in_the_mean(toy: Toy) -> None:
    # One epoch of single pairs is every batch of size one.
    model = build(toy, l2=0.3, projection_l2=0.05, loss=SAMPLED)
    terms = []
    for user, item in toy.listed:
        batch = make_batch(
            torch.tensor([user]), torch.tensor([item]), torch.tensor([0]), None, torch.device("cpu")
        )
        terms.append(number(model._batch_penalty(batch, model.rows(batch))))
    assert sum(terms) / len(terms) == pytest.approx(number(model.penalty()), rel=1e-5)


def test_projecting_the_items_of_a_batch_or_all_of_them_gives_the_same_loss(toy: Toy) -> None:
    model = build(toy, loss=SAMPLED)
    few = make_batch(
        torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 1]), None, torch.device("cpu")
    )
    assert 2 * few.items.shape[0] <= toy.n_items
    projected = model.batch_loss(few, model.rows(few))
    model.features = model.features[:3]  # the batch's items 0 and 1 are now most of the catalogue
    assert number(model.batch_loss(few, model.rows(few))) == pytest.approx(number(projected), rel=1e-6)


def test_bfloat16_products_are_close_to_float32_ones(toy: Toy) -> None:
    exact, rounded = build(toy), build(toy, precision="bfloat16")
    assert rounded.features.dtype == torch.bfloat16
    assert rounded.item_vectors().dtype == torch.float32
    torch.testing.assert_close(rounded.content(), exact.content(), rtol=0, atol=0.02)
    assert not torch.equal(rounded.content(), exact.content())


def test_gates_on_the_projection_are_gates_on_the_features(toy: Toy) -> None:
    gates = torch.tensor([1.0, 0.0, 0.3, 0.7])
    gated = Backbone(toy.features, toy.data, BackboneConfig(id_dim=2, content_dim=3), gen(), gates=gates)
    plain = Backbone(toy.features * gates, toy.data, BackboneConfig(id_dim=2, content_dim=3), gen())
    torch.testing.assert_close(gated.item_vectors(), plain.item_vectors())
    copies = torch.cat([gates, 1 - gates])
    both = Backbone(toy.features, toy.data, BackboneConfig(id_dim=2, content_dim=3), gen(), gates=copies)
    side_by_side = torch.cat([toy.features * gates, toy.features * (1 - gates)], dim=1)
    wide = Backbone(side_by_side, toy.data, BackboneConfig(id_dim=2, content_dim=3), gen())
    assert both.weight.shape == (8, 3)
    torch.testing.assert_close(both.item_vectors(), wide.item_vectors())


def test_nothing_about_a_cold_item_enters_the_whole_loss(toy: Toy) -> None:
    model = build(toy)
    loss = model.full_loss(None)
    loss.backward()
    assert model.item_id.grad is not None
    assert model.item_id.grad[toy.cold].tolist() == [0.0, 0.0]
    changed = toy.features.clone()
    changed[toy.cold] += 10
    other = Backbone(changed, toy.data, model.config, gen())
    assert number(other.full_loss(None)) == number(loss)
    assert not torch.equal(other.item_vectors(), model.item_vectors())


def test_the_seen_id_part_is_dropped_with_its_probability() -> None:
    from painvrl.data.interactions import Interactions
    from painvrl.model.training_data import training_data

    items = torch.arange(4000)
    data = training_data(
        Interactions(user=torch.zeros_like(items), item=items, n_users=1, n_items=4000), torch.device("cpu")
    )
    config = BackboneConfig(id_dim=1, content_dim=1, id_dropout=0.3)
    model = Backbone(torch.zeros(4000, 2), data, config, gen())
    kept = model.kept_items(gen(3))
    assert kept is not None
    assert set(kept.tolist()) == {0.0, 1.0}
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.03)
    again = model.kept_items(gen(3))
    assert again is not None
    assert torch.equal(kept, again)


def test_without_dropout_every_item_is_seen(toy: Toy) -> None:
    model, draw = build(toy), gen()
    before = draw.get_state()
    assert model.kept_items(draw) is None
    assert torch.equal(draw.get_state(), before)


def seen_by_a_batch(model: Backbone, kept: Tensor) -> Tensor:
    """``[I, D]`` the item vectors as a step with ``kept`` sees them."""
    base = None if model.base is None else model.base[1]
    return model._visible(base, model.item_id, model.content(), kept)


def test_id_dropout_zeroes_exactly_the_id_columns_of_dropped_items(toy: Toy) -> None:
    model = build(toy)
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    expected = torch.cat([model.item_id, model.content()], dim=1)
    expected[[1, 3], :2] = 0.0
    assert torch.equal(seen_by_a_batch(model, kept), expected)


def test_id_dropout_zeroes_the_id_columns_of_the_base_too(toy: Toy) -> None:
    base = a_base(toy, width=4)
    model = build(toy, base=base, base_id_dim=1)
    kept = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    visible = seen_by_a_batch(model, kept)
    expected = torch.cat([base[1], model.item_id, model.content()], dim=1)
    expected[[1, 3], 0] = 0.0  # the base's one ID column
    expected[[1, 3], 4:6] = 0.0  # the model's own two, after the base's four
    assert torch.equal(visible, expected)
    assert (visible[[1, 3], 1:4] == base[1][[1, 3], 1:4]).all()


def test_dropped_items_get_no_gradient_on_their_id_part(toy: Toy) -> None:
    model = build(toy, l2=0.0)
    kept = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    model.full_loss(kept).backward()
    assert model.item_id.grad is not None
    assert model.item_id.grad[1].tolist() == [0.0, 0.0]
    assert (model.item_id.grad[[0, 3, 4, 5]].abs().sum(dim=1) > 0).all()


def test_a_base_adds_its_scores(toy: Toy) -> None:
    base = a_base(toy)
    model, alone = build(toy, base=base, base_id_dim=1), build(toy)
    alone.load_state_dict(model.state_dict())
    scores = model.user_vectors() @ model.item_vectors().T
    expected = base[0] @ base[1].T + alone.user_vectors() @ alone.item_vectors().T
    torch.testing.assert_close(scores, expected)


def test_a_base_is_never_trained(toy: Toy) -> None:
    base = a_base(toy)
    before = (base[0].clone(), base[1].clone())
    model = build(toy, base=base, base_id_dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model.full_loss(None).backward()
        optimizer.step()
    assert {name for name, _ in model.named_parameters()} == {
        "user_id",
        "item_id",
        "user_content",
        "weight",
        "bias",
    }
    assert torch.equal(base[0], before[0])
    assert torch.equal(base[1], before[1])
    assert base[0].grad is None
    assert not base[1].requires_grad


def test_a_branch_learns_what_the_base_left_over(toy: Toy) -> None:
    # The gradient at zero branch scores is the residual's: it vanishes where the base explains all.
    users, items = torch.eye(5), torch.zeros(6, 5)
    for user, item in toy.listed:
        items[item, user] = 1.0
    model = build(
        toy, base=(users, items), id_dim=0, l2=0.0, projection_l2=0.0, loss=GramianLoss(all_pairs_weight=1e-9)
    )
    with torch.no_grad():
        model.user_content.zero_()
    model.full_loss(None).backward()
    assert model.user_content.grad is not None
    assert float(model.user_content.grad.abs().max()) < 1e-7


def test_a_model_without_an_id_part_has_content_alone(toy: Toy) -> None:
    model = build(toy, id_dim=0)
    assert model.user_vectors().shape == (5, 3)
    torch.testing.assert_close(model.item_vectors(), model.content())
    assert math.isfinite(number(model.full_loss(None)))
    assert math.isfinite(number(build(toy, id_dim=0, id_dropout=0.5).full_loss(torch.zeros(6))))


def test_training_data_know_degrees_and_warm_items(toy: Toy) -> None:
    assert toy.data.user_degree.tolist() == [3.0, 3.0, 2.0, 2.0, 0.0]
    assert toy.data.item_degree.tolist() == [2.0, 2.0, 0.0, 2.0, 2.0, 2.0]
    assert toy.data.warm.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert toy.data.warm_items.tolist() == [0, 1, 3, 4, 5]
    assert toy.data.active.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert toy.data.n_pairs == len(toy.listed)


def test_a_softmax_batch_is_the_loop_over_pairs_and_shared_negatives(toy: Toy) -> None:
    """The pair's own item among the negatives does not count; cold items are no negatives at all."""
    loss = {"kind": "softmax", "temperature": 0.5}
    model = build(toy, l2=0.0, projection_l2=0.0, loss=loss)
    pairs, negatives = [(0, 1), (1, 3), (2, 0)], [0, 3, 3]
    expected = 0.0
    for user, item in pairs:
        own = slow_score(model, toy, user, item) / 0.5
        others = [slow_score(model, toy, user, other) / 0.5 for other in negatives if other != item]
        expected += math.log(sum(math.exp(one) for one in [own, *others])) - own
    user, item = torch.tensor(pairs).T
    batch = make_batch(user, item, torch.tensor(negatives), None, torch.device("cpu"))
    assert number(model.batch_loss(batch, model.rows(batch))) == pytest.approx(expected / 3, rel=1e-5)


def test_a_softmax_trains_no_bias_which_cancels_in_it(toy: Toy) -> None:
    model = build(toy, loss={"kind": "softmax"})
    user, item = torch.tensor([(0, 1), (1, 3)]).T
    batch = make_batch(user, item, torch.tensor([0, 4]), None, torch.device("cpu"))
    before = number(model.batch_loss(batch, model.rows(batch)))
    with torch.no_grad():
        model.bias += 3.0
    assert number(model.batch_loss(batch, model.rows(batch))) == pytest.approx(before, rel=1e-4)
    model.batch_loss(batch, model.rows(batch)).backward()
    assert model.bias.grad is None
    assert build(toy).bias.requires_grad


def with_modalities(toy: Toy, features: Tensor | None = None, **hyperparameters: object) -> Backbone:
    config = BackboneConfig.model_validate({"id_dim": 2, "content_dim": 3} | hyperparameters)
    return Backbone(toy.features if features is None else features, toy.data, config, gen(), widths=(1, 3))


@pytest.mark.parametrize("loss", [GramianLoss(), SAMPLED], ids=["gramian", "sampled"])
def test_a_dropped_modality_is_one_of_zeros_and_the_others_are_scaled(
    toy: Toy, loss: GramianLoss | SampledLoss
) -> None:
    model = with_modalities(toy, modality_dropout=0.6, loss=loss.model_dump())
    weights = model.modality_weights(gen(5))
    assert weights is not None
    assert weights.unique().tolist() == pytest.approx([0.0, 2.5])
    by_hand = toy.features.clone()
    by_hand[:, :1] *= weights[:, :1]
    by_hand[:, 1:] *= weights[:, 1:]
    plain = with_modalities(toy, by_hand, loss=loss.model_dump())
    if isinstance(loss, GramianLoss):
        assert number(model.full_loss(None, weights)) == pytest.approx(
            number(plain.full_loss(None)), rel=1e-5
        )
        return
    sides = []
    for one, drawn in ((model, weights), (plain, None)):
        batch = make_batch(
            torch.tensor([0, 1]),
            torch.tensor([1, 3]),
            torch.tensor([0, 3, 4]),
            None,
            torch.device("cpu"),
            modalities=drawn,
        )
        sides.append(number(one.batch_loss(batch, one.rows(batch))))
    assert sides[0] == pytest.approx(sides[1], rel=1e-5)


def test_modality_dropout_leaves_the_content_part_as_it_is_on_average(toy: Toy) -> None:
    model, draws = with_modalities(toy, modality_dropout=0.5), gen(2)
    total = torch.zeros_like(model.content())
    for _ in range(4000):
        total += model.content(None, model.modality_weights(draws)).detach()
    torch.testing.assert_close(total / 4000, model.content().detach(), atol=0.02, rtol=0.02)


def test_without_modality_dropout_nothing_is_drawn(toy: Toy) -> None:
    draws = gen(2)
    before = draws.get_state()
    assert with_modalities(toy).modality_weights(draws) is None
    assert torch.equal(draws.get_state(), before)


def test_each_modality_of_each_item_is_dropped_on_its_own(toy: Toy) -> None:
    model, draws = with_modalities(toy, modality_dropout=0.3), gen(2)
    many = [model.modality_weights(draws) for _ in range(500)]
    seen = torch.stack([one for one in many if one is not None]) > 0
    assert seen.shape == (500, toy.n_items, 2)
    assert float(seen.float().mean()) == pytest.approx(0.7, abs=0.02)
    both = (seen[:, :, 0] & seen[:, :, 1]).float().mean()
    assert float(both) == pytest.approx(0.49, abs=0.03)
