from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from painvrl.invariance.contrasts import (
    ContrastPlan,
    chosen_kind,
    contrast_gradients,
    draw_contrasts,
    plan_contrasts,
    weigh_halves,
)
from painvrl.invariance.penalties import gradient_variance

if TYPE_CHECKING:
    from conftest import World


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_gates() -> Tensor:
    return torch.tensor([1.0, 0.0, 0.3, 0.7, 0.5], dtype=torch.float64)


def halves_of(world: World, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels, and which half each pair falls in."""
    return world.labels(count, seed), torch.randint(2, (world.n_pairs,), generator=gen(seed + 100))


def fast(
    world: World, plan: ContrastPlan, rows: Tensor, label: Tensor, half: Tensor, gates: Tensor
) -> Tensor:
    halves = weigh_halves(label, half, rows, world.frozen)
    return contrast_gradients(world.scored(gates), world.frozen, halves, plan)


def slow_gradients(
    world: World, count: int, label: Tensor, half: Tensor, gates: Tensor, *, graph: bool = False
) -> Tensor:
    """``[E, 2, F, k]``: autograd of the loop over pairs, half by half."""
    weight = world.weight.clone().requires_grad_()
    groups = (2 * label + half).tolist()
    risks = world.slow_risks(groups, 2 * count, gates, weight, world.bias)
    gradients = [
        torch.autograd.grad(risk, weight, retain_graph=True, create_graph=graph)[0]
        if risk.requires_grad
        else torch.zeros_like(weight)
        for risk in risks
    ]
    return torch.stack(gradients).view(count, 2, *weight.shape)


def slow_contrasts(plan: ContrastPlan, rows: Tensor, gradients: Tensor) -> Tensor:
    """``[2, F, C]`` of ``[E, 2, F, k]``, one block of columns after the other."""
    return torch.cat(
        [
            sum(row[e] * gradients[e, :, :, block] for e in range(len(row)))
            for row, block in zip(rows, plan.columns, strict=True)
        ],
        dim=2,
    )


def exact_penalty(gradients: Tensor, gates: Tensor) -> float:
    """``mean_e <g_e' - mean g', g_e'' - mean g''>``, weighed with the gates, entry by entry."""
    deviations = gradients - gradients.mean(dim=0)
    return float((deviations[:, 0] * deviations[:, 1] * gates[:, None]).sum() / len(gradients))


@pytest.mark.parametrize(
    ("count", "n_pairs", "width", "kind"),
    [
        (10, 64_000, 32, "all"),  # planted: 3.6 columns a contrast
        (4, 64_000, 32, "sketched"),  # 10.7
        (10, 54_000, 64, "sketched"),  # 7.1
        (10, 1_000_000, 32, "sketched"),  # few, but exactness would take long
    ],
)
def test_auto_is_exact_where_a_sketch_has_few_columns_and_data_are_few(
    count: int, n_pairs: int, width: int, kind: str
) -> None:
    assert chosen_kind("auto", count, n_pairs, width) == kind
    assert chosen_kind("all", count, n_pairs, width) == "all"
    assert chosen_kind("sketched", count, n_pairs, width) == "sketched"


@pytest.mark.parametrize("kind", ["all", "sketched"])
@pytest.mark.parametrize("count", [2, 3, 9])
def test_rows_are_orthonormal_and_sum_to_zero(kind: str, count: int) -> None:
    plan = plan_contrasts(kind, count, torch.zeros(4, 8))  # type: ignore[arg-type]
    rows = draw_contrasts(plan, gen())
    assert rows.shape == (len(plan.columns), count)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.sum(dim=1), torch.zeros(len(rows)).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [3, 9])
def test_a_sketch_reads_every_column_once_and_all_contrasts_read_all(count: int) -> None:
    content = torch.randn(4, 7, generator=gen())
    sketch, everything = plan_contrasts("sketched", count, content), plan_contrasts("all", count, content)
    assert [column for block in sketch.columns for column in range(*block.indices(7))] == list(range(7))
    assert torch.equal(torch.cat(sketch.users, dim=1), content)
    assert len(everything.columns) == count - 1
    assert all(torch.equal(users, content) for users in everything.users)


@pytest.mark.parametrize("kind", ["all", "sketched"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_contrasts_of_gradients_equal_autograd_of_the_loop(world: World, kind: str, count: int) -> None:
    plan = plan_contrasts(kind, count, world.frozen.user_content)  # type: ignore[arg-type]
    rows, (label, half) = draw_contrasts(plan, gen(1)), halves_of(world, count)
    found = fast(world, plan, rows, label, half, some_gates())
    wanted = slow_contrasts(plan, rows, slow_gradients(world, count, label, half, some_gates()))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_contrasts_are_differentiable_in_the_gates(world: World) -> None:
    # Through the factor in front and through the scores: against autograd twice over the loop.
    plan = plan_contrasts("all", 3, world.frozen.user_content)
    rows, (label, half) = draw_contrasts(plan, gen()), halves_of(world, 3, seed=2)
    probe = torch.randn(2, 5, 6, generator=gen(3), dtype=torch.float64)
    gates = some_gates().requires_grad_()
    found = torch.autograd.grad((fast(world, plan, rows, label, half, gates) * probe).sum(), gates)
    slow = slow_contrasts(plan, rows, slow_gradients(world, 3, label, half, gates, graph=True))
    wanted = torch.autograd.grad((slow * probe).sum(), gates)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_all_contrasts_give_the_exact_penalty(world: World, count: int) -> None:
    plan = plan_contrasts("all", count, world.frozen.user_content)
    rows, (label, half) = draw_contrasts(plan, gen()), halves_of(world, count, seed=4)
    gradients = fast(world, plan, rows, label, half, some_gates())
    found = gradient_variance(gradients, some_gates(), plan.scale).value
    wanted = exact_penalty(slow_gradients(world, count, label, half, some_gates()), some_gates())
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_with_two_environments_a_sketch_is_exact(world: World) -> None:
    label, half = halves_of(world, 2, seed=5)
    plans = [plan_contrasts(kind, 2, world.frozen.user_content) for kind in ("sketched", "all")]  # type: ignore[arg-type]
    first, second = (
        fast(world, plan, draw_contrasts(plan, gen(seed)), label, half, some_gates())
        for seed, plan in enumerate(plans)
    )
    assert torch.equal(first, second)
    assert plans[0].scale == plans[1].scale


@pytest.mark.parametrize("count", [3, 7])
def test_the_sketched_penalty_is_the_exact_one_in_the_mean(world: World, count: int) -> None:
    plan, draws = plan_contrasts("sketched", count, world.frozen.user_content), gen(6)
    label, half = halves_of(world, count, seed=6)
    gradients = slow_gradients(world, count, label, half, some_gates())
    values = torch.tensor(
        [
            float(
                gradient_variance(
                    slow_contrasts(plan, draw_contrasts(plan, draws), gradients),
                    some_gates(),
                    plan.scale,
                ).value
            )
            for _ in range(4000)
        ]
    )
    wanted = exact_penalty(gradients, some_gates())
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - wanted) < 3 * error
    assert error < 0.05 * abs(wanted)  # or the law would hold of anything


def test_renaming_environments_changes_no_penalty(world: World) -> None:
    plan, order = plan_contrasts("all", 4, world.frozen.user_content), torch.tensor([2, 0, 3, 1])
    rows, (label, half) = draw_contrasts(plan, gen()), halves_of(world, 4, seed=7)
    found = [
        gradient_variance(
            fast(world, plan, rows, names, half, some_gates()), torch.ones(5, dtype=torch.float64), plan.scale
        ).value
        for names in (label, order[label])
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)


def test_an_empty_half_counts_as_no_gradient(world: World) -> None:
    plan = plan_contrasts("all", 2, world.frozen.user_content)
    rows, label = draw_contrasts(plan, gen()), world.labels(2)
    found = fast(world, plan, rows, label, torch.zeros_like(label), some_gates())
    assert bool(torch.isfinite(found).all())
    assert float(found[1].abs().max()) == 0.0
    assert float(found[0].abs().max()) > 0


def test_a_sketch_takes_as_many_operations_for_many_environments_as_for_a_few(world: World) -> None:
    class Counting(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            self.operations += 1
            return operation(*args, **(kwargs or {}))

    seen = []
    for count in (5, 40):
        plan = plan_contrasts("sketched", count, world.frozen.user_content)
        rows, (label, half) = draw_contrasts(plan, gen()), halves_of(world, count)
        with Counting() as mode:
            gradients = fast(world, plan, rows, label, half, some_gates())
        seen.append((mode.operations, gradients.shape))
    assert seen[0] == seen[1]


def test_interactions_that_are_no_members_are_as_if_they_were_not_there(world: World) -> None:
    # The weights of the members are those of a half whose other interactions belong to no one.
    plan = plan_contrasts("all", 2, world.frozen.user_content)
    rows, (label, half) = draw_contrasts(plan, gen()), halves_of(world, 2, seed=8)
    member = torch.rand(world.n_pairs, generator=gen(9)) < 0.6
    halves = weigh_halves(label, half, rows, world.frozen, member.double())
    found = contrast_gradients(world.scored(some_gates()), world.frozen, halves, plan)
    weight = world.weight.clone().requires_grad_()
    groups = torch.where(member, 2 * label + half, 4).tolist()
    risks = world.slow_risks(groups, 5, some_gates(), weight, world.bias)[:4]
    slow = torch.stack([torch.autograd.grad(risk, weight, retain_graph=True)[0] for risk in risks])
    wanted = slow_contrasts(plan, rows, slow.view(2, 2, 5, 3))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)
