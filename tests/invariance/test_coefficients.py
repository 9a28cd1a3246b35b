from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.invariance.coefficients import (
    Coefficients,
    FeatureVariances,
    feature_variances,
    fit_coefficients,
    weighted_median,
)
from painvrl.invariance.contrasts import plan_contrasts
from painvrl.invariance.mask import Draw, MaskConfig, gate_step, learn_mask
from painvrl.invariance.shared_model import Affinities, UserSample, calibrate, sample_users

if TYPE_CHECKING:
    from conftest import PlantedWorld, Small


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_affinities(small: Small) -> Affinities:
    draw = gen(8)
    return Affinities(
        user_content=torch.randn(small.n_users, 3, generator=draw),
        weight=torch.randn(small.variant.shape[1], 3, generator=draw),
    )


def fitted(
    small: Small, label: Tensor, half: Tensor, count: int, sample: UserSample | None = None
) -> Coefficients:
    sample = sample or sample_users(small.data, small.n_users, gen())
    return fit_coefficients(small.variant, small.shared, some_affinities(small), sample, label, half, count)


def labels(n_pairs: int, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = gen(seed)
    return torch.randint(count, (n_pairs,), generator=draw), torch.randint(2, (n_pairs,), generator=draw)


def literal(small: Small, label: Tensor, half: Tensor, count: int, users: list[int]) -> dict[str, np.ndarray]:
    """One step of Newton's method, user by user and item by item, from the definitions."""
    f = small.variant.double().numpy()
    everyone = torch.arange(small.n_users)
    p = small.shared.probabilities(everyone).double().numpy()
    affinity = some_affinities(small)
    b = affinity.user_content.double().numpy() @ affinity.weight.double().numpy().T
    listed = [
        (u, i, int(e), int(h))
        for (u, i), e, h in zip(small.pairs, label.tolist(), half.tolist(), strict=True)
        if u in users
    ]
    n, width = len(listed), f.shape[1]
    mean_affinity = sum(b[u] for u, *_ in listed) / n
    expected = {u: sum(p[u, i] * f[i] for i in range(small.n_items)) for u in users}
    covariance, second = np.zeros((width, width)), np.zeros((width, width))
    for u, *_ in listed:
        for i in range(small.n_items):
            covariance += p[u, i] * np.outer(f[i] - expected[u], f[i] - expected[u]) / n
        second += np.outer(b[u] - mean_affinity, b[u] - mean_affinity) / n
    moments = covariance * second
    steps = [
        np.linalg.inv(hessian + 0.01 * np.mean(np.diag(hessian)) * np.eye(width))
        for hessian in (covariance, moments)
    ]
    trend, own = np.zeros((count, 2, width)), np.zeros((count, 2, width))
    for e in range(count):
        for h in range(2):
            mine = [(u, i) for u, i, e_, h_ in listed if (e_, h_) == (e, h)]
            if mine:
                trend[e, h] = steps[0] @ (sum(f[i] - expected[u] for u, i in mine) / len(mine))
                own[e, h] = steps[1] @ (
                    sum((b[u] - mean_affinity) * (f[i] - expected[u]) for u, i in mine) / len(mine)
                )
    return {
        "trend": trend,
        "affinity": own,
        "trend_scale": np.diag(covariance),
        "affinity_scale": np.diag(moments),
        "mean_affinity": mean_affinity,
    }


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("budget", [9, 5])
def test_the_fit_equals_a_literal_newton_step(small: Small, count: int, budget: int) -> None:
    label, half = labels(small.data.n_pairs, count)
    sample = sample_users(small.data, budget, gen(3))
    found = fitted(small, label, half, count, sample)
    expected = literal(small, label, half, count, sample.users.tolist())
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name).numpy(), values, rtol=2e-3, atol=2e-4, err_msg=name)


def test_an_empty_half_has_no_coefficients_of_its_own(small: Small) -> None:
    label, _ = labels(small.data.n_pairs, 2)
    found = fitted(small, label, torch.zeros_like(label), 2)
    assert float(found.trend[:, 1].abs().max()) == 0.0
    assert float(found.affinity[:, 1].abs().max()) == 0.0
    assert bool(torch.isfinite(feature_variances(found).value).all())


def test_renaming_the_environments_changes_no_variance(small: Small) -> None:
    label, half = labels(small.data.n_pairs, 3)
    order = torch.tensor([2, 0, 1])
    found, renamed = fitted(small, label, half, 3), fitted(small, order[label], half, 3)
    torch.testing.assert_close(renamed.trend[order], found.trend)
    torch.testing.assert_close(renamed.affinity[order], found.affinity)
    first, again = feature_variances(found), feature_variances(renamed)
    torch.testing.assert_close(again.value, first.value)
    torch.testing.assert_close(again.naive, first.naive)


def drawn(count: int, width: int = 6, seed: int = 0) -> Coefficients:
    draw = gen(seed)
    return Coefficients(
        trend=torch.randn(count, 2, width, generator=draw, dtype=torch.float64),
        affinity=torch.randn(count, 2, width, generator=draw, dtype=torch.float64),
        trend_scale=torch.rand(width, generator=draw, dtype=torch.float64) + 0.1,
        affinity_scale=torch.rand(width, generator=draw, dtype=torch.float64) + 0.1,
        mean_affinity=torch.randn(width, generator=draw, dtype=torch.float64),
    )


def literal_variances(c: Coefficients) -> tuple[list[float], list[float]]:
    """``V`` from the method's formula, with loops."""
    count, _, width = c.trend.shape
    trend, affinity = c.trend.tolist(), c.affinity.tolist()
    left: dict[tuple[str, int, int], list[float]] = {}
    for half in range(2):
        spread = []
        for f in range(width):
            column = [trend[e][half][f] for e in range(count)]
            mean = sum(column) / count
            spread.append(sum((x - mean) ** 2 for x in column) / count * float(c.trend_scale[f]))
        anchors = [f for f in range(width) if spread[f] <= sorted(spread)[(width - 1) // 2]]
        for e in range(count):
            ordered = sorted(anchors, key=lambda f: affinity[e][half][f])
            total, below = sum(float(c.affinity_scale[f]) for f in anchors), 0.0
            for f in ordered:
                below += float(c.affinity_scale[f])
                if below >= total / 2:
                    kappa = affinity[e][half][f]
                    break
            left["trend", half, e] = [
                trend[e][half][f] - kappa * float(c.mean_affinity[f]) for f in range(width)
            ]
            left["affinity", half, e] = [affinity[e][half][f] - kappa for f in range(width)]
    value, naive = [0.0] * width, [0.0] * width
    for part, scale in (("trend", c.trend_scale), ("affinity", c.affinity_scale)):
        for f in range(width):
            mean = [sum(left[part, half, e][f] for e in range(count)) / count for half in range(2)]
            for e in range(count):
                a, b = (left[part, half, e][f] - mean[half] for half in range(2))
                value[f] += float(scale[f]) * a * b / count
                naive[f] += float(scale[f]) * (a * a + b * b) / 2 / count
    return value, naive


@pytest.mark.parametrize("count", [2, 5])
def test_the_variances_equal_the_loop_over_environments(count: int) -> None:
    found = feature_variances(drawn(count, seed=count))
    value, naive = literal_variances(drawn(count, seed=count))
    assert found.value.tolist() == pytest.approx(value, rel=1e-9)
    assert found.naive.tolist() == pytest.approx(naive, rel=1e-9)


def test_a_common_scale_of_one_environment_is_no_variance() -> None:
    plain = dataclasses.replace(drawn(3), mean_affinity=torch.zeros(6, dtype=torch.float64))
    scaled = plain.affinity.clone()
    scaled[1] += 0.7
    rescaled = dataclasses.replace(plain, affinity=scaled)
    torch.testing.assert_close(feature_variances(rescaled).value, feature_variances(plain).value)
    scaled[1, :, 0] += 0.7  # of one feature alone it is
    assert not torch.allclose(
        feature_variances(dataclasses.replace(plain, affinity=scaled)).value, feature_variances(plain).value
    )


def test_features_whose_trend_stays_are_the_anchor() -> None:
    # Two clusters, told apart by nothing but their trends; the larger weights are the other's.
    affinity = torch.zeros(2, 2, 6, dtype=torch.float64)
    affinity[0, :, :3], affinity[0, :, 3:] = -1.0, 1.0
    trend = torch.zeros_like(affinity)
    trend[0, :, 3:] = 0.5
    ones = torch.ones(6, dtype=torch.float64)
    scale = torch.tensor([1.0, 1.0, 1.0, 9.0, 9.0, 9.0], dtype=torch.float64)
    found = feature_variances(
        Coefficients(
            trend=trend, affinity=affinity, trend_scale=ones, affinity_scale=scale, mean_affinity=0 * ones
        )
    ).value
    assert found.tolist() == pytest.approx([0.0] * 3 + [0.0625 + 9 * 1.0] * 3)


@pytest.mark.parametrize("count", [1, 5, 6, 20])
def test_features_that_do_not_vary_change_no_other_variance(count: int) -> None:
    reported = drawn(3)
    padded = Coefficients(
        **{
            name: torch.cat([value, value.new_zeros(*value.shape[:-1], count)], dim=-1)
            for name, value in vars(reported).items()
        }
    )
    alone, beside = feature_variances(reported).value, feature_variances(padded).value
    torch.testing.assert_close(beside[:6], alone)
    assert beside[6:].tolist() == [0.0] * count


def test_the_weighted_median_equals_a_sorted_walk() -> None:
    values, weights = torch.randn(4, 7, generator=gen()), torch.rand(4, 7, generator=gen(1))
    weights[:, 2] = 0.0
    found = weighted_median(values, weights)
    for row in range(4):
        pairs = sorted(zip(values[row].tolist(), weights[row].tolist(), strict=True))
        half = sum(weight for _, weight in pairs) / 2
        reached = np.cumsum([weight for _, weight in pairs])
        expected = next(value for (value, _), below in zip(pairs, reached, strict=True) if below >= half)
        assert float(found[row]) == pytest.approx(expected)


@dataclasses.dataclass(frozen=True)
class Planted:
    """The planted world, seen through its own pretrained model."""

    world: PlantedWorld
    fit: tuple[Tensor, object, Affinities, UserSample]

    def variances(self, label: Tensor, half: Tensor, count: int) -> FeatureVariances:
        features, shared, affinities, sample = self.fit
        return feature_variances(
            fit_coefficients(features, shared, affinities, sample, label, half, count)  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def planted(planted_world: PlantedWorld) -> Planted:
    model, data = planted_world.model, planted_world.data
    shared = calibrate(model.user_vectors().detach(), model.item_vectors().detach(), data, gen())
    affinities = Affinities(
        user_content=shared.temperature * model.user_content.detach(), weight=model.weight.detach()
    )
    sample = sample_users(data, 150, gen())
    return Planted(planted_world, (planted_world.features, shared, affinities, sample))


@pytest.mark.parametrize("count", [2, 10])
def test_random_labels_have_no_penalty_in_the_mean(planted: Planted, count: int) -> None:
    found = [planted.variances(*labels(planted.world.data.n_pairs, count, seed), count) for seed in range(40)]
    value = torch.stack([each.value.sum() for each in found])
    error = float(value.std()) / math.sqrt(len(value))
    assert abs(float(value.mean())) < 2 * error
    naive = torch.stack([each.naive.sum() for each in found])
    assert float(naive.mean()) > 10 * error  # what the halves take out


def test_true_labels_have_a_clearly_positive_penalty(planted: Planted) -> None:
    label = planted.world.label
    halves = [torch.randint(2, label.shape, generator=gen(seed)) for seed in range(10)]
    value = torch.stack([planted.variances(label, half, 2).value.sum() for half in halves])
    assert float(value.min()) > 0
    assert float(value.mean()) > 10 * float(value.std()) / math.sqrt(len(value))


def test_true_environments_separate_spurious_from_invariant_features(planted: Planted) -> None:
    world = planted.world
    half = torch.randint(2, world.label.shape, generator=gen(1))
    found = planted.variances(world.label, half, 2).value
    spurious, rest = found[world.spurious], torch.cat([found[world.invariant], found[32:]])
    above = float((spurious[:, None] > rest).double().mean())
    assert above > 0.97
    assert float(spurious.median()) > 10 * float(found[world.invariant].median())


def test_a_step_of_the_gates_follows_the_variances(planted: Planted) -> None:
    world, config = (
        planted.world,
        MaskConfig(penalty="coefficient_variance", irm_weight=1e6, balancer="fixed"),
    )
    value = torch.rand(world.width, generator=gen(2)) - 0.2
    variances = FeatureVariances(value=value, naive=value.abs())
    plan = plan_contrasts("all", 2, world.frozen.user_content)
    draw = Draw(noise=torch.zeros(world.width), sigma=torch.tensor(0.5))
    taken = gate_step(world.start, draw, world.label, plan, world.frozen, config, 0.0, variances)
    assert float(taken.penalty) == pytest.approx(float(value.sum()) / 2, rel=1e-5)
    torch.testing.assert_close(taken.balance.direction, value / (value.sum() / 2), rtol=1e-3, atol=1e-3)


def test_the_mask_keeps_invariant_features_and_closes_spurious_ones(planted: Planted) -> None:
    world = planted.world
    half = torch.randint(2, world.label.shape, generator=gen(1))

    def kept(label: Tensor) -> Tensor:
        state = learn_mask(
            world.start,
            label,
            2,
            world.frozen,
            MaskConfig(penalty="coefficient_variance", sparsity=0.65),
            projection_l2=1e-5,
            seed=0,
            variances=planted.variances(label, half, 2),
        )
        return state.mask > 0

    true, shuffled = kept(world.label), kept(world.label[torch.randperm(len(half), generator=gen(4))])
    assert int(true[world.invariant].sum()) >= 13  # of 16
    assert int(true[world.spurious].sum()) <= 1  # of 16
    assert int(shuffled[world.spurious].sum()) >= 4
