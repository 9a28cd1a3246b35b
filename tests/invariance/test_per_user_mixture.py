from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.invariance.per_user_mixture import (
    Design,
    draw_design,
    fit_per_user_mixture,
    per_user_mixture_loss,
    per_user_posterior,
)
from painvrl.invariance.shared_model import Affinities
from painvrl.invariance.soft_mixture import MixtureSettings

if TYPE_CHECKING:
    from conftest import Small

PerUser = Literal["per_user", "both"]
every_offset = pytest.mark.parametrize("offset", ["per_user", "both"])


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_affinities(small: Small) -> Affinities:
    draw = gen(8)
    return Affinities(
        user_content=torch.randn(small.n_users, 3, generator=draw),
        weight=torch.randn(small.variant.shape[1], 3, generator=draw),
    )


def columns(small: Small, offset: PerUser) -> int:
    return small.variant.shape[1] * (2 if offset == "both" else 1)


def a_design(small: Small, settings: MixtureSettings, seed: int = 0) -> Design:
    return draw_design(small.variant, small.shared, some_affinities(small), small.data, settings, gen(seed))


def slow_offset(small: Small, offset: PerUser, offsets: Tensor, user: int, item: int) -> list[float]:
    """``sum_f (w_f + delta_f b_uf) v_if`` of each environment."""
    affinities, width = some_affinities(small), small.variant.shape[1]
    total = []
    for row in offsets.tolist():
        w, delta = (row[:width], row[width:]) if offset == "both" else ([0.0] * width, row)
        b = [float(affinities.user_content[user] @ affinities.weight[f]) for f in range(width)]
        v = small.variant[item].tolist()
        total.append(sum((w[f] + delta[f] * b[f]) * v[f] for f in range(width)))
    return total


def slow_log_ratio(small: Small, offset: PerUser, offsets: Tensor) -> np.ndarray:
    """``[N, E]`` ``log p_e(i | u) - log p_0(i | u)``, a softmax over all items at a time."""
    p = small.shared.probabilities(torch.arange(small.n_users)).double().tolist()
    out = []
    for user, item in small.pairs:
        every = [slow_offset(small, offset, offsets, user, j) for j in range(small.n_items)]
        z = [
            sum(p[user][j] * math.exp(every[j][e]) for j in range(small.n_items)) for e in range(len(offsets))
        ]
        out.append([every[item][e] - math.log(z[e]) for e in range(len(offsets))])
    return np.array(out)


@every_offset
def test_the_posterior_equals_the_brute_force_softmax(small: Small, offset: PerUser) -> None:
    offsets = 0.5 * torch.randn(3, columns(small, offset), generator=gen(2))
    for cells in (10**6, 2 * small.n_items):  # in one block, in blocks of two users
        settings = MixtureSettings(logit_offset=offset, fit_cells=cells)
        found = per_user_posterior(
            small.variant, small.shared, some_affinities(small), small.data, offsets, settings
        )
        np.testing.assert_allclose(found.numpy(), slow_log_ratio(small, offset, offsets), atol=1e-4)


@every_offset
def test_the_loss_comes_to_the_likelihood_as_candidates_grow(small: Small, offset: PerUser) -> None:
    offsets = 0.5 * torch.randn(2, 3, columns(small, offset), generator=gen(2))
    settings = MixtureSettings(logit_offset=offset, candidates=20_000, design_cells=10**8)
    loss = per_user_mixture_loss(offsets, a_design(small, settings), 0.01)
    for restart in range(2):
        ratios = slow_log_ratio(small, offset, offsets[restart])
        mixture = np.log(np.exp(ratios).mean(axis=1)).mean()
        expected = -mixture + 0.01 * float(offsets[restart].square().sum())
        assert float(loss[restart]) == pytest.approx(expected, abs=1e-3)


@every_offset
def test_the_loss_equals_the_loop_over_the_design(small: Small, offset: PerUser) -> None:
    design = a_design(small, MixtureSettings(logit_offset=offset, candidates=4))
    offsets = torch.randn(1, 3, columns(small, offset), generator=gen(2))
    rows, candidates = design.rows.tolist(), design.candidates.tolist()
    total = 0.0
    for place, user in enumerate(design.user.tolist()):
        ratios = []
        for offset_row in offsets[0].tolist():
            z = sum(math.exp(np.dot(offset_row, other)) for other in candidates[user]) / 4
            ratios.append(math.exp(np.dot(offset_row, rows[place])) / z)
        total += math.log(sum(ratios) / 3) / len(rows)
    expected = -total + 0.1 * float(offsets.square().sum())
    assert float(per_user_mixture_loss(offsets, design, 0.1)) == pytest.approx(expected, rel=1e-4)


@every_offset
def test_offsets_of_zero_change_no_likelihood(small: Small, offset: PerUser) -> None:
    design = a_design(small, MixtureSettings(logit_offset=offset))
    assert float(
        per_user_mixture_loss(torch.zeros(1, 2, columns(small, offset)), design, 1.0)
    ) == pytest.approx(0.0, abs=1e-6)


@every_offset
def test_renaming_the_offsets_renames_the_environments(small: Small, offset: PerUser) -> None:
    offsets, order = torch.randn(4, columns(small, offset), generator=gen(2)), torch.tensor([1, 2, 3, 0])
    settings = MixtureSettings(logit_offset=offset)
    straight, renamed = (
        per_user_posterior(small.variant, small.shared, some_affinities(small), small.data, named, settings)
        for named in (offsets, offsets[order])
    )
    torch.testing.assert_close(renamed, straight[:, order])
    design = a_design(small, settings)
    torch.testing.assert_close(
        per_user_mixture_loss(offsets[order][None], design, 0.1),
        per_user_mixture_loss(offsets[None], design, 0.1),
    )


def test_large_offsets_stay_finite(small: Small) -> None:
    design = a_design(small, MixtureSettings(logit_offset="both"))
    offsets = (200 * torch.randn(1, 2, columns(small, "both"), generator=gen())).requires_grad_()
    loss = per_user_mixture_loss(offsets, design, 0.0).sum()
    (slope,) = torch.autograd.grad(loss, offsets)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(slope).all())


def test_candidates_follow_the_shared_model(small: Small) -> None:
    # One feature an item and a affinity of one: the rows name the items. Systematic sampling draws an item
    # M p times, but for less than one.
    affinities = Affinities(user_content=torch.ones(small.n_users, 1), weight=torch.ones(small.n_items, 1))
    settings = MixtureSettings(logit_offset="per_user", candidates=50)
    design = draw_design(torch.eye(small.n_items), small.shared, affinities, small.data, settings, gen())
    count = design.candidates.sum(dim=1)
    expected = 50 * small.shared.probabilities(torch.arange(small.n_users))
    assert count.sum(dim=1).tolist() == [50.0] * small.n_users
    assert float((count - expected).abs().max()) < 1 + 1e-3
    assert float(count[:, 2].sum()) == 0.0  # the cold item
    other = draw_design(torch.eye(small.n_items), small.shared, affinities, small.data, settings, gen(1))
    assert not torch.equal(other.candidates, design.candidates)


def test_the_rows_are_those_of_the_pairs(small: Small) -> None:
    design = a_design(small, MixtureSettings(logit_offset="both"))
    affinity = some_affinities(small).of(torch.arange(small.n_users))
    expected = [torch.cat([small.variant[i], affinity[u] * small.variant[i]]) for u, i in small.pairs]
    torch.testing.assert_close(design.rows, torch.stack(expected))
    assert design.user.tolist() == [u for u, _ in small.pairs]


@pytest.mark.parametrize("budget", [{"design_cells": 4 * 160}, {"fit_cells": 4 * 11}])
def test_a_fit_beyond_its_budget_sees_some_users(small: Small, budget: dict[str, int]) -> None:
    by_user = 8 * (16 + small.data.n_pairs / small.n_users)
    assert 4 * 160 / by_user == pytest.approx(4, abs=0.9)
    design = a_design(small, MixtureSettings(logit_offset="both", candidates=16, **budget))  # type: ignore[arg-type]
    assert len(design.candidates) in (3, 4)
    assert set(design.user.tolist()) <= set(range(4))
    assert len(design.rows) < small.data.n_pairs


def test_the_kept_restart_is_the_likeliest(small: Small) -> None:
    settings = MixtureSettings(logit_offset="both", steps=8, restarts=4, per_user_ridge=0.0)
    found = fit_per_user_mixture(
        small.variant, small.shared, some_affinities(small), small.data, 2, settings, gen(2)
    )
    draws = gen(2)
    design = draw_design(small.variant, small.shared, some_affinities(small), small.data, settings, draws)
    starts = 0.1 * torch.randn(4, 2, 8, generator=draws)
    losses = []
    for start in starts:
        offsets = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([offsets], lr=settings.learning_rate)
        for _ in range(8):
            optimizer.zero_grad()
            per_user_mixture_loss(offsets, design, 0.0).sum().backward()
            optimizer.step()
        losses.append(float(per_user_mixture_loss(offsets.detach(), design, 0.0)))
    assert len({round(loss, 6) for loss in losses}) > 1
    assert found.log_likelihood == pytest.approx(-min(losses), abs=1e-5)


def test_the_ridge_shortens_the_offsets(small: Small) -> None:
    lengths = [
        float(
            fit_per_user_mixture(
                small.variant,
                small.shared,
                some_affinities(small),
                small.data,
                2,
                MixtureSettings(logit_offset="both", per_user_ridge=ridge),
                gen(2),
            ).offsets.norm()
        )
        for ridge in (0.0, 0.01, 1.0)
    ]
    assert lengths[0] > lengths[1] > lengths[2]
