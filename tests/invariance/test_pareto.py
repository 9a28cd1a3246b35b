from __future__ import annotations

import ast
import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from painvrl.core.errors import UserError
from painvrl.invariance import upgrad
from painvrl.invariance.mask import MaskConfig
from painvrl.invariance.pareto import Balance, balance, min_norm_weight

laws = settings(deadline=None, derandomize=True, max_examples=60)
seeds = st.integers(0, 10**6)
weights = st.floats(0.01, 1000)


def gradients(seed: int, width: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    scale = 10 ** torch.rand(2, generator=draw, dtype=torch.float64)
    risk = torch.randn(width, generator=draw, dtype=torch.float64)
    shared = torch.randn((), generator=draw, dtype=torch.float64)
    penalty = shared * risk + torch.randn(width, generator=draw, dtype=torch.float64)
    return risk * scale[0], penalty * scale[1]


def mgda(risk: Tensor, penalty: Tensor, weight: float) -> Balance:
    return balance(risk, penalty, weight, "mgda")


@laws
@given(seed=seeds)
def test_the_min_norm_point_is_the_best_of_a_fine_grid(seed: int) -> None:
    a, b = gradients(seed)
    eps = float(min_norm_weight(a, b))
    assert 0 <= eps <= 1
    grid = [place / 2000 for place in range(2001)]
    best = min(float((place * a + (1 - place) * b).norm()) for place in grid)
    assert float((eps * a + (1 - eps) * b).norm()) <= best + 1e-12


@laws
@given(seed=seeds)
def test_the_min_norm_point_satisfies_kkt(seed: int) -> None:
    # At the shortest point v of the segment, neither end lies further back along v than v itself.
    a, b = gradients(seed)
    eps = min_norm_weight(a, b)
    v = eps * a + (1 - eps) * b
    square = float(v @ v)
    assert float(v @ a) >= square - 1e-9 * (1 + square)
    assert float(v @ b) >= square - 1e-9 * (1 + square)
    if 0 < float(eps) < 1:  # complementary slackness: an end that takes part is met exactly
        assert float(v @ a) == pytest.approx(square, rel=1e-9, abs=1e-9)
        assert float(v @ b) == pytest.approx(square, rel=1e-9, abs=1e-9)


def test_the_min_norm_point_of_hand_computed_segments() -> None:
    def eps(a: list[float], b: list[float]) -> float:
        return float(min_norm_weight(torch.tensor(a), torch.tensor(b)))

    assert eps([1.0, 0.0], [0.0, 1.0]) == 0.5
    assert eps([2.0, 0.0], [0.0, 1.0]) == pytest.approx(0.2)
    assert eps([1.0, 0.0], [3.0, 0.0]) == 1.0
    assert eps([3.0, 0.0], [1.0, 0.0]) == 0.0
    assert eps([1.0, 0.0], [-3.0, 0.0]) == pytest.approx(0.75)
    assert eps([1.0, 2.0], [1.0, 2.0]) == 0.5  # equal ends: no direction of their own


@laws
@given(seed=seeds, weight=weights)
def test_the_direction_is_a_convex_combination_of_the_gradients(seed: int, weight: float) -> None:
    risk, penalty = gradients(seed)
    step = mgda(risk, penalty, weight)
    eps = float(step.epsilon)
    share = eps / (eps + (1 - eps) / weight)
    assert 0 <= share <= 1
    torch.testing.assert_close(step.direction, share * risk + (1 - share) * penalty, rtol=1e-9, atol=1e-9)


@laws
@given(seed=seeds, weight=weights)
def test_at_an_interior_point_the_penalty_falls_weight_times_as_fast(seed: int, weight: float) -> None:
    risk, penalty = gradients(seed)
    step = mgda(risk, penalty, weight)
    assume(1e-6 < float(step.epsilon) < 1 - 1e-6)
    assume(float(step.direction.norm()) > 1e-6)
    descent_of_risk, descent_of_penalty = float(step.direction @ risk), float(step.direction @ penalty)
    assert descent_of_risk > 0
    assert descent_of_penalty == pytest.approx(weight * descent_of_risk, rel=1e-6)


@laws
@given(seed=seeds, weight=weights)
def test_the_direction_never_climbs_either_risk(seed: int, weight: float) -> None:
    risk, penalty = gradients(seed)
    direction = mgda(risk, penalty, weight).direction
    slack = 1e-9 * (1 + float(direction.norm()) * max(float(risk.norm()), float(penalty.norm())))
    assert float(direction @ risk) >= -slack
    assert float(direction @ penalty) >= -slack


@laws
@given(seed=seeds)
def test_weight_one_is_plain_two_task_mgda(seed: int) -> None:
    risk, penalty = gradients(seed)
    step = mgda(risk, penalty, 1.0)
    eps = min_norm_weight(risk, penalty)
    torch.testing.assert_close(step.direction, eps * risk + (1 - eps) * penalty)


AGREEING = (torch.tensor([1.0, 0.5]).double(), torch.tensor([0.25, 1.0]).double())
IN_CONFLICT = (torch.tensor([1.0, 0.0]).double(), torch.tensor([-1.0, 1.0]).double())


def test_without_conflict_the_limits_are_the_two_gradients() -> None:
    risk, penalty = AGREEING
    torch.testing.assert_close(mgda(risk, penalty, 1e-9).direction, risk)
    torch.testing.assert_close(mgda(risk, penalty, 1e9).direction, penalty)
    assert float(mgda(risk, penalty, 1e-9).epsilon) == 1.0
    assert float(mgda(risk, penalty, 1e9).epsilon) == 0.0


def test_in_conflict_the_limits_are_the_gradients_projected_off_each_other() -> None:
    risk, penalty = IN_CONFLICT
    # On the way to ERM: the risk's gradient minus its part along the penalty's, and the reverse.
    off_penalty = risk - (risk @ penalty) / (penalty @ penalty) * penalty
    off_risk = penalty - (penalty @ risk) / (risk @ risk) * risk
    to_erm, to_irm = mgda(risk, penalty, 1e-9).direction, mgda(risk, penalty, 1e9).direction
    torch.testing.assert_close(to_erm / to_erm.norm(), off_penalty / off_penalty.norm(), atol=1e-7, rtol=0)
    torch.testing.assert_close(to_irm / to_irm.norm(), off_risk / off_risk.norm(), atol=1e-7, rtol=0)
    assert abs(float(to_erm @ penalty)) < 1e-7
    assert abs(float(to_irm @ risk)) < 1e-7


def test_a_larger_weight_gives_the_penalty_a_larger_share() -> None:
    for risk, penalty in (AGREEING, IN_CONFLICT):
        shares = []
        for weight in (0.01, 0.1, 1.0, 10.0, 100.0):
            step = mgda(risk, penalty, weight)
            eps = float(step.epsilon)
            shares.append((1 - eps) / weight / (eps + (1 - eps) / weight))
        assert shares == sorted(shares)
        assert shares[0] < shares[-1]


@laws
@given(seed=seeds, weight=weights, scale=st.floats(0.1, 10))
def test_the_direction_vanishes_at_a_pareto_stationary_point(seed: int, weight: float, scale: float) -> None:
    risk, _ = gradients(seed)
    step = mgda(risk, -scale * risk, weight)
    assert float(step.direction.norm()) < 1e-9 * (1 + float(risk.norm()) * (1 + scale))


def test_a_risk_without_a_gradient_gives_no_direction() -> None:
    step = mgda(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), 10.0)
    assert step.direction.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("weight", [0.1, 1.0, 100.0])
def test_a_penalty_without_a_gradient_leaves_the_risk(weight: float) -> None:
    risk = torch.tensor([1.0, -2.0, 3.0])
    step = mgda(risk, torch.zeros(3), weight)
    assert torch.equal(step.direction, risk)
    assert float(step.epsilon) == 1.0
    assert float(step.cosine) == 0.0


@laws
@given(seed=seeds, weight=weights, scale=st.floats(0.01, 100))
def test_scaling_both_gradients_scales_the_direction(seed: int, weight: float, scale: float) -> None:
    risk, penalty = gradients(seed)
    step, scaled = mgda(risk, penalty, weight), mgda(scale * risk, scale * penalty, weight)
    torch.testing.assert_close(scaled.direction, scale * step.direction, rtol=1e-6, atol=1e-9)
    assert float(scaled.epsilon) == pytest.approx(float(step.epsilon), abs=1e-9)


@laws
@given(seed=seeds, weight=weights, scale=st.floats(0.1, 10))
def test_scaling_the_penalty_is_dividing_the_weight(seed: int, weight: float, scale: float) -> None:
    risk, penalty = gradients(seed)
    step, scaled = mgda(risk, penalty, weight), mgda(risk, scale * penalty, scale * weight)
    assert float(scaled.epsilon) == pytest.approx(float(step.epsilon), abs=1e-9)


@laws
@given(seed=seeds, weight=weights)
def test_turning_both_gradients_turns_the_direction(seed: int, weight: float) -> None:
    risk, penalty = gradients(seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        mgda(risk[order], penalty[order], weight).direction, mgda(risk, penalty, weight).direction[order]
    )


def test_the_cosine_tells_conflict() -> None:
    risk, penalty = torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    for balancer in ("mgda", "fixed", "erm"):
        assert float(balance(risk, penalty, 2.0, balancer).cosine) == pytest.approx(24 / 25)
        assert float(balance(risk, -penalty, 2.0, balancer).cosine) == pytest.approx(-24 / 25)


def test_erm_follows_the_risk_alone() -> None:
    risk, penalty = torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0])
    step = balance(risk, penalty, 50.0, "erm")
    assert torch.equal(step.direction, risk)
    assert float(step.epsilon) == 1.0


def test_fixed_is_the_weighted_sum_over_the_sum_of_the_weights() -> None:
    risk, penalty = torch.tensor([3.0, 4.0]), torch.tensor([-4.0, 3.0])
    step = balance(risk, penalty, 3.0, "fixed")
    torch.testing.assert_close(step.direction, (risk + 3 * penalty) / 4)
    assert float(step.epsilon) == 0.25


def test_the_length_does_not_depend_on_the_weight_where_one_gradient_rules() -> None:
    risk, penalty = AGREEING
    lengths = [float(mgda(risk, penalty, weight).direction.norm()) for weight in (1e3, 1e6, 1e9)]
    assert all(math.isclose(length, float(penalty.norm()), rel_tol=1e-9) for length in lengths)


class TestUpgrad:
    """The balancer from TorchJD against its closed form for two gradients."""

    @pytest.fixture(autouse=True)
    def _needs_the_extra(self) -> None:
        pytest.importorskip("torchjd")

    @staticmethod
    def closed_form(risk: Tensor, penalty: Tensor, weight: float) -> Tensor:
        """Each gradient without its part along the other one where they are in conflict."""
        conflict = min(0.0, float(risk @ penalty))
        of_risk = risk - conflict / float(penalty @ penalty) * penalty
        of_penalty = penalty - conflict / float(risk @ risk) * risk
        return (of_risk + weight * of_penalty) / (1 + weight)

    @laws
    @given(seed=seeds, weight=weights, scale=st.floats(1e-4, 1e4))
    def test_it_projects_each_gradient_off_the_others_conflict(
        self, seed: int, weight: float, scale: float
    ) -> None:
        risk, penalty = gradients(seed)
        penalty = scale * penalty
        step = balance(risk, penalty, weight, "upgrad")
        wanted = self.closed_form(risk, penalty, weight)
        size = float(risk.norm() + weight * penalty.norm()) / (1 + weight)
        torch.testing.assert_close(step.direction, wanted, rtol=0, atol=1e-5 * size)
        assert 0 <= float(step.epsilon) <= 1

    @laws
    @given(seed=seeds, weight=weights)
    def test_the_direction_climbs_neither_risk(self, seed: int, weight: float) -> None:
        risk, penalty = gradients(seed)
        direction = balance(risk, penalty, weight, "upgrad").direction
        slack = 1e-6 * float(direction.norm())
        assert float(direction @ risk) >= -slack * float(risk.norm())
        assert float(direction @ penalty) >= -slack * float(penalty.norm())

    def test_without_conflict_it_is_the_fixed_sum(self) -> None:
        for weight in (0.1, 1.0, 30.0):
            steps = [balance(*AGREEING, weight, balancer) for balancer in ("upgrad", "fixed")]
            torch.testing.assert_close(steps[0].direction, steps[1].direction, rtol=0, atol=1e-6)
            assert float(steps[0].epsilon) == pytest.approx(float(steps[1].epsilon), abs=1e-6)

    @pytest.mark.parametrize("weight", [1e-9, 1e9])
    def test_its_limits_are_those_of_mgda(self, weight: float) -> None:
        for pair in (AGREEING, IN_CONFLICT):
            ours, theirs = (balance(*pair, weight, balancer).direction for balancer in ("upgrad", "mgda"))
            torch.testing.assert_close(ours / ours.norm(), theirs / theirs.norm(), rtol=0, atol=1e-5)

    def test_a_penalty_without_a_gradient_leaves_the_risk(self) -> None:
        risk = torch.tensor([1.0, -2.0, 3.0])
        step = balance(risk, torch.zeros(3), 5.0, "upgrad")
        assert torch.equal(step.direction, risk)
        assert float(step.epsilon) == 1.0

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_gradient_that_is_not_finite_gives_a_direction_that_is_not(self, value: float) -> None:
        broken, sound = torch.tensor([1.0, value]), torch.tensor([1.0, 2.0])
        for pair in ((broken, sound), (sound, broken), (broken, broken)):
            assert bool(balance(*pair, 5.0, "upgrad").direction.isnan().any())


@pytest.mark.parametrize("missing", ["torchjd", "quadprog", "qpsolvers"])
def test_upgrad_without_its_packages_is_refused_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == missing else find_spec(name, *rest)
    )
    with pytest.raises(ValidationError, match=r"balancer\n.*extra torchjd: pip install"):
        MaskConfig(balancer="upgrad")
    assert MaskConfig(balancer="mgda").balancer == "mgda"


def test_upgrad_whose_import_fails_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(UserError, match=r"mask\.balancer: 'upgrad' needs the extra torchjd"):
        balance(*AGREEING, 1.0, "upgrad")


def test_torchjd_is_imported_only_where_it_is_used() -> None:
    tree = ast.parse(Path(upgrad.__file__).read_text(encoding="utf-8"))
    on_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("torchjd" in ast.unparse(node) for node in on_import)
