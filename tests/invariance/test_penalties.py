from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from painvrl.data.interactions import Interactions
from painvrl.invariance.contrasts import (
    contrast_gradients,
    draw_contrasts,
    plan_contrasts,
    weigh_halves,
)
from painvrl.invariance.gates import sample_gates
from painvrl.invariance.penalties import (
    PENALTIES,
    Seen,
    gradient_variance,
    part_means,
    risk_variance,
    squared_mean,
)
from painvrl.invariance.risks import Frozen, Scored, freeze, interaction_risks, scale_slopes, score
from painvrl.model.training_data import training_data

if TYPE_CHECKING:
    from conftest import PlantedWorld, World

ESTIMATED = [name for name, penalty in PENALTIES.entries().items() if penalty.part_pairs > 0]
every_penalty = pytest.mark.parametrize("penalty", ESTIMATED)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_gates() -> Tensor:
    return torch.tensor([1.0, 0.0, 0.3, 0.7, 0.5], dtype=torch.float64)


def estimate(
    penalty: str,
    scored: Scored,
    frozen: Frozen,
    label: Tensor,
    count: int,
    draws: torch.Generator,
    *,
    part: Tensor | None = None,
    contrasts: str = "all",
) -> tuple[Tensor, Tensor]:
    """The penalty with parts and contrasts that are drawn here."""
    sides = PENALTIES.get(penalty).part_pairs
    plan = plan_contrasts(contrasts, count, frozen.user_content)  # type: ignore[arg-type]
    rows = torch.stack([draw_contrasts(plan, draws) for _ in range(sides)]).to(scored.scores.dtype)
    if part is None:
        part = torch.randint(2 * sides, label.shape, generator=draws)
    seen = Seen(scored=scored, frozen=frozen, label=label, plan=plan, part=part, contrasts=rows)
    found = PENALTIES.get(penalty).estimate(seen)
    return found.value, found.naive


def slow_penalty(gradients: Tensor, gates: Tensor, kind: str) -> tuple[float, float]:
    """``P = mean_e <g_e' - mean g', g_e'' - mean g''>`` entry by entry, and the halves' mean square."""
    first, second = gradients[0::2].tolist(), gradients[1::2].tolist()
    count, width, depth = len(first), len(first[0]), len(first[0][0])
    unbiased = naive = 0.0
    for f in range(width):
        weight = float(gates[f]) if kind == "gradient_variance" else 1.0
        for k in range(depth):
            mean_1 = sum(g[f][k] for g in first) / count
            mean_2 = sum(g[f][k] for g in second) / count
            for g_1, g_2 in zip(first, second, strict=True):
                a, b = g_1[f][k] - mean_1, g_2[f][k] - mean_2
                unbiased += weight * a * b / count
                naive += weight * (a * a + b * b) / 2 / count
    return unbiased, naive


def contrasted(gradients: Tensor) -> tuple[Tensor, float]:
    """``[2 E, F, k]`` gradients of halves as all their contrasts ``[2, F, C]``, and the scale."""
    count, width, depth = gradients.shape[0] // 2, *gradients.shape[1:]
    plan = plan_contrasts("all", count, torch.zeros(1, depth))
    rows = draw_contrasts(plan, gen()).to(gradients.dtype)
    turned = torch.einsum("be,ehfk->hfbk", rows, gradients.view(count, 2, width, depth))
    return turned.reshape(2, width, -1), plan.scale


def penalty_of(gradients: Tensor, gates: Tensor, kind: str) -> tuple[float, float]:
    turned, scale = contrasted(gradients)
    found = gradient_variance(turned, gates if kind == "gradient_variance" else torch.ones_like(gates), scale)
    return float(found.value), float(found.naive)


@pytest.mark.parametrize("kind", ["gradient_variance", "iga"])
@pytest.mark.parametrize("count", [2, 5])
def test_the_variance_of_gradients_equals_the_loop_over_entries(kind: str, count: int) -> None:
    gradients = torch.randn(2 * count, 4, 3, generator=gen(count), dtype=torch.float64)
    gates = torch.rand(4, generator=gen(), dtype=torch.float64)
    assert penalty_of(gradients, gates, kind) == pytest.approx(slow_penalty(gradients, gates, kind), rel=1e-6)


def test_identical_environments_have_no_penalty() -> None:
    gradients = torch.randn(1, 4, 3, generator=gen()).expand(6, 4, 3)
    assert penalty_of(gradients, torch.ones(4), "gradient_variance") == pytest.approx((0.0, 0.0), abs=1e-12)


def test_without_noise_the_penalty_is_the_variance_over_environments() -> None:
    means = torch.randn(3, 4, 2, generator=gen(), dtype=torch.float64)
    gradients = means.repeat_interleave(2, dim=0)  # both halves of an environment agree
    expected = float(means.var(dim=0, correction=0).sum())
    assert penalty_of(gradients, torch.ones(4).double(), "iga") == pytest.approx((expected, expected))


def test_renaming_environments_and_swapping_all_halves_changes_no_penalty() -> None:
    gradients = torch.randn(8, 4, 3, generator=gen(), dtype=torch.float64)
    gates = torch.rand(4, generator=gen(1), dtype=torch.float64)
    straight = penalty_of(gradients, gates, "gradient_variance")
    renamed = gradients.view(4, 2, 4, 3)[[2, 0, 3, 1]].reshape(8, 4, 3)
    swapped = gradients.view(4, 2, 4, 3).flip(1).reshape(8, 4, 3)
    for turned in (renamed, swapped):
        assert penalty_of(turned, gates, "gradient_variance") == pytest.approx(straight)


def test_a_closed_gate_takes_its_feature_out_of_the_penalty() -> None:
    gradients = torch.randn(4, 3, 2, generator=gen(), dtype=torch.float64)
    gates = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    some, _ = penalty_of(gradients, gates, "gradient_variance")
    rest, _ = penalty_of(gradients[:, [0, 2]], gates[[0, 2]], "gradient_variance")
    assert some == pytest.approx(rest)


def test_the_variance_of_risks_is_the_product_of_the_halves_deviations() -> None:
    # Halves' means 1, 2 (environment 1), 3, 8 (2) and 5, 2 (3): deviations -2, 0, 2 and -2, 4, -2.
    found = risk_variance(torch.tensor([[1.0, 2.0], [3.0, 8.0], [5.0, 2.0]]))
    assert float(found.value) == pytest.approx((4 + 0 - 4) / 3)
    assert float(found.naive) == pytest.approx((4 + 0 + 4 + 4 + 16 + 4) / 6)


def test_the_squared_slope_is_the_product_of_the_halves_slopes() -> None:
    found = squared_mean(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    assert float(found.value) == pytest.approx((2 - 12) / 2)
    assert float(found.naive) == pytest.approx((1 + 4 + 9 + 16) / 4)


def test_means_over_parts_are_those_of_a_loop_and_an_empty_half_takes_the_mean_of_all() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    label, half = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 1, 1, 0, 0])
    found = part_means(values, label, half, 2)
    assert found.tolist() == [[1.0, 3.0], [12.0, 3.0]]  # no interaction of the second lies in half 1


def test_interaction_risks_average_to_the_risks_of_the_groups(world: World) -> None:
    label = world.labels(3, seed=1)
    slow = world.slow_risks(label.tolist(), 3, some_gates(), world.weight, world.bias)
    risks = interaction_risks(world.scored(some_gates()), world.frozen)
    for group in range(3):
        torch.testing.assert_close(risks[label == group].mean(), slow[group])


def scaled(frozen: Frozen, by: float) -> Frozen:
    """The backbone whose scores are ``by`` times as large: the users' vectors are."""
    return dataclasses.replace(
        frozen,
        users=by * frozen.users,
        user_content=by * frozen.user_content,
        id_scores=by * frozen.id_scores,
    )


def test_the_slope_on_the_scores_scale_is_that_of_the_risks_by_differences(world: World) -> None:
    def risks(by: float) -> Tensor:
        frozen = scaled(world.frozen, by)
        return interaction_risks(score(some_gates(), world.weight, world.bias, frozen), frozen)

    wanted = (risks(1 + 1e-5) - risks(1 - 1e-5)) / 2e-5
    found = scale_slopes(world.scored(some_gates()), world.frozen)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


@every_penalty
@pytest.mark.parametrize(("count", "contrasts"), [(2, "all"), (4, "all"), (4, "sketched")])
def test_the_gradient_on_the_gates_is_that_of_central_differences(
    world: World, penalty: str, count: int, contrasts: str
) -> None:
    label, noise = world.labels(count, seed=3), torch.randn(5, generator=gen(1), dtype=torch.float64)

    def value(mu: Tensor) -> Tensor:
        scored = world.scored(sample_gates(mu, 0.2, noise))
        return estimate(penalty, scored, world.frozen, label, count, gen(4), contrasts=contrasts)[0]

    mu = torch.linspace(-0.3, 0.3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(value, (mu,), eps=1e-6, atol=1e-8, rtol=1e-6)
    assert float(torch.autograd.grad(value(mu), mu)[0].abs().min()) > 0


def copied(world: World, copies: int) -> Frozen:
    """The world in which every interaction happened ``copies`` times, one after the other."""
    user, item = (
        torch.tensor(column).repeat_interleave(copies) for column in zip(*world.listed, strict=True)
    )
    data = training_data(Interactions(user=user, item=item, n_users=7, n_items=8), torch.device("cpu"))
    data = dataclasses.replace(data, user_degree=data.user_degree.double(), active=data.active.double())
    users = world.frozen.users
    return freeze(data, world.features, users[:, :2], world.item_id, users[:, 2:], 0.3)


@every_penalty
@pytest.mark.parametrize("contrasts", ["all", "sketched"])
def test_environments_with_the_same_interactions_have_no_penalty(
    world: World, penalty: str, contrasts: str
) -> None:
    count, parts = 3, 2 * PENALTIES.get(penalty).part_pairs
    frozen = copied(world, count * parts)
    copy = torch.arange(count * parts).repeat(world.n_pairs)
    scored = score(some_gates(), world.weight, world.bias, frozen)
    found, naive = estimate(
        penalty, scored, frozen, copy // parts, count, gen(), part=copy % parts, contrasts=contrasts
    )
    wanted = 0.0
    if penalty == "irmv1":  # no variance: what all share is left, the slope of the whole risk
        wanted = float(scale_slopes(scored, frozen).mean()) ** 2
        assert wanted > 1e-4
    assert float(found) == pytest.approx(wanted, rel=1e-9, abs=1e-20)
    assert float(naive) == pytest.approx(wanted, rel=1e-9, abs=1e-20)


@every_penalty
def test_renaming_the_environments_changes_no_penalty(world: World, penalty: str) -> None:
    label, order = world.labels(4, seed=7), torch.tensor([2, 0, 3, 1])
    scored = world.scored(some_gates())
    first, second = (
        estimate(penalty, scored, world.frozen, names, 4, gen(1)) for names in (label, order[label])
    )
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-15)


def best_scale(planted: PlantedWorld, gates: Tensor) -> float:
    """What all scores are to be multiplied with for the least risk, which is a parabola in it."""
    frozen = planted.frozen

    def slope(by: float) -> float:
        scored = score(gates, by * planted.start.weight, by * planted.start.bias, frozen)
        return float(scale_slopes(scored, frozen).double().mean()) / by

    low, high = slope(0.5), slope(1.5)  # a straight line in `by`
    return 0.5 + low / (low - high)


def at_the_best_scale(planted: PlantedWorld) -> Scored:
    """Half-open gates, and scores that no factor would improve."""
    gates = torch.full((planted.width,), 0.5)
    by = best_scale(planted, gates)
    return score(gates, by * planted.start.weight, by * planted.start.bias, planted.frozen)


def estimates(planted: PlantedWorld, penalty: str, labels: list[Tensor], count: int, seed: int) -> np.ndarray:
    """``P`` at the best scale, with fresh random parts for each labelling."""
    draws, scored = gen(seed), at_the_best_scale(planted)
    return np.array(
        [
            float(estimate(penalty, scored, planted.frozen, label, count, draws, contrasts="sketched")[0])
            for label in labels
        ]
    )


@every_penalty
@pytest.mark.parametrize("count", [2, 10])
def test_random_labels_have_no_penalty_within_two_standard_errors(
    planted_world: PlantedWorld, penalty: str, count: int
) -> None:
    draws = gen(count)
    labels = [torch.randint(count, planted_world.label.shape, generator=draws) for _ in range(200)]
    values = estimates(planted_world, penalty, labels, count, seed=1)
    error = values.std(ddof=1) / math.sqrt(len(values))
    wanted = 0.0
    true = estimates(planted_world, penalty, [planted_world.label] * 10, 2, seed=2).mean()
    if penalty == "irmv1":
        # No variance: its mean is that of a product of two different interactions' slopes. At the best
        # scale all slopes add up to zero, so it is a little below zero, by their variance over N - 1.
        slopes = scale_slopes(at_the_best_scale(planted_world), planted_world.frozen).double()
        n = len(slopes)
        wanted = float(slopes.sum() ** 2 - slopes.square().sum()) / (n * (n - 1))
        assert abs(wanted + float(slopes.var()) / n) < 1e-3 * abs(wanted)
        assert abs(wanted) < 0.01 * true
    assert abs(values.mean() - wanted) < 2 * error
    # An estimate with the noise left in would be far away: true labels are the scale.
    assert 2 * error < 0.05 * true


@every_penalty
def test_true_labels_have_a_clearly_positive_penalty(planted_world: PlantedWorld, penalty: str) -> None:
    values = estimates(planted_world, penalty, [planted_world.label] * 20, 2, seed=3)
    assert values.min() > 0
    assert values.mean() > 10 * values.std(ddof=1) / math.sqrt(len(values))


def test_the_square_of_one_estimate_of_the_variance_would_be_biased(planted_world: PlantedWorld) -> None:
    # Why `legacy` takes quarters: with the same halves twice, random labels have a penalty.
    draws, frozen, scored = gen(5), planted_world.frozen, at_the_best_scale(planted_world)
    plan = plan_contrasts("all", 2, frozen.user_content)
    rows = draw_contrasts(plan, draws).float()
    squares = []
    for _ in range(50):
        label = torch.randint(2, planted_world.label.shape, generator=draws)
        half = torch.randint(2, planted_world.label.shape, generator=draws)
        first, second = contrast_gradients(scored, frozen, weigh_halves(label, half, rows, frozen), plan)
        squares.append(float(((plan.scale * scored.gates[:, None] * first * second) ** 2).sum()))
    values = np.array(squares)
    assert values.mean() > 5 * values.std(ddof=1) / math.sqrt(len(values))


@every_penalty
def test_a_step_takes_as_many_operations_for_many_environments_as_for_a_few(
    world: World, penalty: str
) -> None:
    class Counting(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.operations += 1
            return operation(*args, **(kwargs or {}))

    seen = set()
    for count in (5, 40):
        scored, label = world.scored(some_gates()), world.labels(count)
        with Counting() as mode:
            estimate(penalty, scored, world.frozen, label, count, gen(), contrasts="sketched")
        seen.add(mode.operations)
    assert len(seen) == 1
