from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.errors import EmptyEnvironment
from painvrl.invariance.environments import (
    EnvironmentConfig,
    Environments,
    FitSample,
    _fit_sample,
    _with_least_size,
    identify,
    mixture_loss,
    posterior,
)
from painvrl.invariance.shared_model import SharedModel, calibrate
from painvrl.model.pairs import sort_pairs
from painvrl.model.training_data import TrainingData, training_data

if TYPE_CHECKING:
    from conftest import PlantedWorld

CPU = torch.device("cpu")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Small:
    """Users with random interactions, a shared model, variant features; a cold item among them."""

    def __init__(self, n_users: int = 9, n_items: int = 11, width: int = 4, share: float = 0.4) -> None:
        draw = gen(5)
        taken = torch.rand(n_users, n_items, generator=draw) < share
        taken[:, 2], taken[0, 0] = False, True
        user, item = taken.nonzero(as_tuple=True)
        train = Interactions(user=user, item=item, n_users=n_users, n_items=n_items)
        self.n_users, self.n_items = n_users, n_items
        self.data: TrainingData = training_data(train, CPU)
        self.shared = SharedModel(
            users=torch.randn(n_users, 3, generator=draw),
            items=torch.randn(n_items, 3, generator=draw),
            log_degree=(1 + self.data.item_degree).log(),
            warm=self.data.warm > 0,
            temperature=torch.tensor(0.8),
            popularity=torch.tensor(0.3),
        )
        self.variant = torch.randn(n_items, width, generator=draw)
        self.pairs = list(zip(user.tolist(), item.tolist(), strict=True))

    def slow_log_p(self, tilts: np.ndarray) -> np.ndarray:
        """``[N, E]``: ``log p_e(i | u)`` of every pair by the definition, a softmax at a time."""
        users, items = (t.double().numpy() for t in (self.shared.users, self.shared.items))
        variant = self.variant.double().numpy()
        degree = self.data.item_degree.double().numpy()
        warm = [item for item in range(self.n_items) if degree[item] > 0]
        out = np.zeros((len(self.pairs), len(tilts)))
        for place, (user, item) in enumerate(self.pairs):
            for e, tilt in enumerate(tilts):
                logit = {
                    j: 0.8 * users[user] @ items[j] + 0.3 * math.log1p(degree[j]) + tilt @ variant[j]
                    for j in warm
                }
                out[place, e] = logit[item] - math.log(sum(math.exp(value) for value in logit.values()))
        return out

    def sample(self) -> FitSample:
        return _fit_sample(self.shared, self.data, EnvironmentConfig(), gen())


@pytest.fixture(scope="module")
def small() -> Small:
    return Small()


def some_tilts(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=gen(seed))


def test_the_mixture_loss_equals_the_brute_force_likelihood(small: Small) -> None:
    tilts = torch.stack([some_tilts(3, seed=seed) for seed in range(2)])  # two restarts
    loss = mixture_loss(tilts, small.variant, small.sample(), ridge=0.01)
    without = small.slow_log_p(np.zeros((1, 4)))[:, 0]
    for restart in range(2):
        weights = tilts[restart].double().numpy()
        mixture = np.log(np.exp(small.slow_log_p(weights)).mean(axis=1))  # equal shares
        expected = -(mixture - without).mean() + 0.01 * (weights**2).sum()
        assert float(loss[restart]) == pytest.approx(expected, abs=1e-5)


def test_tilts_of_zero_change_no_likelihood(small: Small) -> None:
    loss = mixture_loss(torch.zeros(1, 2, 4), small.variant, small.sample(), ridge=1.0)
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_the_posterior_equals_the_brute_force_softmax(small: Small) -> None:
    tilts = some_tilts(3)
    found = torch.softmax(posterior(small.variant, small.shared, small.data, tilts).double(), dim=1)
    joint = np.exp(small.slow_log_p(tilts.double().numpy()))
    np.testing.assert_allclose(found.numpy(), joint / joint.sum(axis=1, keepdims=True), atol=1e-5)


def test_the_posterior_does_not_depend_on_the_blocks_of_users() -> None:
    # 1,100 users are more than a block; each must meet its own normaliser.
    many = Small(n_users=1100, n_items=6, share=0.3)
    tilts = some_tilts(2)
    log_ratio = posterior(many.variant, many.shared, many.data, tilts).double()
    expected = many.slow_log_p(tilts.double().numpy()) - many.slow_log_p(np.zeros((1, 4)))
    np.testing.assert_allclose(log_ratio.numpy(), expected, atol=1e-4)


def test_renaming_the_tilts_renames_the_environments(small: Small) -> None:
    tilts, order = some_tilts(4), torch.tensor([2, 0, 3, 1])
    straight = posterior(small.variant, small.shared, small.data, tilts)
    renamed = posterior(small.variant, small.shared, small.data, tilts[order])
    torch.testing.assert_close(renamed, straight[:, order])
    sample = small.sample()
    torch.testing.assert_close(
        mixture_loss(tilts[None], small.variant, sample, 0.1),
        mixture_loss(tilts[order][None], small.variant, sample, 0.1),
    )


def test_large_tilts_stay_finite(small: Small) -> None:
    tilts = 200 * some_tilts(2)[None].requires_grad_()
    loss = mixture_loss(tilts, small.variant, small.sample(), 0.0).sum()
    (slope,) = torch.autograd.grad(loss, tilts)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


def test_tilts_that_single_out_an_improbable_item_keep_their_gradient() -> None:
    # The normalisers of the two environments are many orders of magnitude apart.
    weights = torch.tensor([[1.0, 1e-20]], dtype=torch.float64)
    interactions = Interactions(user=torch.tensor([0]), item=torch.tensor([1]), n_users=1, n_items=2)
    variant = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def gradient(kind: torch.dtype) -> Tensor:
        sample = FitSample(weights=weights.to(kind), pairs=sort_pairs(interactions))
        tilts = torch.tensor([[[60.0], [54.0]]], dtype=kind, requires_grad=True)
        (slope,) = torch.autograd.grad(mixture_loss(tilts, variant.to(kind), sample, 0.0).sum(), tilts)
        return slope.double()

    exact = gradient(torch.float64)
    assert float(exact.abs().min()) > 0
    torch.testing.assert_close(gradient(torch.float32), exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gap", [5.0, 75.0, 90.0])
def test_an_item_that_every_environment_dislikes_keeps_its_likelihood_and_gradient(gap: float) -> None:
    interactions = Interactions(user=torch.tensor([0]), item=torch.tensor([1]), n_users=1, n_items=2)
    variant, weights = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5, 0.5]])
    tilts = torch.tensor([[[gap], [gap - 1]]], requires_grad=True)
    sample = FitSample(weights=weights, pairs=sort_pairs(interactions))
    loss = mixture_loss(tilts, variant, sample, 0.0).sum()
    (slope,) = torch.autograd.grad(loss, tilts)
    # The oracle: log-probabilities of the softmax, in float64.
    wide = tilts.detach().double().requires_grad_()
    tilt = variant.double() @ wide[0].T  # [2, 2]
    log_z = torch.logsumexp(tilt + weights.double().log().T, dim=0)
    expected = math.log(2) - torch.logsumexp(tilt[1] - log_z, dim=0)
    (wanted,) = torch.autograd.grad(expected, wide)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(slope.double(), wanted, rtol=1e-4, atol=1e-6)
    assert float(wanted.abs().max()) > 0.1


def test_a_fit_within_its_budget_sees_every_pair(small: Small) -> None:
    sample = small.sample()
    assert sample.weights.shape == (small.n_users, small.n_items)
    assert list(zip(sample.pairs.user.tolist(), sample.pairs.item.tolist(), strict=True)) == small.pairs


def test_a_fit_beyond_its_budget_sees_all_pairs_of_some_users(small: Small) -> None:
    config = EnvironmentConfig(fit_cells=4 * small.n_items)
    sample = _fit_sample(small.shared, small.data, config, gen(1))
    assert sample.weights.shape == (4, small.n_items)
    everyone = small.shared.probabilities(torch.arange(small.n_users))
    users = [int((everyone == row).all(dim=1).nonzero()) for row in sample.weights]
    assert len(set(users)) == 4
    listed = zip(sample.pairs.user.tolist(), sample.pairs.item.tolist(), strict=True)
    found = [(users[row], item) for row, item in listed]
    assert found == [pair for pair in small.pairs if pair[0] in users]


def run(small: Small, config: EnvironmentConfig, seed: int = 0, **more: object) -> Environments:
    return identify(small.variant, small.shared, small.data, config, gen(seed), **more)  # type: ignore[arg-type]


def test_the_label_is_the_likeliest_environment(small: Small) -> None:
    found = run(small, EnvironmentConfig(count=3, steps=15, min_share=0.0))
    assert found.tilts is not None
    assert found.reseeded == 0
    best = small.slow_log_p(found.tilts.double().numpy()).argmax(axis=1)
    assert found.label.tolist() == best.tolist()
    assert found.sizes == tuple(np.bincount(best, minlength=3).tolist())


def test_the_kept_restart_is_the_likeliest(small: Small) -> None:
    config = EnvironmentConfig(count=2, steps=8, restarts=4, ridge=0.0, min_share=0.0)
    found = run(small, config, seed=2)
    assert found.tilts is not None
    sample = small.sample()
    # The same four starts, each fitted by itself.
    starts = 0.1 * torch.randn(4, 2, 4, generator=gen(2))
    losses = []
    for start in starts:
        tilts = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([tilts], lr=config.learning_rate)
        for _ in range(8):
            optimizer.zero_grad()
            mixture_loss(tilts, small.variant, sample, 0.0).sum().backward()
            optimizer.step()
        losses.append(float(mixture_loss(tilts.detach(), small.variant, sample, 0.0)))
    assert len({round(loss, 6) for loss in losses}) > 1
    assert found.log_likelihood == pytest.approx(-min(losses), abs=1e-6)


def test_more_steps_raise_the_likelihood(small: Small) -> None:
    likelihood = [
        run(small, EnvironmentConfig(steps=steps, min_share=0.0)).log_likelihood for steps in (1, 10, 60)
    ]
    assert likelihood[0] < likelihood[1] < likelihood[2]


def test_a_later_round_starts_from_the_last_tilts(small: Small) -> None:
    config = EnvironmentConfig(steps=60, min_share=0.0)
    first = run(small, config)
    second = run(small, EnvironmentConfig(steps=1, learning_rate=1e-9, min_share=0.0), last=first)
    assert first.tilts is not None
    assert second.tilts is not None
    torch.testing.assert_close(second.tilts, first.tilts)
    assert first.moved_share == 1.0
    assert second.moved_share == 0.0
    turned = Environments(
        label=1 - first.label,
        tilts=first.tilts,
        sizes=first.sizes[::-1],
        moved_share=1.0,
        reseeded=0,
        log_likelihood=0.0,
    )
    third = run(small, EnvironmentConfig(steps=1, learning_rate=1e-9, min_share=0.0), last=turned)
    assert third.moved_share == 1.0


def test_equal_seeds_give_equal_labels(small: Small) -> None:
    config = EnvironmentConfig(count=3, steps=10)
    first, again, other = run(small, config), run(small, config), run(small, config, seed=1)
    assert torch.equal(first.label, again.label)
    assert first.log_likelihood == again.log_likelihood
    assert first.tilts is not None
    assert other.tilts is not None
    assert not torch.equal(first.tilts, other.tilts)


def guarded(label: list[int], explained: list[float], count: int, needed: int) -> tuple[list[int], int]:
    """The guard on a posterior whose mixture likelihood is ``explained``."""
    table = torch.full((len(label), count), -100.0)
    table[torch.arange(len(label)), torch.tensor(label)] = torch.tensor(explained)
    found, filled = _with_least_size(torch.tensor(label), table, needed)
    return found.tolist(), filled


def test_the_guard_fills_a_poor_environment_with_the_worst_explained_interactions() -> None:
    found, filled = guarded([0, 0, 0, 0, 0, 1], [5.0, 1.0, 4.0, 2.0, 3.0, 9.0], count=2, needed=3)
    assert found == [0, 1, 0, 1, 0, 1]
    assert filled == 1


def test_the_guard_leaves_rich_environments_alone() -> None:
    assert guarded([0, 0, 1, 1], [1.0] * 4, count=2, needed=2) == ([0, 0, 1, 1], 0)


@pytest.mark.parametrize("seed", range(6))
def test_donors_keep_the_least_size_themselves(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, needed = 4, 10
    label = rng.choice(count, size=45, p=[0.7, 0.28, 0.02, 0.0]).tolist()
    found, filled = guarded(label, rng.standard_normal(45).tolist(), count, needed)
    assert np.bincount(found, minlength=count).min() >= needed
    assert filled >= 2
    # Only members of environments that could spare them have moved.
    moved = [before for before, after in zip(label, found, strict=True) if before != after]
    assert set(moved) <= {0, 1}


def test_filling_moves_no_more_than_what_is_missing() -> None:
    # 16 and 14 can spare 6 and 4 of the 10 that the third environment lacks.
    label = [0] * 16 + [1] * 14
    found, filled = guarded(label, [float(value) for value in range(30)], count=3, needed=10)
    assert np.bincount(found, minlength=3).tolist() == [10, 10, 10]
    assert [place for place in range(30) if found[place] != label[place]] == [*range(6), *range(16, 20)]
    assert filled == 2


def test_identification_reports_that_it_filled_an_environment(small: Small) -> None:
    # Without features all environments are alike, and every interaction falls to the first.
    found = identify(
        torch.zeros(small.n_items, 4), small.shared, small.data, EnvironmentConfig(min_share=0.3), gen()
    )
    needed = round(0.3 * small.data.n_pairs)
    assert sorted(found.sizes) == [needed, small.data.n_pairs - needed]
    assert found.reseeded == 1


def test_too_few_interactions_for_the_environments_are_refused(small: Small) -> None:
    config = EnvironmentConfig(count=50, min_share=0.0)
    with pytest.raises(EmptyEnvironment, match=r"lower environments\.count or environments\.min_share"):
        run(small, config)


def test_given_labels_are_taken_as_they_are(small: Small) -> None:
    label = torch.arange(small.data.n_pairs) % 3
    found = run(small, EnvironmentConfig(count=3, assignment="given"), given=label)
    assert torch.equal(found.label, label)
    assert found.tilts is None
    assert math.isnan(found.log_likelihood)
    with pytest.raises(EmptyEnvironment, match="no interactions"):
        run(small, EnvironmentConfig(count=4, assignment="given"), given=label)


def test_random_labels_are_even_and_stay_over_the_rounds() -> None:
    many = Small(n_users=200, n_items=30)
    config = EnvironmentConfig(count=3, assignment="random")
    first = run(many, config)
    n = many.data.n_pairs
    assert all(abs(size - n / 3) < 4 * math.sqrt(n * 2 / 9) for size in first.sizes)
    second = run(many, config, seed=1, last=first)
    assert torch.equal(second.label, first.label)
    assert second.moved_share == 0.0
    assert not torch.equal(run(many, config, seed=1).label, first.label)


def accuracy(label: Tensor, truth: Tensor) -> float:
    """The share of right labels under the better of the two namings."""
    share = float((label == truth).double().mean())
    return max(share, 1 - share)


def test_planted_environments_are_found_well_above_chance(planted_world: PlantedWorld) -> None:
    model, data = planted_world.model, planted_world.data
    shared = calibrate(model.user_vectors().detach(), model.item_vectors().detach(), data, gen())
    found = identify(0.5 * planted_world.features, shared, data, EnvironmentConfig(), gen())
    assert accuracy(found.label, planted_world.label) >= 0.65
    random = identify(planted_world.features, shared, data, EnvironmentConfig(assignment="random"), gen())
    assert accuracy(random.label, planted_world.label) < 0.52
    # The tilts differ along what the environments differ in.
    assert found.tilts is not None
    gap = (found.tilts[0] - found.tilts[1]).abs()
    spurious, invariant = gap[planted_world.spurious].norm(), gap[planted_world.invariant].norm()
    assert float(spurious) > 3 * float(invariant)
