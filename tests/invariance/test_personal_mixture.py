from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.invariance.personal_mixture import (
    Design,
    draw_design,
    fit_personal_mixture,
    personal_mixture_loss,
    personal_posterior,
)
from painvrl.invariance.shared_model import Tastes
from painvrl.invariance.soft_mixture import MixtureSettings

if TYPE_CHECKING:
    from conftest import Small

Personal = Literal["personal", "both"]
every_tilt = pytest.mark.parametrize("tilt", ["personal", "both"])


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_tastes(small: Small) -> Tastes:
    draw = gen(8)
    return Tastes(
        user_content=torch.randn(small.n_users, 3, generator=draw),
        weight=torch.randn(small.variant.shape[1], 3, generator=draw),
    )


def columns(small: Small, tilt: Personal) -> int:
    return small.variant.shape[1] * (2 if tilt == "both" else 1)


def a_design(small: Small, settings: MixtureSettings, seed: int = 0) -> Design:
    return draw_design(small.variant, small.shared, some_tastes(small), small.data, settings, gen(seed))


def slow_tilt(small: Small, tilt: Personal, tilts: Tensor, user: int, item: int) -> list[float]:
    """``sum_f (w_f + delta_f b_uf) v_if`` of each environment."""
    tastes, width = some_tastes(small), small.variant.shape[1]
    total = []
    for row in tilts.tolist():
        w, delta = (row[:width], row[width:]) if tilt == "both" else ([0.0] * width, row)
        b = [float(tastes.user_content[user] @ tastes.weight[f]) for f in range(width)]
        v = small.variant[item].tolist()
        total.append(sum((w[f] + delta[f] * b[f]) * v[f] for f in range(width)))
    return total


def slow_log_ratio(small: Small, tilt: Personal, tilts: Tensor) -> np.ndarray:
    """``[N, E]`` ``log p_e(i | u) - log p_0(i | u)``, a softmax over all items at a time."""
    p = small.shared.probabilities(torch.arange(small.n_users)).double().tolist()
    out = []
    for user, item in small.pairs:
        every = [slow_tilt(small, tilt, tilts, user, j) for j in range(small.n_items)]
        z = [sum(p[user][j] * math.exp(every[j][e]) for j in range(small.n_items)) for e in range(len(tilts))]
        out.append([every[item][e] - math.log(z[e]) for e in range(len(tilts))])
    return np.array(out)


@every_tilt
def test_the_posterior_equals_the_brute_force_softmax(small: Small, tilt: Personal) -> None:
    tilts = 0.5 * torch.randn(3, columns(small, tilt), generator=gen(2))
    for cells in (10**6, 2 * small.n_items):  # in one block, in blocks of two users
        settings = MixtureSettings(tilt=tilt, fit_cells=cells)
        found = personal_posterior(
            small.variant, small.shared, some_tastes(small), small.data, tilts, settings
        )
        np.testing.assert_allclose(found.numpy(), slow_log_ratio(small, tilt, tilts), atol=1e-4)


@every_tilt
def test_the_loss_comes_to_the_likelihood_as_candidates_grow(small: Small, tilt: Personal) -> None:
    tilts = 0.5 * torch.randn(2, 3, columns(small, tilt), generator=gen(2))
    settings = MixtureSettings(tilt=tilt, candidates=20_000, design_cells=10**8)
    loss = personal_mixture_loss(tilts, a_design(small, settings), 0.01)
    for restart in range(2):
        ratios = slow_log_ratio(small, tilt, tilts[restart])
        mixture = np.log(np.exp(ratios).mean(axis=1)).mean()
        expected = -mixture + 0.01 * float(tilts[restart].square().sum())
        assert float(loss[restart]) == pytest.approx(expected, abs=1e-3)


@every_tilt
def test_the_loss_equals_the_loop_over_the_design(small: Small, tilt: Personal) -> None:
    design = a_design(small, MixtureSettings(tilt=tilt, candidates=4))
    tilts = torch.randn(1, 3, columns(small, tilt), generator=gen(2))
    rows, candidates = design.rows.tolist(), design.candidates.tolist()
    total = 0.0
    for place, user in enumerate(design.user.tolist()):
        ratios = []
        for tilt_row in tilts[0].tolist():
            z = sum(math.exp(np.dot(tilt_row, other)) for other in candidates[user]) / 4
            ratios.append(math.exp(np.dot(tilt_row, rows[place])) / z)
        total += math.log(sum(ratios) / 3) / len(rows)
    expected = -total + 0.1 * float(tilts.square().sum())
    assert float(personal_mixture_loss(tilts, design, 0.1)) == pytest.approx(expected, rel=1e-4)


@every_tilt
def test_tilts_of_zero_change_no_likelihood(small: Small, tilt: Personal) -> None:
    design = a_design(small, MixtureSettings(tilt=tilt))
    assert float(
        personal_mixture_loss(torch.zeros(1, 2, columns(small, tilt)), design, 1.0)
    ) == pytest.approx(0.0, abs=1e-6)


@every_tilt
def test_renaming_the_tilts_renames_the_environments(small: Small, tilt: Personal) -> None:
    tilts, order = torch.randn(4, columns(small, tilt), generator=gen(2)), torch.tensor([1, 2, 3, 0])
    settings = MixtureSettings(tilt=tilt)
    straight, renamed = (
        personal_posterior(small.variant, small.shared, some_tastes(small), small.data, named, settings)
        for named in (tilts, tilts[order])
    )
    torch.testing.assert_close(renamed, straight[:, order])
    design = a_design(small, settings)
    torch.testing.assert_close(
        personal_mixture_loss(tilts[order][None], design, 0.1),
        personal_mixture_loss(tilts[None], design, 0.1),
    )


def test_large_tilts_stay_finite(small: Small) -> None:
    design = a_design(small, MixtureSettings(tilt="both"))
    tilts = (200 * torch.randn(1, 2, columns(small, "both"), generator=gen())).requires_grad_()
    loss = personal_mixture_loss(tilts, design, 0.0).sum()
    (slope,) = torch.autograd.grad(loss, tilts)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(slope).all())


def test_candidates_follow_the_shared_model(small: Small) -> None:
    # One feature an item and a taste of one: the rows name the items. Systematic sampling draws an item
    # M p times, but for less than one.
    tastes = Tastes(user_content=torch.ones(small.n_users, 1), weight=torch.ones(small.n_items, 1))
    settings = MixtureSettings(tilt="personal", candidates=50)
    design = draw_design(torch.eye(small.n_items), small.shared, tastes, small.data, settings, gen())
    count = design.candidates.sum(dim=1)
    expected = 50 * small.shared.probabilities(torch.arange(small.n_users))
    assert count.sum(dim=1).tolist() == [50.0] * small.n_users
    assert float((count - expected).abs().max()) < 1 + 1e-3
    assert float(count[:, 2].sum()) == 0.0  # the cold item
    other = draw_design(torch.eye(small.n_items), small.shared, tastes, small.data, settings, gen(1))
    assert not torch.equal(other.candidates, design.candidates)


def test_the_rows_are_those_of_the_pairs(small: Small) -> None:
    design = a_design(small, MixtureSettings(tilt="both"))
    taste = some_tastes(small).of(torch.arange(small.n_users))
    expected = [torch.cat([small.variant[i], taste[u] * small.variant[i]]) for u, i in small.pairs]
    torch.testing.assert_close(design.rows, torch.stack(expected))
    assert design.user.tolist() == [u for u, _ in small.pairs]


@pytest.mark.parametrize("budget", [{"design_cells": 4 * 160}, {"fit_cells": 4 * 11}])
def test_a_fit_beyond_its_budget_sees_some_users(small: Small, budget: dict[str, int]) -> None:
    by_user = 8 * (16 + small.data.n_pairs / small.n_users)
    assert 4 * 160 / by_user == pytest.approx(4, abs=0.9)
    design = a_design(small, MixtureSettings(tilt="both", candidates=16, **budget))  # type: ignore[arg-type]
    assert len(design.candidates) in (3, 4)
    assert set(design.user.tolist()) <= set(range(4))
    assert len(design.rows) < small.data.n_pairs


def test_the_kept_restart_is_the_likeliest(small: Small) -> None:
    settings = MixtureSettings(tilt="both", steps=8, restarts=4, personal_ridge=0.0)
    found = fit_personal_mixture(
        small.variant, small.shared, some_tastes(small), small.data, 2, settings, gen(2)
    )
    draws = gen(2)
    design = draw_design(small.variant, small.shared, some_tastes(small), small.data, settings, draws)
    starts = 0.1 * torch.randn(4, 2, 8, generator=draws)
    losses = []
    for start in starts:
        tilts = start[None].clone().requires_grad_()
        optimizer = torch.optim.Adam([tilts], lr=settings.learning_rate)
        for _ in range(8):
            optimizer.zero_grad()
            personal_mixture_loss(tilts, design, 0.0).sum().backward()
            optimizer.step()
        losses.append(float(personal_mixture_loss(tilts.detach(), design, 0.0)))
    assert len({round(loss, 6) for loss in losses}) > 1
    assert found.log_likelihood == pytest.approx(-min(losses), abs=1e-5)


def test_the_ridge_shortens_the_tilts(small: Small) -> None:
    lengths = [
        float(
            fit_personal_mixture(
                small.variant,
                small.shared,
                some_tastes(small),
                small.data,
                2,
                MixtureSettings(tilt="both", personal_ridge=ridge),
                gen(2),
            ).tilts.norm()
        )
        for ridge in (0.0, 0.01, 1.0)
    ]
    assert lengths[0] > lengths[1] > lengths[2]
