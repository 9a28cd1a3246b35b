from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from painvrl.invariance.gates import (
    Grain,
    attention,
    closed_gates,
    expected_density,
    final_mask,
    gate_groups,
    sample_gates,
    spread,
    with_density,
)

laws = settings(deadline=None, derandomize=True, max_examples=60)
seeds = st.integers(0, 10**6)


def gates(seed: int, width: int = 24, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(width, generator=torch.Generator().manual_seed(seed))


def slow_density(mu: torch.Tensor, sigma: float) -> float:
    """The mean over gates of P(mu + sigma eps + 1/2 > 0), by the error function."""
    return sum(0.5 * (1 + math.erf((m + 0.5) / sigma / math.sqrt(2))) for m in mu.tolist()) / len(mu)


@laws
@given(seed=seeds, sigma=st.floats(0.05, 2))
def test_sampled_gates_are_clipped_and_follow_their_formula(seed: int, sigma: float) -> None:
    mu, noise = gates(seed), gates(seed + 1)
    sampled = sample_gates(mu, sigma, noise)
    for gate, m, eps in zip(sampled.tolist(), mu.tolist(), noise.tolist(), strict=True):
        assert gate == pytest.approx(min(1.0, max(0.0, m + sigma * eps + 0.5)), abs=1e-6)


def test_a_gate_has_a_gradient_only_where_it_is_not_clipped() -> None:
    mu = torch.tensor([-3.0, 0.0, 3.0], requires_grad=True)
    sample_gates(mu, 0.5, torch.zeros(3)).sum().backward()
    assert mu.grad is not None
    assert mu.grad.tolist() == [0.0, 1.0, 0.0]


@laws
@given(seed=seeds, sigma=st.floats(0.05, 2))
def test_the_expected_density_is_the_mean_normal_tail(seed: int, sigma: float) -> None:
    mu = gates(seed)
    assert float(expected_density(mu, sigma)) == pytest.approx(slow_density(mu, sigma), abs=1e-6)


def test_the_expected_density_is_the_share_of_sampled_gates_that_are_open() -> None:
    mu, draw = gates(0), torch.Generator().manual_seed(1)
    noise = torch.randn(20000, 24, generator=draw)
    share = float((sample_gates(mu, 0.5, noise) > 0).double().mean())
    assert float(expected_density(mu, 0.5)) == pytest.approx(share, abs=0.005)


@laws
@given(seed=seeds, sigma=st.floats(0.05, 1), density=st.floats(0.02, 0.98), spread=st.floats(0, 5))
def test_with_density_hits_the_density(seed: int, sigma: float, density: float, spread: float) -> None:
    moved = with_density(gates(seed, spread=spread), sigma, density)
    assert slow_density(moved, sigma) == pytest.approx(density, abs=1e-4)


@laws
@given(seed=seeds, density=st.floats(0.05, 0.95))
def test_with_density_subtracts_one_scalar(seed: int, density: float) -> None:
    mu = gates(seed)
    shift = mu - with_density(mu, 0.3, density)
    assert float(shift.max() - shift.min()) < 1e-5


@laws
@given(seed=seeds, density=st.floats(0.05, 0.95), offset=st.floats(-3, 3))
def test_with_density_forgets_a_common_offset(seed: int, density: float, offset: float) -> None:
    mu = gates(seed)
    torch.testing.assert_close(
        with_density(mu + offset, 0.3, density), with_density(mu, 0.3, density), atol=1e-4, rtol=0
    )


@laws
@given(seed=seeds, sparsity=st.floats(0, 0.999), width=st.integers(1, 40))
def test_the_final_mask_closes_exactly_the_lowest_gates(seed: int, sparsity: float, width: int) -> None:
    mu = gates(seed, width)
    mask = final_mask(mu, sparsity)
    closed = round(sparsity * width)
    assert closed_gates(width, sparsity) == closed
    assert int((mask == 0).sum()) == closed
    lowest = sorted(range(width), key=lambda gate: float(mu[gate]))[:closed]
    assert {gate for gate in range(width) if mask[gate] == 0} == set(lowest)
    for gate in set(range(width)) - set(lowest):
        assert float(mask[gate]) == pytest.approx(min(1.0, max(0.01, float(mu[gate]) + 0.5)), abs=1e-6)


@laws
@given(seed=seeds, sparsities=st.lists(st.floats(0, 0.99), min_size=2, max_size=5))
def test_mask_sparsity_is_monotone(seed: int, sparsities: list[float]) -> None:
    mu = gates(seed)
    closed: set[int] = set()
    for sparsity in sorted(sparsities):
        now = {gate for gate, value in enumerate(final_mask(mu, sparsity).tolist()) if value == 0}
        assert closed <= now  # a sparser mask closes what a denser one closes, and no fewer
        closed = now


def test_equal_gates_are_closed_in_their_order() -> None:
    assert final_mask(torch.zeros(4), 0.5).tolist() == [0.0, 0.0, 0.5, 0.5]


@laws
@given(seed=seeds)
def test_the_mask_turns_with_the_features(seed: int) -> None:
    mu = gates(seed)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(final_mask(mu[order], 0.4), final_mask(mu, 0.4)[order])


@pytest.mark.parametrize(
    ("grain", "block_width", "groups"),
    [
        ("modality", 1, [0, 0, 0, 1, 2, 2]),
        ("blocks", 2, [0, 0, 1, 2, 3, 3]),
        ("blocks", 1, [0, 1, 2, 3, 4, 5]),
        ("blocks", 99, [0, 0, 0, 1, 2, 2]),
    ],
)
def test_groups_by_hand(grain: Grain, block_width: int, groups: list[int]) -> None:
    found = gate_groups([3, 1, 2], grain, block_width)
    assert found is not None
    assert found.tolist() == groups


def test_a_gate_a_feature_needs_no_groups() -> None:
    assert gate_groups([3, 1, 2], "feature", 2) is None
    gates = torch.tensor([0.2, 0.7])
    assert spread(gates, None) is gates


def test_a_gate_is_that_of_all_its_features_and_gathers_their_gradients() -> None:
    gates = torch.tensor([0.2, 0.7], requires_grad=True)
    spread_out = spread(gates, torch.tensor([0, 0, 1, 0]))
    assert spread_out.tolist() == gates[[0, 0, 1, 0]].tolist()
    (gradient,) = torch.autograd.grad((spread_out * torch.tensor([1.0, 2.0, 4.0, 8.0])).sum(), gates)
    assert gradient.tolist() == [11.0, 4.0]


def test_attention_is_the_softmax_over_its_largest_weight_whatever_all_logits_are_moved_by() -> None:
    mu = torch.tensor([0.3, -1.0, 2.0, 2.0], dtype=torch.float64)
    weights = mu.softmax(dim=0)
    torch.testing.assert_close(attention(mu), weights / weights.max())
    torch.testing.assert_close(attention(mu + 7), attention(mu))
    assert float(attention(mu).max()) == 1.0
    assert float(attention(mu).min()) > 0.0
