from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.core.errors import Diverged
from painvrl.data.interactions import Interactions
from painvrl.invariance.environments import EnvironmentConfig, identify
from painvrl.invariance.hard_em import (
    EnvironmentModels,
    HardEM,
    HardEMSettings,
    assign,
    environment_losses,
    environment_scores,
    fit_hard_em,
)
from painvrl.invariance.labels import moved_share, with_least_size
from painvrl.model.losses import GramianLoss
from painvrl.model.training_data import training_data
from painvrl.model.ultragcn import Backbone, BackboneConfig

if TYPE_CHECKING:
    from conftest import Small

CPU = torch.device("cpu")
SETTINGS = HardEMSettings(steps=10, content_dim=3, l2=0.2, projection_l2=0.05, all_pairs_weight=0.3)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_models(small: Small, count: int, seed: int = 0) -> EnvironmentModels:
    draw = gen(seed)
    return EnvironmentModels(
        users=torch.randn(count, small.n_users, 3, generator=draw),
        weight=torch.randn(count, 4, 3, generator=draw),
        bias=torch.randn(count, 3, generator=draw),
    )


def some_labels(small: Small, count: int, seed: int = 0) -> Tensor:
    return torch.randint(count, (small.data.n_pairs,), generator=gen(seed))


def losses_of(small: Small, models: EnvironmentModels, label: Tensor, settings: HardEMSettings) -> Tensor:
    count = models.users.shape[0]
    assigned = assign(label, count, small.data, settings.all_pairs_weight)
    return environment_losses(models, small.data.warm_rows(small.variant), assigned, settings)


def slow_losses(
    small: Small, models: EnvironmentModels, label: list[int], settings: HardEMSettings
) -> list[float]:
    """``R_e`` and its L2 term, environment by environment, interaction by interaction."""
    variant, a0 = small.variant.double().numpy(), settings.all_pairs_weight
    warm = sorted({item for _, item in small.pairs})
    degree = [sum(u == user for u, _ in small.pairs) for user in range(small.n_users)]
    found = []
    for e in range(len(models.users)):
        users, weight, bias = (
            tensor[e].double().numpy() for tensor in (models.users, models.weight, models.bias)
        )
        members = [pair for pair, mine in zip(small.pairs, label, strict=True) if mine == e]
        total = 0.0
        for user, item in members:
            s = users[user] @ (variant[item] @ weight + bias)
            total += (1 - s) ** 2 - a0 * s**2
        for user in range(small.n_users):
            mine = sum(u == user for u, _ in members)
            share = mine / max(1, degree[user])
            total += a0 * share * sum((users[user] @ (variant[item] @ weight + bias)) ** 2 for item in warm)
            row_weight = (mine + a0 * small.n_items * share) ** 0.5
            total += settings.l2 * row_weight * (users[user] ** 2).sum()
        found.append(total / len(members) + settings.projection_l2 * (weight**2).sum())
    return found


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_losses_equal_the_loop_over_interactions(small: Small, count: int) -> None:
    models, label = some_models(small, count), some_labels(small, count)
    found = losses_of(small, models, label, SETTINGS)
    assert found.tolist() == pytest.approx(slow_losses(small, models, label.tolist(), SETTINGS), rel=1e-4)


def test_a_single_environment_is_the_backbone_without_an_id_part(small: Small) -> None:
    config = BackboneConfig(
        id_dim=0, content_dim=3, l2=0.2, projection_l2=0.05, loss=GramianLoss(all_pairs_weight=0.3)
    )
    backbone = Backbone(small.variant, small.data, config, gen())
    models = EnvironmentModels(
        users=backbone.user_content.detach()[None],
        weight=backbone.weight.detach()[None],
        bias=backbone.bias.detach()[None],
    )
    (found,) = losses_of(small, models, torch.zeros_like(some_labels(small, 2)), SETTINGS)
    assert float(found) == pytest.approx(float(backbone.full_loss(None).detach()), rel=1e-5)


def test_equal_models_share_the_whole_loss_out(small: Small) -> None:
    # Weighed with their sizes and without L2 the environments' losses are that of all interactions.
    bare = SETTINGS.model_copy(update={"l2": 0.0, "projection_l2": 0.0})
    one, label = some_models(small, 1), some_labels(small, 4)
    four = EnvironmentModels(
        users=one.users.expand(4, -1, -1), weight=one.weight.expand(4, -1, -1), bias=one.bias.expand(4, -1)
    )
    sizes = torch.bincount(label, minlength=4)
    (whole,) = losses_of(small, one, torch.zeros_like(label), bare)
    shared = (sizes * losses_of(small, four, label, bare)).sum() / len(label)
    torch.testing.assert_close(shared, whole, rtol=1e-5, atol=1e-6)


def test_no_model_reads_another_ones_parameters(small: Small) -> None:
    models = some_models(small, 3)
    leaves = [tensor.requires_grad_() for tensor in (models.users, models.weight, models.bias)]
    losses = losses_of(small, models, some_labels(small, 3), SETTINGS)
    for e in range(3):
        for gradient in torch.autograd.grad(losses[e], leaves, retain_graph=True):
            others = [other for other in range(3) if other != e]
            assert float(gradient[e].abs().max()) > 0
            assert float(gradient[others].abs().max()) == 0


def slow_scores(small: Small, models: EnvironmentModels) -> np.ndarray:
    """``[N, E]`` from the definition."""
    variant = small.variant.double().numpy()
    users, weight, bias = (t.double().numpy() for t in (models.users, models.weight, models.bias))
    return np.array(
        [
            [users[e, user] @ (variant[item] @ weight[e] + bias[e]) for e in range(len(users))]
            for user, item in small.pairs
        ]
    )


def test_the_scores_are_those_of_each_model(small: Small) -> None:
    models = some_models(small, 3)
    found = environment_scores(models, small.data.warm_rows(small.variant), small.data.warm_pairs)
    np.testing.assert_allclose(found.numpy(), slow_scores(small, models), atol=1e-5)


def fitted(small: Small, count: int = 3, needed: int = 0, seed: int = 0, **hyperparameters: object) -> HardEM:
    settings = SETTINGS.model_copy(update=hyperparameters)
    return fit_hard_em(small.data.warm_rows(small.variant), small.data, count, needed, settings, gen(seed))


def test_every_interaction_carries_the_label_of_the_model_that_scores_it_highest(small: Small) -> None:
    found = fitted(small)
    assert found.label.tolist() == slow_scores(small, found.models).argmax(axis=1).tolist()


def test_rounds_are_fits_and_relabellings_in_turn_from_random_labels(small: Small) -> None:
    # The loop over rounds a second time, with an optimiser for each table.
    label = some_labels(small, 2, seed=3)
    start = some_models(small, 2, seed=4)
    leaves = [t.clone().requires_grad_() for t in (start.users, start.weight, start.bias)]
    optimizers = [torch.optim.Adam([leaf], lr=0.1) for leaf in leaves]
    wanted, moves, filled = label, [], 0
    for _ in range(2):
        for _ in range(3):
            models = EnvironmentModels(users=leaves[0], weight=leaves[1], bias=leaves[2])
            total = losses_of(small, models, wanted, SETTINGS).sum()
            for leaf, gradient in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
                leaf.grad = gradient
            for optimizer in optimizers:
                optimizer.step()
        users, weight, bias = (leaf.detach() for leaf in leaves)
        scores = torch.tensor(slow_scores(small, EnvironmentModels(users=users, weight=weight, bias=bias)))
        before = wanted
        wanted, filled = with_least_size(scores.argmax(dim=1), scores.amax(dim=1), 2, 5)
        moves.append(moved_share(wanted, before))
    settings = SETTINGS.model_copy(update={"max_rounds": 2, "steps": 3, "learning_rate": 0.1})
    found = fit_hard_em(
        small.data.warm_rows(small.variant), small.data, 2, 5, settings, gen(), start=(label, start)
    )
    assert torch.equal(found.label, wanted)
    assert found.moves == tuple(moves)
    assert found.reseeded == filled
    assert moves[0] > 0
    torch.testing.assert_close(found.models.users, leaves[0].detach())
    torch.testing.assert_close(found.models.weight, leaves[1].detach())
    torch.testing.assert_close(found.models.bias, leaves[2].detach())
    assert not any(t.requires_grad for t in (found.models.users, found.models.weight, found.models.bias))
    # What it started from is as it was.
    assert torch.equal(start.users, some_models(small, 2, seed=4).users)


def test_it_stops_once_at_most_one_percent_moves_or_the_rounds_are_over(small: Small) -> None:
    settled = fitted(small, max_rounds=60)
    assert settled.moves[-1] <= 0.01
    assert all(share > 0.01 for share in settled.moves[:-1])
    assert 1 < len(settled.moves) < 60
    short = fitted(small, max_rounds=2)
    assert short.moves == settled.moves[:2]


def test_renaming_the_environments_renames_their_labels(small: Small) -> None:
    label, models = some_labels(small, 3, seed=1), some_models(small, 3, seed=2)
    order = torch.tensor([2, 0, 1])  # environment e is called order[e]
    back = order.argsort()
    renamed = EnvironmentModels(users=models.users[back], weight=models.weight[back], bias=models.bias[back])
    settings = SETTINGS.model_copy(update={"max_rounds": 4})
    first = fit_hard_em(
        small.data.warm_rows(small.variant), small.data, 3, 3, settings, gen(), start=(label, models)
    )
    second = fit_hard_em(
        small.data.warm_rows(small.variant), small.data, 3, 3, settings, gen(), start=(order[label], renamed)
    )
    assert torch.equal(second.label, order[first.label])
    assert second.moves == first.moves
    torch.testing.assert_close(second.models.weight, first.models.weight[back], rtol=1e-3, atol=1e-4)


def test_small_environments_are_filled_after_every_relabelling(small: Small) -> None:
    needed = small.data.n_pairs // 3
    found = fitted(small, needed=needed)
    assert torch.bincount(found.label, minlength=3).min() >= needed
    assert found.reseeded > 0


def test_equal_seeds_give_equal_labels(small: Small) -> None:
    first, again, other = fitted(small), fitted(small), fitted(small, seed=1)
    assert torch.equal(first.label, again.label)
    assert torch.equal(first.models.users, again.models.users)
    assert not torch.equal(first.models.users, other.models.users)


def test_scores_that_are_not_finite_are_a_divergence(small: Small) -> None:
    with pytest.raises(Diverged, match=r"environments\.hard_em\.learning_rate"):
        fitted(small, learning_rate=1e30)


def two_affinities() -> tuple[Tensor, Tensor, Interactions]:
    """Features, true labels and interactions: in each environment everybody takes items of another kind."""
    n_users, n_kind = 40, 15
    variant = torch.zeros(2 * n_kind, 2)
    variant[:n_kind, 0], variant[n_kind:, 1] = 1.0, 1.0
    taken = torch.rand(n_users, 2 * n_kind, generator=gen(6)) < 0.5
    user, item = taken.nonzero(as_tuple=True)
    return variant, (item >= n_kind).long(), Interactions(user=user, item=item, n_users=n_users, n_items=30)


def test_from_labels_that_are_mostly_right_it_finds_the_rest() -> None:
    variant, truth, train = two_affinities()
    wrong = torch.rand(len(train), generator=gen(7)) < 0.25
    data = training_data(train, CPU)
    start = some_models_of(train.n_users, 2)
    settings = HardEMSettings(content_dim=2, max_rounds=30)
    found = fit_hard_em(
        variant, data, 2, 2, settings, gen(), start=(torch.where(wrong, 1 - truth, truth), start)
    )
    assert float((found.label == truth).double().mean()) > 0.99
    assert found.moves[-1] <= 0.01


def some_models_of(n_users: int, width: int) -> EnvironmentModels:
    draw = gen(8)
    return EnvironmentModels(
        users=0.1 * torch.randn(2, n_users, 2, generator=draw),
        weight=0.1 * torch.randn(2, width, 2, generator=draw),
        bias=torch.zeros(2, 2),
    )


def test_a_later_round_starts_from_the_last_labels_and_models(small: Small) -> None:
    config = EnvironmentConfig(assignment="hard_em", hard_em=SETTINGS)
    first = identify(small.variant, small.shared, small.data, config, gen())
    still = SETTINGS.model_copy(update={"learning_rate": 1e-12, "max_rounds": 3})
    config = config.model_copy(update={"hard_em": still})
    second = identify(small.variant, small.shared, small.data, config, gen(1), last=first)
    assert first.models is not None
    assert second.models is not None
    torch.testing.assert_close(second.models.users, first.models.users)
    assert second.moved_share == moved_share(second.label, first.label)
    assert second.moves == (second.moved_share,)
    assert first.moved_share == 1.0


def test_identification_reports_sizes_moves_and_whether_it_converged(small: Small) -> None:
    config = EnvironmentConfig(
        assignment="hard_em", count=3, hard_em=SETTINGS.model_copy(update={"max_rounds": 60})
    )
    found = identify(small.variant, small.shared, small.data, config, gen())
    assert found.sizes == tuple(torch.bincount(found.label, minlength=3).tolist())
    assert found.offsets is None
    assert found.converged
    short = config.model_copy(update={"hard_em": SETTINGS.model_copy(update={"max_rounds": 1})})
    once = identify(small.variant, small.shared, small.data, short, gen())
    assert once.moves == found.moves[:1]
    assert not once.converged
