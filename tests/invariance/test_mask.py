from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.errors import Diverged
from painvrl.invariance.contrasts import (
    contrast_gradients,
    draw_contrasts,
    plan_contrasts,
    weigh_halves,
)
from painvrl.invariance.mask import (
    Draw,
    Gated,
    MaskConfig,
    MaskState,
    gate_step,
    invariance_penalty,
    learn_mask,
)
from painvrl.invariance.risks import empirical_risk, score
from painvrl.rng import generator

if TYPE_CHECKING:
    from conftest import PlantedWorld, World


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
    unbiased, naive = invariance_penalty(turned, gates, kind, scale)  # type: ignore[arg-type]
    return float(unbiased), float(naive)


@pytest.mark.parametrize("kind", ["gradient_variance", "iga"])
@pytest.mark.parametrize("count", [2, 5])
def test_the_penalty_equals_the_loop_over_entries(kind: str, count: int) -> None:
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


def penalties(planted: PlantedWorld, labels: list[Tensor], count: int, seed: int) -> np.ndarray:
    """``P`` at half-open gates with fresh random halves for each labelling."""
    draws = gen(seed)
    gates = torch.full((planted.width,), 0.5)
    scored = score(gates, planted.start.weight, planted.start.bias, planted.frozen)
    plan = plan_contrasts("sketched", count, planted.frozen.user_content)
    values = []
    for label in labels:
        half = torch.randint(2, label.shape, generator=draws)
        halves = weigh_halves(label, half, draw_contrasts(plan, draws).float(), planted.frozen)
        gradients = contrast_gradients(scored, planted.frozen, halves, plan)
        values.append(float(invariance_penalty(gradients, gates, "gradient_variance", plan.scale)[0]))
    return np.array(values)


@pytest.mark.parametrize("count", [2, 10])
def test_random_labels_have_no_penalty_within_two_standard_errors(
    planted_world: PlantedWorld, count: int
) -> None:
    draws = gen(count)
    labels = [torch.randint(count, planted_world.label.shape, generator=draws) for _ in range(200)]
    values = penalties(planted_world, labels, count, seed=1)
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean()) < 2 * error
    # An estimate with the noise left in would be far away: true labels are the scale.
    true = penalties(planted_world, [planted_world.label] * 10, 2, seed=2)
    assert 2 * error < 0.01 * true.mean()


def test_true_labels_have_a_clearly_positive_penalty(planted_world: PlantedWorld) -> None:
    values = penalties(planted_world, [planted_world.label] * 20, 2, seed=3)
    assert values.min() > 0
    assert values.mean() > 10 * values.std(ddof=1) / math.sqrt(len(values))


def a_step(
    planted: PlantedWorld, label: Tensor, config: MaskConfig, seed: int = 0, count: int = 2
) -> tuple[Tensor, float, float]:
    """The direction on ``mu`` at half-open gates, and the risk and penalty there."""
    plan = plan_contrasts("all", count, planted.frozen.user_content)
    draw = Draw(
        noise=torch.zeros(planted.width),
        sigma=torch.tensor(0.5),
        half=torch.randint(2, label.shape, generator=gen(seed)),
        contrasts=draw_contrasts(plan, gen()).float(),
    )
    taken = gate_step(planted.start, draw, label, plan, planted.frozen, config, 0.0)
    return taken.balance.direction, float(taken.risk), float(taken.penalty)


def test_the_step_closes_spurious_gates_before_invariant_ones(planted_world: PlantedWorld) -> None:
    direction, _, penalty = a_step(planted_world, planted_world.label, MaskConfig(irm_weight=1e6))
    assert penalty > 0
    invariant, spurious = direction[planted_world.invariant], direction[planted_world.spurious]
    # ``mu`` descends along the direction: a larger value closes.
    assert float(spurious.mean()) > 0
    assert float(spurious.mean()) > float(invariant.mean()) + 2 * float(invariant.std())


def test_the_empirical_step_opens_useful_gates(planted_world: PlantedWorld) -> None:
    direction, _, penalty = a_step(planted_world, planted_world.label, MaskConfig(balancer="erm"))
    assert penalty == 0.0
    assert float(direction[planted_world.invariant].mean()) < 0
    assert float(direction[planted_world.spurious].mean()) < 0


def test_a_penalty_that_is_not_positive_leaves_the_risk_alone(planted_world: PlantedWorld) -> None:
    erm, _, _ = a_step(planted_world, planted_world.label, MaskConfig(balancer="erm"))
    seen = set()
    for seed in range(12):
        label = torch.randint(2, planted_world.label.shape, generator=gen(100 + seed))
        direction, _, penalty = a_step(planted_world, label, MaskConfig(irm_weight=100.0), seed)
        seen.add(penalty > 0)
        assert torch.equal(direction, erm) == (penalty <= 0)
    assert seen == {True, False}


def test_the_step_evaluates_the_risk_at_the_sampled_gates(planted_world: PlantedWorld) -> None:
    noise = torch.randn(planted_world.width, generator=gen(5))
    half = torch.zeros_like(planted_world.label)
    plan = plan_contrasts("all", 2, planted_world.frozen.user_content)
    draw = Draw(
        noise=noise, sigma=torch.tensor(0.3), half=half, contrasts=draw_contrasts(plan, gen()).float()
    )
    taken = gate_step(
        planted_world.start, draw, planted_world.label, plan, planted_world.frozen, MaskConfig(), 0.0
    )
    gates = (0.3 * noise + 0.5).clamp(0, 1)
    scored = score(gates, planted_world.start.weight, planted_world.start.bias, planted_world.frozen)
    assert float(taken.risk) == pytest.approx(float(empirical_risk(scored, planted_world.frozen)), rel=1e-6)


def learn(planted: PlantedWorld, seed: int = 0, label: Tensor | None = None, **knobs: object) -> MaskState:
    config = MaskConfig.model_validate({"steps": 12, "sparsity": 0.65} | knobs)
    return learn_mask(
        planted.start,
        planted.label if label is None else label,
        2,
        planted.frozen,
        config,
        projection_l2=1e-5,
        seed=seed,
    )


def test_equal_seeds_learn_bitwise_equal_masks(planted_world: PlantedWorld) -> None:
    first, again, other = learn(planted_world), learn(planted_world), learn(planted_world, seed=1)
    for name in ("mu", "weight", "bias"):
        assert torch.equal(getattr(first.learned, name), getattr(again.learned, name))
    assert torch.equal(first.mask, again.mask)
    assert first.risk == again.risk
    assert first.penalty == again.penalty
    assert not torch.equal(first.learned.mu, other.learned.mu)


def test_what_is_learned_carries_no_graph(planted_world: PlantedWorld) -> None:
    state = learn(planted_world, steps=2)
    for tensor in (state.mask, state.learned.mu, state.learned.weight, state.learned.bias):
        assert not tensor.requires_grad
    assert not planted_world.start.weight.requires_grad
    assert not planted_world.start.mu.requires_grad


def test_learning_leaves_its_start_as_it_was(planted_world: PlantedWorld) -> None:
    before = [tensor.clone() for tensor in (planted_world.start.weight, planted_world.start.bias)]
    learned = learn(planted_world)
    assert torch.equal(planted_world.start.weight, before[0])
    assert torch.equal(planted_world.start.bias, before[1])
    assert planted_world.start.mu.tolist() == [0.0] * planted_world.width
    assert not torch.equal(learned.learned.weight, before[0])


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.65, 0.97])
def test_the_asked_sparsity_is_achieved_exactly(planted_world: PlantedWorld, sparsity: float) -> None:
    mask = learn(planted_world, steps=4, sparsity=sparsity).mask
    assert int((mask == 0).sum()) == round(sparsity * planted_world.width)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1


def test_true_environments_keep_invariant_features_and_close_spurious_ones(
    planted_world: PlantedWorld,
) -> None:
    mask = learn(planted_world, steps=60, irm_weight=100.0).mask
    kept = mask > 0
    assert int(kept[planted_world.invariant].sum()) >= 10  # of 16
    assert int(kept[planted_world.spurious].sum()) <= 2  # of 16


def test_the_penalty_is_what_closes_spurious_features(planted_world: PlantedWorld) -> None:
    kept = learn(planted_world, steps=60, balancer="erm").mask > 0
    assert int(kept[planted_world.spurious].sum()) >= 5
    shuffled = planted_world.label[torch.randperm(len(planted_world.label), generator=gen(1))]
    kept = learn(planted_world, steps=60, irm_weight=100.0, label=shuffled).mask > 0
    assert int(kept[planted_world.spurious].sum()) >= 4


def test_gates_that_are_not_finite_are_a_divergence(planted_world: PlantedWorld) -> None:
    with pytest.raises(Diverged, match=r"mask\.learning_rate"):
        learn(planted_world, steps=3, learning_rate=1e30)
    with pytest.raises(Diverged, match=r"mask\.gate_rate"):
        learn(planted_world, steps=3, gate_rate=1e38, sparsity=0.0)


@pytest.mark.parametrize(
    "knobs", [{"sparsity": 1.0}, {"sparsity": -0.1}, {"irm_weight": 0.0}, {"steps": 0}, {"sigma": 0.0}]
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskConfig.model_validate(knobs)


class SlowMaskLearner:
    """Module 2 written a second time, from the method: loops over pairs, autograd twice, Adam by hand."""

    def __init__(self, world: World, label: Tensor, count: int, config: MaskConfig, l2: float) -> None:
        self.world, self.label, self.count, self.config, self.l2 = world, label, count, config, l2
        self.mu = torch.zeros(5, dtype=torch.float64)
        self.weight, self.bias = world.weight.clone(), world.bias.clone()
        self.moments = dict.fromkeys(("weight", "bias"), (0.0, 0.0))
        self.log: list[tuple[float, float, float, float]] = []

    def step(self, number: int, sigma: float, noise: Tensor, half: Tensor, rows: Tensor | None) -> None:
        """``rows`` ``[B, E]``: the contrasts that B blocks of columns see; ``None`` for all environments."""
        world, config = self.world, self.config
        mu = self.mu.clone().requires_grad_()
        weight, bias = self.weight.clone().requires_grad_(), self.bias.clone().requires_grad_()
        gates = torch.clamp(mu + sigma * noise + 0.5, 0, 1)
        (risk,) = world.slow_risks([0] * world.n_pairs, 1, gates, weight, bias)
        objective = risk + self.l2 * (weight**2).sum()
        g_risk, g_weight, g_bias = torch.autograd.grad(objective, (mu, weight, bias), retain_graph=True)

        groups = [2 * e + h for e, h in zip(self.label.tolist(), half.tolist(), strict=True)]
        gradients = [
            torch.autograd.grad(r, weight, create_graph=True)[0]
            if r.requires_grad
            else torch.zeros_like(weight)
            for r in world.slow_risks(groups, 2 * self.count, gates, weight, bias)
        ]
        first, second = gradients[0::2], gradients[1::2]
        mean_1, mean_2 = sum(first) / self.count, sum(second) / self.count
        penalty = (
            sum(
                ((a - mean_1) * (b - mean_2) * gates[:, None]).sum()
                for a, b in zip(first, second, strict=True)
            )
            / self.count
        )
        naive = (
            sum(
                (((a - mean_1) ** 2 + (b - mean_2) ** 2) * gates[:, None]).sum() / 2
                for a, b in zip(first, second, strict=True)
            )
            / self.count
        )
        if rows is not None:
            cuts = [3 * block // len(rows) for block in range(len(rows) + 1)]
            penalty, naive = torch.zeros(()).double(), torch.zeros(()).double()
            for row, start, stop in zip(rows, cuts[:-1], cuts[1:], strict=True):
                a, b = (
                    sum(c * g[:, start:stop] for c, g in zip(row, side, strict=True))
                    for side in (first, second)
                )
                scale = (self.count - 1) / self.count
                penalty = penalty + scale * (a * b * gates[:, None]).sum()
                naive = naive + scale * ((a**2 + b**2) * gates[:, None]).sum() / 2
        (g_penalty,) = torch.autograd.grad(penalty, mu)
        p = float(penalty.detach())

        # Each gradient over its own loss; the penalty's floor is a hundredth of its naive estimate.
        a = g_risk / float(risk.detach())
        g = g_penalty / max(p, 0.01 * float(naive.detach())) if p > 0 else torch.zeros_like(g_penalty)
        b = g / config.irm_weight
        eps = 1.0
        if p > 0:
            eps = min(1.0, max(0.0, float((b - a) @ b) / float((a - b) @ (a - b))))
        direction = (eps * a + (1 - eps) * b) / (eps + (1 - eps) / config.irm_weight)
        norms = float(a.norm() * g.norm())
        self.log.append((float(risk.detach()), p, eps, float(a @ g) / norms if norms else 0.0))

        self.mu = self.shifted(self.mu - config.gate_rate * 5 * direction, sigma)
        for name, gradient in (("weight", g_weight), ("bias", g_bias)):
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            self.moments[name] = (m, v)
            change = (m / (1 - 0.9**number)) / ((v / (1 - 0.999**number)) ** 0.5 + 1e-8)
            setattr(self, name, getattr(self, name) - config.learning_rate * change)

    def shifted(self, mu: Tensor, sigma: float) -> Tensor:
        """``mu`` minus the scalar that gives the density, by a bisection of a hundred steps."""

        def density(shift: float) -> float:
            open_gates = [0.5 * math.erfc(-(m - shift + 0.5) / sigma / math.sqrt(2)) for m in mu.tolist()]
            return sum(open_gates) / 5

        low, high = -50.0, 50.0
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if density(middle) > 1 - self.config.sparsity else (low, middle)
        return mu - low


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("count", "contrasts"), [(2, "all"), (3, "all"), (2, "sketched"), (4, "sketched")])
def test_two_steps_equal_a_slow_second_implementation(
    world: World, seed: int, count: int, contrasts: str
) -> None:
    config = MaskConfig(
        steps=2,
        sparsity=0.4,
        irm_weight=3.0,
        gate_rate=0.2,
        learning_rate=0.05,
        sigma=0.5,
        final_sigma=0.2,
        contrasts=contrasts,  # type: ignore[arg-type]
    )
    label = world.labels(count, seed=seed)
    slow = SlowMaskLearner(world, label, count, config, l2=0.01)
    draws = generator(seed, "gates")
    for number, sigma in ((1, 0.5), (2, 0.2)):
        noise = torch.randn(5, generator=draws)
        half = torch.randint(2, (world.n_pairs,), generator=draws, dtype=torch.uint8).long()
        turned = None
        if contrasts == "sketched" and count > 2:
            plan = plan_contrasts("sketched", count, world.frozen.user_content)
            turned = draw_contrasts(plan, draws)
        slow.step(number, sigma, noise.double(), half, turned)
    start = Gated(mu=torch.zeros(5).double(), weight=world.weight, bias=world.bias)
    state = learn_mask(start, label, count, world.frozen, config, projection_l2=0.01, seed=seed)
    torch.testing.assert_close(state.learned.mu, slow.mu, rtol=0, atol=1e-6)
    torch.testing.assert_close(state.learned.weight, slow.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(state.learned.bias, slow.bias, rtol=0, atol=1e-6)
    risk, penalty, epsilon, cosine = slow.log[-1]  # the last quarter of two steps is the last one
    assert (state.risk, state.penalty) == pytest.approx((risk, penalty), rel=1e-5)
    assert (state.epsilon, state.cosine) == pytest.approx((epsilon, cosine), abs=1e-6)
    assert int((state.mask == 0).sum()) == 2
    closed = set(slow.mu.argsort()[:2].tolist())
    for feature in range(5):
        expected = 0.0 if feature in closed else min(1.0, max(0.01, float(slow.mu[feature]) + 0.5))
        assert float(state.mask[feature]) == pytest.approx(expected, abs=1e-6)


def test_the_replayed_steps_cover_both_signs_of_the_penalty(world: World) -> None:
    signs = set()
    for seed in range(3):
        for count in (2, 3):
            label = world.labels(count, seed=seed)
            config = MaskConfig(steps=1, irm_weight=3.0, contrasts="all")
            start = Gated(mu=torch.zeros(5).double(), weight=world.weight, bias=world.bias)
            state = learn_mask(start, label, count, world.frozen, config, projection_l2=0.0, seed=seed)
            signs.add(state.penalty > 0)
    assert signs == {True, False}
