from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.invariance import soft_mixture
from painvrl.invariance.soft_mixture import (
    FitSample,
    MixtureSettings,
    fit_mixture,
    fit_sample,
    mixture_loss,
    posterior,
)
from painvrl.model.pairs import sort_pairs

if TYPE_CHECKING:
    from conftest import Small


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_offsets(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=gen(seed))


def test_the_mixture_loss_equals_the_brute_force_likelihood(small: Small) -> None:
    offsets = torch.stack([some_offsets(3, seed=seed) for seed in range(2)])  # two restarts
    loss = mixture_loss(
        offsets, small.variant, fit_sample(small.shared, small.data, MixtureSettings(), gen()), ridge=0.01
    )
    without = small.slow_log_p(np.zeros((1, 4)))[:, 0]
    for restart in range(2):
        weights = offsets[restart].double().numpy()
        mixture = np.log(np.exp(small.slow_log_p(weights)).mean(axis=1))  # equal shares
        expected = -(mixture - without).mean() + 0.01 * (weights**2).sum()
        assert float(loss[restart]) == pytest.approx(expected, abs=1e-5)


def test_offsets_of_zero_change_no_likelihood(small: Small) -> None:
    loss = mixture_loss(
        torch.zeros(1, 2, 4),
        small.variant,
        fit_sample(small.shared, small.data, MixtureSettings(), gen()),
        ridge=1.0,
    )
    assert float(loss) == pytest.approx(0.0, abs=1e-6)


def test_the_posterior_equals_the_brute_force_softmax(small: Small) -> None:
    offsets = some_offsets(3)
    found = torch.softmax(posterior(small.variant, small.shared, small.data, offsets).double(), dim=1)
    joint = np.exp(small.slow_log_p(offsets.double().numpy()))
    np.testing.assert_allclose(found.numpy(), joint / joint.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("cells", [1 << 26, 600, 1])
def test_the_posterior_does_not_depend_on_the_blocks_of_users(
    cells: int, make_small: type[Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1,100 users are more than a block; each must meet its own normaliser.
    monkeypatch.setattr(soft_mixture, "_POSTERIOR_CELLS", cells)
    many = make_small(n_users=1100, n_items=6, share=0.3)
    offsets = some_offsets(2)
    log_ratio = posterior(many.variant, many.shared, many.data, offsets).double()
    expected = many.slow_log_p(offsets.double().numpy()) - many.slow_log_p(np.zeros((1, 4)))
    np.testing.assert_allclose(log_ratio.numpy(), expected, atol=1e-4)


def test_renaming_the_offsets_renames_the_environments(small: Small) -> None:
    offsets, order = some_offsets(4), torch.tensor([2, 0, 3, 1])
    straight = posterior(small.variant, small.shared, small.data, offsets)
    renamed = posterior(small.variant, small.shared, small.data, offsets[order])
    torch.testing.assert_close(renamed, straight[:, order])
    sample = fit_sample(small.shared, small.data, MixtureSettings(), gen())
    torch.testing.assert_close(
        mixture_loss(offsets[None], small.variant, sample, 0.1),
        mixture_loss(offsets[order][None], small.variant, sample, 0.1),
    )


def test_large_offsets_stay_finite(small: Small) -> None:
    offsets = 200 * some_offsets(2)[None].requires_grad_()
    loss = mixture_loss(
        offsets, small.variant, fit_sample(small.shared, small.data, MixtureSettings(), gen()), 0.0
    ).sum()
    (slope,) = torch.autograd.grad(loss, offsets)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


def test_offsets_that_single_out_an_improbable_item_keep_their_gradient() -> None:
    # The normalisers of the two environments are many orders of magnitude apart.
    weights = torch.tensor([[1.0, 1e-20]], dtype=torch.float64)
    interactions = Interactions(user=torch.tensor([0]), item=torch.tensor([1]), n_users=1, n_items=2)
    variant = torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def gradient(kind: torch.dtype) -> Tensor:
        sample = FitSample(weights=weights.to(kind), pairs=sort_pairs(interactions))
        offsets = torch.tensor([[[60.0], [54.0]]], dtype=kind, requires_grad=True)
        (slope,) = torch.autograd.grad(mixture_loss(offsets, variant.to(kind), sample, 0.0).sum(), offsets)
        return slope.double()

    exact = gradient(torch.float64)
    assert float(exact.abs().min()) > 0
    torch.testing.assert_close(gradient(torch.float32), exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("gap", [5.0, 75.0, 90.0])
def test_an_item_that_every_environment_dislikes_keeps_its_likelihood_and_gradient(gap: float) -> None:
    interactions = Interactions(user=torch.tensor([0]), item=torch.tensor([1]), n_users=1, n_items=2)
    variant, weights = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.5, 0.5]])
    offsets = torch.tensor([[[gap], [gap - 1]]], requires_grad=True)
    sample = FitSample(weights=weights, pairs=sort_pairs(interactions))
    loss = mixture_loss(offsets, variant, sample, 0.0).sum()
    (slope,) = torch.autograd.grad(loss, offsets)
    # The oracle: log-probabilities of the softmax, in float64.
    wide = offsets.detach().double().requires_grad_()
    offset = variant.double() @ wide[0].T  # [2, 2]
    log_z = torch.logsumexp(offset + weights.double().log().T, dim=0)
    expected = math.log(2) - torch.logsumexp(offset[1] - log_z, dim=0)
    (wanted,) = torch.autograd.grad(expected, wide)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(slope.double(), wanted, rtol=1e-4, atol=1e-6)
    assert float(wanted.abs().max()) > 0.1


def test_a_fit_within_its_budget_sees_every_pair(small: Small) -> None:
    sample = fit_sample(small.shared, small.data, MixtureSettings(), gen())
    assert sample.weights.shape == (small.n_users, small.n_items)
    assert list(zip(sample.pairs.user.tolist(), sample.pairs.item.tolist(), strict=True)) == small.pairs


def test_a_fit_beyond_its_budget_sees_all_pairs_of_some_users(small: Small) -> None:
    config = MixtureSettings(fit_cells=4 * small.n_items)
    sample = fit_sample(small.shared, small.data, config, gen(1))
    assert sample.weights.shape == (4, small.n_items)
    everyone = small.shared.probabilities(torch.arange(small.n_users))
    users = [int((everyone == row).all(dim=1).nonzero()) for row in sample.weights]
    assert len(set(users)) == 4
    listed = zip(sample.pairs.user.tolist(), sample.pairs.item.tolist(), strict=True)
    found = [(users[row], item) for row, item in listed]
    assert found == [pair for pair in small.pairs if pair[0] in users]


def test_the_kept_restart_is_the_likeliest(small: Small) -> None:
    config = MixtureSettings(steps=8, restarts=4, ridge=0.0)
    found = fit_mixture(small.variant, small.shared, small.data, 2, config, gen(2))
    sample = fit_sample(small.shared, small.data, MixtureSettings(), gen())
    # The same four starts, each fitted by itself.
    starts = 0.1 * torch.randn(4, 2, 4, generator=gen(2))
    losses = []
    for start in starts:
        offsets = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([offsets], lr=config.learning_rate)
        for _ in range(8):
            optimizer.zero_grad()
            mixture_loss(offsets, small.variant, sample, 0.0).sum().backward()
            optimizer.step()
        losses.append(float(mixture_loss(offsets.detach(), small.variant, sample, 0.0)))
    assert len({round(loss, 6) for loss in losses}) > 1
    assert found.log_likelihood == pytest.approx(-min(losses), abs=1e-6)
