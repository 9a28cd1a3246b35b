"""Module 2 written a second time from the method's equations, and compared with the product.

Plain loops over interactions in NumPy, no autograd: gradients on ``W`` are written out, those on the gates
are complex steps (``f`` is analytic in them, so ``Im f(x + ih) / h`` is ``f'`` to the last digit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from painvrl.core.rng import generator
from painvrl.invariance import pareto, penalties
from painvrl.invariance.coefficients import FeatureVariances
from painvrl.invariance.contrasts import draw_contrasts, plan_contrasts
from painvrl.invariance.mask import Draw, Gated, MaskConfig, gate_step, learn_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import World

Array = np.ndarray
A0 = 0.3
FLOOR = 0.01
PENALTIES, BALANCERS = penalties.PENALTIES.names(), pareto.BALANCERS.names()
# `coefficient_variance` is given its variances. They add up to zero: both signs of the penalty occur.
V, NAIVE = np.array([0.5, -0.7, 0.3, -0.2, 0.1]), np.array([0.6, 0.8, 0.9, 0.4, 0.7])
VARIANCES = FeatureVariances(value=torch.from_numpy(V), naive=torch.from_numpy(NAIVE))


@dataclass
class Found:
    risk: float
    penalty: float
    direction: Array
    epsilon: float
    cosine: float
    weight_gradient: Array
    bias_gradient: Array


class SlowStep:
    """``rows`` ``[S][B, E]``: the contrasts that B blocks of columns see; ``None`` for all environments."""

    def __init__(self, world: World, label: Sequence[int], count: int, config: MaskConfig, l2: float) -> None:
        users = world.frozen.users.numpy()
        self.p, self.c = users[:, :2], users[:, 2:]
        self.q, self.x = world.item_id.numpy(), world.features.numpy()
        self.listed = world.listed
        self.warm = sorted({item for _, item in world.listed})
        self.degree = [sum(user == u for user, _ in world.listed) for u in range(len(users))]
        self.label, self.count, self.config, self.l2 = label, count, config, l2

    def scores(self, gates: Array, weight: Array, bias: Array) -> dict[tuple[int, int], Any]:
        found = {}
        for item in self.warm:
            h = (self.x[item] * gates) @ weight + bias
            for user in range(len(self.p)):
                found[user, item] = self.p[user] @ self.q[item] + self.c[user] @ h
        return found

    def losses(self, s: dict[tuple[int, int], Any]) -> list[Any]:
        """``l(u, i)`` of every interaction."""
        return [
            (1 - s[u, i]) ** 2
            - A0 * s[u, i] ** 2
            + A0 / self.degree[u] * sum(s[u, j] ** 2 for j in self.warm)
            for u, i in self.listed
        ]

    def slopes(self, s: dict[tuple[int, int], Any]) -> list[Any]:
        """The derivative of each on a factor ``w`` of all scores, at ``w = 1``."""
        return [
            -2 * (1 - s[u, i]) * s[u, i]
            - 2 * A0 * s[u, i] ** 2
            + 2 * A0 / self.degree[u] * sum(s[u, j] ** 2 for j in self.warm)
            for u, i in self.listed
        ]

    def gradients(self, s: dict[tuple[int, int], Any], gates: Array) -> list[tuple[Array, Array]]:
        """The derivatives of each on ``W`` and on the bias."""
        everything = {}  # of each user's squared scores
        for u in {user for user, _ in self.listed}:
            on_weight = sum(2 * s[u, j] * np.outer(gates * self.x[j], self.c[u]) for j in self.warm)
            everything[u] = (on_weight, sum(2 * s[u, j] * self.c[u] for j in self.warm))
        found = []
        for u, i in self.listed:
            own, share = -2 * (1 - s[u, i]) - 2 * A0 * s[u, i], A0 / self.degree[u]
            on_weight = own * np.outer(gates * self.x[i], self.c[u]) + share * everything[u][0]
            found.append((on_weight, own * self.c[u] + share * everything[u][1]))
        return found

    def mean(self, values: list[Any], environment: int, part: int, parts: Sequence[int]) -> Any:
        members = [
            value
            for value, e, mine in zip(values, self.label, parts, strict=True)
            if (e, mine) == (environment, part)
        ]
        assert members, "the replayed draws leave no part empty"
        return sum(members) / len(members)

    def variances(self, first: list[Any], second: list[Any], rows: Array | None) -> tuple[Any, Any]:
        """Of every entry, as a product of two parts and as the mean of their squares."""
        count = self.count
        if rows is None or len(rows[0]) == 2:
            one, two = sum(first) / count, sum(second) / count
            pairs = list(zip(first, second, strict=True))
            return (
                sum((a - one) * (b - two) for a, b in pairs) / count,
                sum((a - one) ** 2 + (b - two) ** 2 for a, b in pairs) / 2 / count,
            )
        depth = first[0].shape[1]
        product, square = np.zeros_like(first[0]), np.zeros_like(first[0])
        cuts = [depth * block // len(rows) for block in range(len(rows) + 1)]
        for row, start, stop in zip(rows, cuts[:-1], cuts[1:], strict=True):
            a = sum(c * g[:, start:stop] for c, g in zip(row, first, strict=True))
            b = sum(c * g[:, start:stop] for c, g in zip(row, second, strict=True))
            product[:, start:stop] = (count - 1) / count * a * b
            square[:, start:stop] = (count - 1) / count * (a**2 + b**2) / 2
        return product, square

    def penalty(
        self, gates: Array, weight: Array, bias: Array, parts: Sequence[int], rows: list[Array] | None
    ) -> tuple[Any, Any]:
        if self.config.penalty == "coefficient_variance":
            return (gates * V).sum(), (gates * NAIVE).sum()
        s, kind, count = self.scores(gates, weight, bias), self.config.penalty, self.count
        if kind in ("vrex", "irmv1"):
            values = self.losses(s) if kind == "vrex" else self.slopes(s)
            first, second = ([self.mean(values, e, half, parts) for e in range(count)] for half in (0, 1))
            if kind == "vrex":
                return self.variances(first, second, None)
            pairs = list(zip(first, second, strict=True))
            return sum(a * b for a, b in pairs) / count, sum(a**2 + b**2 for a, b in pairs) / 2 / count
        on_weight = [gradient for gradient, _ in self.gradients(s, gates)]
        sides = [
            self.variances(
                [self.mean(on_weight, e, 2 * side, parts) for e in range(count)],
                [self.mean(on_weight, e, 2 * side + 1, parts) for e in range(count)],
                None if rows is None else rows[side],
            )
            for side in range(2 if kind == "invrl" else 1)
        ]
        m = gates[:, None]
        if kind == "invrl":
            (v, n), (v_2, n_2) = sides
            return (m * v * m * v_2).sum(), (m * n * m * n_2).sum()
        ((v, n),) = sides
        return ((m * v).sum(), (m * n).sum()) if kind == "gradient_variance" else (v.sum(), n.sum())

    def evaluate(
        self,
        at: tuple[Array, Array, Array],
        sigma: float,
        noise: Array,
        parts: Sequence[int],
        rows: list[Array] | None,
    ) -> Found:
        mu, weight, bias = at

        def gates_at(place: Array) -> Array:
            z = place + sigma * noise + 0.5
            return np.where(z.real < 0, 0.0, np.where(z.real > 1, 1.0, z))

        def risk_at(gates: Array) -> Any:
            losses = self.losses(self.scores(gates, weight, bias))
            return sum(losses) / len(losses)

        def slope(of: Any) -> Array:
            turned = [mu + 1e-30j * (np.arange(len(mu)) == feature) for feature in range(len(mu))]
            return np.array([of(gates_at(place)).imag / 1e-30 for place in turned])

        gates = gates_at(mu)
        risk = float(risk_at(gates))
        gradients = self.gradients(self.scores(gates, weight, bias), gates)
        g_weight = sum(g for g, _ in gradients) / len(gradients) + 2 * self.l2 * weight
        g_bias = sum(g for _, g in gradients) / len(gradients)
        g_risk = slope(risk_at)
        value = naive = 0.0
        g_penalty = np.zeros_like(mu)
        if self.config.balancer != "erm":
            value, naive = (float(one) for one in self.penalty(gates, weight, bias, parts, rows))
            g_penalty = slope(lambda gates: self.penalty(gates, weight, bias, parts, rows)[0])
        # Each gradient over its own loss; the penalty's floor is a hundredth of its naive estimate.
        a = g_risk / risk
        b = g_penalty / max(value, FLOOR * naive) if value > 0 else np.zeros_like(mu)
        direction, epsilon = self.balanced(a, b)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return Found(
            risk, value, direction, epsilon, float(a @ b) / norms if norms else 0.0, g_weight, g_bias
        )

    def balanced(self, a: Array, b: Array) -> tuple[Array, float]:
        weight = self.config.irm_weight
        if self.config.balancer == "erm" or (self.config.balancer != "fixed" and not b.any()):
            return a, 1.0
        if self.config.balancer == "mgda":
            short = b / weight
            eps = min(1.0, max(0.0, float((short - a) @ short) / float((a - short) @ (a - short))))
            return (eps * a + (1 - eps) * short) / (eps + (1 - eps) / weight), eps
        share = 1 / (1 + weight)
        if self.config.balancer == "fixed":
            return share * a + (1 - share) * b, share
        # Of two gradients in conflict, each loses its part along the other.
        on_b, on_a = (max(0.0, -float(a @ b) / float(other @ other)) for other in (b, a))
        of_a, of_b = share + (1 - share) * on_a, (1 - share) + share * on_b
        return of_a * a + of_b * b, of_a / (of_a + of_b)


class SlowMaskLearner:
    """The steps one after the other: the gates by plain descent to the asked density, ``W`` by Adam."""

    def __init__(self, world: World, label: Sequence[int], count: int, config: MaskConfig, l2: float) -> None:
        self.one, self.config = SlowStep(world, label, count, config, l2), config
        self.mu = np.zeros(5)
        self.learned = {"weight": world.weight.numpy().copy(), "bias": world.bias.numpy().copy()}
        self.moments: dict[str, tuple[Any, Any]] = dict.fromkeys(self.learned, (0.0, 0.0))
        self.last: Found

    def step(
        self, number: int, sigma: float, noise: Array, parts: Sequence[int], rows: list[Array] | None
    ) -> None:
        at = (self.mu, self.learned["weight"], self.learned["bias"])
        found = self.last = self.one.evaluate(at, sigma, noise, parts, rows)
        self.mu = self.shifted(self.mu - self.config.gate_rate * 5 * found.direction, sigma)
        for name, gradient in (("weight", found.weight_gradient), ("bias", found.bias_gradient)):
            m, v = self.moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            self.moments[name] = (m, v)
            change = (m / (1 - 0.9**number)) / ((v / (1 - 0.999**number)) ** 0.5 + 1e-8)
            self.learned[name] = self.learned[name] - self.config.learning_rate * change

    def shifted(self, mu: Array, sigma: float) -> Array:
        """``mu`` minus the scalar that gives the density, by a bisection of a hundred steps."""

        def density(shift: float) -> float:
            return sum(0.5 * math.erfc(-(m - shift + 0.5) / sigma / math.sqrt(2)) for m in mu) / len(mu)

        low, high = -50.0, 50.0
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if density(middle) > 1 - self.config.sparsity else (low, middle)
        return mu - low


CASES = [(2, "all"), (3, "all"), (3, "sketched")]
needs_torchjd = {"upgrad": "torchjd"}


def drawn(
    world: World, count: int, config: MaskConfig, draws: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Noise, parts and contrasts in the order in which a step draws them."""
    noise = torch.randn(5, generator=draws)
    if config.penalty == "coefficient_variance":
        return noise, None, None  # its steps estimate nothing
    sides = penalties.PENALTIES.get(config.penalty).part_pairs
    part = torch.randint(2 * sides, (world.n_pairs,), generator=draws, dtype=torch.uint8).long()
    plan = plan_contrasts(config.contrasts, count, world.frozen.user_content)
    return noise, part, torch.stack([draw_contrasts(plan, draws) for _ in range(sides)])


def as_lists(
    config: MaskConfig, part: torch.Tensor | None, contrasts: torch.Tensor | None
) -> tuple[list[int], list[Array] | None]:
    """Parts and contrasts as the slow step takes them."""
    if part is None or contrasts is None:
        return [], None
    return part.tolist(), None if config.contrasts == "all" else list(contrasts.numpy())


def labels_of(world: World, count: int) -> torch.Tensor:
    return torch.arange(world.n_pairs) % count


def leaves_a_part_empty(
    label: torch.Tensor, part: torch.Tensor | None, config: MaskConfig, count: int
) -> bool:
    if part is None:
        return False
    filled = set(zip(label.tolist(), part.tolist(), strict=True))
    return len(filled) < 2 * penalties.PENALTIES.get(config.penalty).part_pairs * count


@pytest.mark.parametrize(
    ("penalty", "balancer", "count", "contrasts"),
    [(penalty, "mgda", *case) for penalty in PENALTIES for case in CASES]
    + [("gradient_variance", balancer, 3, "all") for balancer in BALANCERS if balancer != "mgda"],
)
def test_a_step_equals_the_slow_one(
    world: World, penalty: str, balancer: str, count: int, contrasts: str
) -> None:
    if balancer in needs_torchjd:
        pytest.importorskip(needs_torchjd[balancer])
    config = MaskConfig.model_validate(
        {"penalty": penalty, "balancer": balancer, "contrasts": contrasts, "irm_weight": 3.0}
    )
    plan = plan_contrasts(config.contrasts, count, world.frozen.user_content)
    draws, label = generator(1, "gates"), labels_of(world, count)
    mu = 0.3 * torch.randn(5, generator=draws, dtype=torch.float64)
    at = Gated(mu=mu, weight=world.weight, bias=world.bias)
    # Both signs of the penalty are replayed; the world's scores are too small for their scale, so the
    # slopes of `irmv1` are of one sign.
    unseen = {0.0} if balancer == "erm" else {1.0} if penalty == "irmv1" else {-1.0, 1.0}
    for _ in range(300):
        noise, part, rows = drawn(world, count, config, draws)
        if leaves_a_part_empty(label, part, config, count):
            continue
        draw = Draw(noise=noise.double(), sigma=torch.tensor(0.5).double(), part=part, contrasts=rows)
        found = gate_step(at, draw, label, plan, world.frozen, config, 0.01, VARIANCES)
        if float(found.penalty.sign()) not in unseen:
            continue
        unseen.remove(float(found.penalty.sign()))
        slow = SlowStep(world, label.tolist(), count, config, 0.01).evaluate(
            (mu.numpy(), world.weight.numpy(), world.bias.numpy()),
            0.5,
            noise.double().numpy(),
            *as_lists(config, part, rows),
        )
        assert float(found.risk) == pytest.approx(slow.risk, rel=1e-9)
        assert float(found.penalty) == pytest.approx(slow.penalty, rel=1e-6)
        np.testing.assert_allclose(found.weight_gradient.numpy(), slow.weight_gradient, atol=1e-9)
        np.testing.assert_allclose(found.bias_gradient.numpy(), slow.bias_gradient, atol=1e-9)
        # The solver of `upgrad` stops at a tolerance of its own.
        exact = 1e-4 if balancer == "upgrad" else 1e-8
        scale = float(np.abs(slow.direction).max())
        np.testing.assert_allclose(
            found.balance.direction.numpy(), slow.direction, rtol=0, atol=exact * scale
        )
        assert float(found.balance.epsilon) == pytest.approx(slow.epsilon, abs=exact)
        assert float(found.balance.cosine) == pytest.approx(slow.cosine, abs=1e-8)
    assert not unseen


def seed_without_empty_parts(world: World, config: MaskConfig, count: int) -> int:
    """The first whose two steps fill every part."""

    def fills(seed: int) -> bool:
        draws, label = generator(seed, "gates"), labels_of(world, count)
        parts = [drawn(world, count, config, draws)[1] for _ in range(2)]
        return not any(leaves_a_part_empty(label, part, config, count) for part in parts)

    return next(seed for seed in range(1000) if fills(seed))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("count", "contrasts"), CASES)
def test_learning_a_mask_equals_the_slow_steps(
    world: World, penalty: str, count: int, contrasts: str
) -> None:
    config = MaskConfig.model_validate(
        {
            "penalty": penalty,
            "contrasts": contrasts,
            "steps": 2,
            "sparsity": 0.4,
            "irm_weight": 3.0,
            "gate_rate": 0.2,
            "learning_rate": 0.05,
            "sigma": 0.5,
            "final_sigma": 0.2,
        }
    )
    seed, label = seed_without_empty_parts(world, config, count), labels_of(world, count)
    slow, draws = SlowMaskLearner(world, label.tolist(), count, config, 0.01), generator(seed, "gates")
    for number, sigma in ((1, 0.5), (2, 0.2)):
        noise, part, rows = drawn(world, count, config, draws)
        slow.step(number, sigma, noise.double().numpy(), *as_lists(config, part, rows))
    start = Gated(mu=torch.zeros(5).double(), weight=world.weight, bias=world.bias)
    state = learn_mask(
        start, label, count, world.frozen, config, projection_l2=0.01, seed=seed, variances=VARIANCES
    )
    # Both find the density to about 1e-7 of the gates' range.
    np.testing.assert_allclose(state.learned.mu.numpy(), slow.mu, rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.learned.weight.numpy(), slow.learned["weight"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state.learned.bias.numpy(), slow.learned["bias"], rtol=0, atol=1e-6)
    last = slow.last  # the last quarter of two steps is the last one
    assert (state.measured["risk"], state.measured["penalty"]) == pytest.approx(
        (last.risk, last.penalty), rel=1e-5
    )
    assert (state.measured["epsilon"], state.measured["cosine"]) == pytest.approx(
        (last.epsilon, last.cosine), abs=1e-5
    )
    closed = set(slow.mu.argsort()[:2].tolist())
    for feature in range(5):
        expected = 0.0 if feature in closed else min(1.0, max(0.01, float(slow.mu[feature]) + 0.5))
        assert float(state.mask[feature]) == pytest.approx(expected, abs=1e-6)
