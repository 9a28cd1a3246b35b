"""Laws of the penalty ``coefficient_variance``; those of its variances are in ``test_coefficients.py``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from painvrl.data.interactions import Interactions
from painvrl.invariance.coefficients import (
    Coefficients,
    FeatureVariances,
    feature_variances,
    fit_coefficients,
)
from painvrl.invariance.contrasts import plan_contrasts
from painvrl.invariance.mask import Draw, Gated, GateStep, MaskConfig, MaskState, gate_step, learn_mask
from painvrl.invariance.shared_model import Affinities, sample_users
from painvrl.model.training_data import training_data

if TYPE_CHECKING:
    from conftest import Small, World


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def variances_of_copies(small: Small, count: int, names: Tensor | None = None) -> FeatureVariances:
    """Of ``small`` with every interaction once in each half of each environment; or named by ``names``."""
    copies = 2 * count
    user, item = (torch.tensor(column).repeat_interleave(copies) for column in zip(*small.pairs, strict=True))
    train = Interactions(user=user, item=item, n_users=small.n_users, n_items=small.n_items)
    data = training_data(train, torch.device("cpu"))
    group = torch.arange(copies).repeat(len(small.pairs)) if names is None else names
    affinities = Affinities(
        user_content=torch.randn(small.n_users, 3, generator=gen(8)),
        weight=torch.randn(small.variant.shape[1], 3, generator=gen(9)),
    )
    sample = sample_users(data, small.n_users, gen())
    return feature_variances(
        fit_coefficients(small.variant, small.shared, affinities, sample, group // 2, group % 2, count)
    )


@pytest.mark.parametrize("count", [2, 3, 7])
def test_environments_with_the_same_interactions_have_no_variances(small: Small, count: int) -> None:
    found = variances_of_copies(small, count)
    names = torch.randint(2 * count, (2 * count * len(small.pairs),), generator=gen())
    other = variances_of_copies(small, count, names)
    least = float(other.naive.min())
    assert least > 1e-4
    assert float(found.value.abs().max()) < 1e-6 * least
    assert float(found.naive.max()) < 1e-6 * least


def coefficients(trend: Tensor, affinity: Tensor) -> Coefficients:
    """For ``[E, 2, F]`` of both kinds."""
    width, draw = trend.shape[2], gen(4)
    trend_scale, affinity_scale = torch.rand(2, width, generator=draw, dtype=torch.float64) + 0.1
    return Coefficients(
        trend=trend,
        affinity=affinity,
        trend_scale=trend_scale,
        affinity_scale=affinity_scale,
        mean_affinity=torch.randn(width, generator=draw, dtype=torch.float64),
    )


@pytest.mark.parametrize("count", [2, 5])
def test_environments_that_differ_in_noise_alone_have_no_penalty_in_the_mean(count: int) -> None:
    draw = gen(count)
    common = 3 * torch.randn(2, 1, 1, 6, generator=draw, dtype=torch.float64)
    found = []
    for _ in range(400):
        noise = torch.randn(2, count, 2, 6, generator=draw, dtype=torch.float64)
        found.append(feature_variances(coefficients(*(common + noise))))
    value, naive = (torch.stack([getattr(each, name).sum() for each in found]) for name in ("value", "naive"))
    error = float(value.std()) / math.sqrt(len(value))
    assert abs(float(value.mean())) < 2 * error
    assert float(naive.mean()) > 20 * error


def a_step(world: World, variances: FeatureVariances, **hyperparameters: Any) -> GateStep:
    """At half-open gates."""
    config = MaskConfig.model_validate({"penalty": "coefficient_variance"} | hyperparameters)
    start = Gated(mu=torch.zeros(5).double(), weight=world.weight, bias=world.bias)
    draw = Draw(noise=torch.zeros(5).double(), sigma=torch.tensor(0.5).double())
    plan = plan_contrasts("all", 2, world.frozen.user_content)
    return gate_step(start, draw, world.labels(2), plan, world.frozen, config, 0.0, variances)


def learned(
    world: World,
    variances: FeatureVariances,
    label: Tensor | None = None,
    count: int = 2,
    **hyperparameters: Any,
) -> MaskState:
    config = MaskConfig.model_validate(
        {"penalty": "coefficient_variance", "steps": 5, "sparsity": 0.4, "gate_rate": 0.2} | hyperparameters
    )
    return learn_mask(
        Gated(mu=torch.zeros(5).double(), weight=world.weight, bias=world.bias),
        world.labels(count) if label is None else label,
        count,
        world.frozen,
        config,
        projection_l2=0.01,
        seed=3,
        variances=variances,
    )


def same(first: MaskState, second: MaskState) -> bool:
    return torch.equal(first.mask, second.mask) and all(
        torch.equal(getattr(first.learned, name), getattr(second.learned, name))
        for name in ("mu", "weight", "bias")
    )


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("balancer", ["mgda", "upgrad"])
def test_environments_with_the_same_coefficients_close_no_gate(
    world: World, count: int, balancer: str
) -> None:
    if balancer == "upgrad":
        pytest.importorskip("torchjd")
    # The halves differ, the environments do not: means of two and of four equal numbers are exact.
    one = torch.randn(2, 1, 2, 5, generator=gen(), dtype=torch.float64)
    alike = feature_variances(coefficients(*one.expand(2, count, 2, 5)))
    assert alike.value.tolist() == alike.naive.tolist() == [0.0] * 5
    found, by_risk = learned(world, alike, balancer=balancer), learned(world, alike, balancer="erm")
    assert same(found, by_risk)
    assert found.trace["penalty"] == (0.0,) * 5
    assert found.trace["epsilon"] == (1.0,) * 5
    # One environment that weighs one feature differently closes that feature's gate.
    other = one.expand(2, count, 2, 5).clone()
    other[1, 0, :, 4] += 1.0
    differing = learned(world, feature_variances(coefficients(*other)), balancer=balancer)
    assert differing.trace["penalty"][0] > 0
    assert float(by_risk.mask[4]) == float(by_risk.mask.max()) > 0
    assert float(differing.mask[4]) == 0


def test_variances_that_add_up_to_nothing_leave_the_risk_alone(world: World) -> None:
    # Noise: half of all estimates of no variance are below zero.
    noise = -torch.rand(5, generator=gen(), dtype=torch.float64)
    below = FeatureVariances(value=noise, naive=noise.abs())
    assert same(learned(world, below), learned(world, below, balancer="erm"))


def test_a_penalty_below_a_hundredth_of_its_naive_estimate_pulls_as_if_it_were_that(world: World) -> None:
    ones = torch.ones(5, dtype=torch.float64)
    hyperparameters: dict[str, Any] = {"balancer": "fixed", "irm_weight": 4.0}
    nothing = a_step(world, FeatureVariances(value=0 * ones, naive=ones), **hyperparameters)
    for value, size in ((1e-5, 0.5 * 5 * 0.01), (0.3, 0.5 * 5 * 0.3)):
        step = a_step(world, FeatureVariances(value=value * ones, naive=ones), **hyperparameters)
        assert float(step.penalty) == pytest.approx(0.5 * 5 * value)
        pull = step.balance.direction - nothing.balance.direction
        torch.testing.assert_close(pull, 0.8 * value / size * ones)


def test_the_steps_of_a_mask_read_its_variances_and_no_environments(world: World) -> None:
    value = torch.tensor([0.5, -0.1, 0.3, 0.0, 0.1], dtype=torch.float64)
    reported = FeatureVariances(value=value, naive=value.abs())
    first = learned(world, reported)
    assert first.measured["penalty"] > 0
    assert same(first, learned(world, reported, label=1 - world.labels(2)))
    assert same(first, learned(world, reported, count=3))
    assert not same(first, learned(world, FeatureVariances(value=value.flip(0), naive=value.abs())))
