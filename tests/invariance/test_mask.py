from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.core.errors import Diverged
from painvrl.invariance import mask
from painvrl.invariance.contrasts import draw_contrasts, plan_contrasts
from painvrl.invariance.mask import Draw, GateStep, MaskConfig, MaskState, MaskSteps, gate_step, learn_mask
from painvrl.invariance.risks import empirical_risk, score

if TYPE_CHECKING:
    from conftest import PlantedWorld


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_gradient(**hyperparameters: Any) -> MaskConfig:
    return MaskConfig(penalty="gradient_variance", **hyperparameters)


def a_step(
    planted: PlantedWorld, label: Tensor, config: MaskConfig, seed: int = 0, count: int = 2
) -> tuple[Tensor, float, float]:
    """The direction on ``mu`` at half-open gates, and the risk and penalty there."""
    plan = plan_contrasts("all", count, planted.frozen.user_content)
    draw = Draw(
        noise=torch.zeros(planted.width),
        sigma=torch.tensor(0.5),
        part=torch.randint(2, label.shape, generator=gen(seed)),
        contrasts=draw_contrasts(plan, gen()).float()[None],
    )
    taken = gate_step(planted.start, draw, label, plan, planted.frozen, config, 0.0)
    return taken.balance.direction, float(taken.risk), float(taken.penalty)


def test_the_step_closes_spurious_gates_before_invariant_ones(planted_world: PlantedWorld) -> None:
    direction, _, penalty = a_step(planted_world, planted_world.label, by_gradient(irm_weight=1e6))
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
        direction, _, penalty = a_step(planted_world, label, by_gradient(irm_weight=100.0), seed)
        seen.add(penalty > 0)
        assert torch.equal(direction, erm) == (penalty <= 0)
    assert seen == {True, False}


def test_the_step_evaluates_the_risk_at_the_sampled_gates(planted_world: PlantedWorld) -> None:
    noise = torch.randn(planted_world.width, generator=gen(5))
    plan = plan_contrasts("all", 2, planted_world.frozen.user_content)
    draw = Draw(
        noise=noise,
        sigma=torch.tensor(0.3),
        part=torch.zeros_like(planted_world.label),
        contrasts=draw_contrasts(plan, gen()).float()[None],
    )
    taken = gate_step(
        planted_world.start, draw, planted_world.label, plan, planted_world.frozen, by_gradient(), 0.0
    )
    gates = (0.3 * noise + 0.5).clamp(0, 1)
    scored = score(gates, planted_world.start.weight, planted_world.start.bias, planted_world.frozen)
    assert float(taken.risk) == pytest.approx(float(empirical_risk(scored, planted_world.frozen)), rel=1e-6)


def learn(
    planted: PlantedWorld,
    seed: int = 0,
    label: Tensor | None = None,
    group: Tensor | None = None,
    known: Callable[[], MaskSteps | None] | None = None,
    save: Callable[[Callable[[], MaskSteps]], object] | None = None,
    **hyperparameters: object,
) -> MaskState:
    config = MaskConfig.model_validate(
        {"steps": 12, "sparsity": 0.65, "penalty": "gradient_variance"} | hyperparameters
    )
    gates = planted.width if group is None else int(group.max()) + 1
    return learn_mask(
        replace(planted.start, mu=torch.zeros(gates)),
        planted.label if label is None else label,
        2,
        planted.frozen,
        config,
        projection_l2=1e-5,
        seed=seed,
        group=group,
        known=known,
        save=save,
    )


def test_equal_seeds_learn_bitwise_equal_masks(planted_world: PlantedWorld) -> None:
    first, again, other = learn(planted_world), learn(planted_world), learn(planted_world, seed=1)
    for name in ("mu", "weight", "bias"):
        assert torch.equal(getattr(first.learned, name), getattr(again.learned, name))
    assert torch.equal(first.mask, again.mask)
    assert first.measured == again.measured
    assert not torch.equal(first.learned.mu, other.learned.mu)


def test_a_mask_that_continues_from_any_step_is_the_one_that_was_never_stopped(
    planted_world: PlantedWorld,
) -> None:
    kept: list[MaskSteps] = []
    whole = learn(planted_world, save=lambda make: kept.append(copy.deepcopy(make())))
    assert [state.step for state in kept] == list(range(1, 12))
    assert [state.place for state in kept[:2]] == ["step 1", "step 2"]
    for state in kept:
        later: list[int] = []
        again = learn(planted_world, known=lambda: state, save=lambda make: later.append(make().step))  # noqa: B023
        assert later == list(range(state.step + 1, 12))
        for name in ("mu", "weight", "bias"):
            assert torch.equal(getattr(again.learned, name), getattr(whole.learned, name))
        assert torch.equal(again.mask, whole.mask)
        assert (again.measured, again.trace) == (whole.measured, whole.trace)


def test_an_interrupt_that_was_lost_ends_the_mask_before_its_next_step(
    planted_world: PlantedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def lost(make: Callable[[], MaskSteps]) -> None:
        steps.append(make().step)
        monkeypatch.setattr("painvrl.core.interrupts._asked", len(steps) == 3)

    with pytest.raises(KeyboardInterrupt):
        learn(planted_world, save=lost)
    assert steps == [1, 2, 3]


def test_the_trace_holds_what_every_step_measured_in_its_order(
    planted_world: PlantedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[GateStep] = []

    def watched(*arguments: Any) -> GateStep:
        taken.append(gate_step(*arguments))
        return taken[-1]

    monkeypatch.setattr(mask, "gate_step", watched)
    state = learn(planted_world, steps=9)
    assert state.trace["risk"] == tuple(float(one.risk) for one in taken)
    assert state.trace["penalty"] == tuple(float(one.penalty) for one in taken)
    assert state.trace["epsilon"] == tuple(float(one.balance.epsilon) for one in taken)
    assert state.trace["cosine"] == tuple(float(one.balance.cosine) for one in taken)
    assert len(set(state.trace["risk"])) == 9
    # A quarter of nine steps is two.
    assert state.measured["epsilon"] == pytest.approx(sum(state.trace["epsilon"][-2:]) / 2, rel=1e-6)
    assert state.measured["risk"] == pytest.approx(sum(state.trace["risk"][-2:]) / 2, rel=1e-6)


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


def test_groups_of_one_feature_learn_what_features_learn(planted_world: PlantedWorld) -> None:
    each, whole = torch.arange(planted_world.width), 27 / planted_world.width
    alone, grouped = (learn(planted_world, sparsity=whole, group=group) for group in (None, each))
    assert torch.equal(alone.mask, grouped.mask)
    assert torch.equal(alone.learned.mu, grouped.learned.mu)


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9])
def test_a_group_closes_as_a_whole_and_the_sparsity_counts_groups(
    planted_world: PlantedWorld, sparsity: float
) -> None:
    group = torch.arange(planted_world.width) // 6
    count = int(group.max()) + 1
    mask = learn(planted_world, steps=4, group=group, sparsity=sparsity).mask
    values = [set(mask[group == one].tolist()) for one in range(count)]
    assert all(len(found) == 1 for found in values)
    assert sum(found == {0.0} for found in values) == round(sparsity * count)


def test_sparsities_that_close_as_many_groups_learn_one_mask(planted_world: PlantedWorld) -> None:
    """What a share has beyond a whole number would lie on one open gate, whatever that gate is worth."""
    group = torch.arange(planted_world.width) % 3
    none, *others = [
        learn(planted_world, group=group, sparsity=sparsity) for sparsity in (0.0, 0.1, 0.3, 1 / 3, 0.4)
    ]
    assert torch.equal(none.learned.mu, others[0].learned.mu)
    for other in others[2:]:
        assert torch.equal(others[1].learned.mu, other.learned.mu)
    assert not torch.equal(others[0].learned.mu, others[1].learned.mu)


def test_a_gate_a_kind_of_feature_closes_the_spurious_kind(planted_world: PlantedWorld) -> None:
    group = torch.zeros(planted_world.width, dtype=torch.int64)
    group[planted_world.spurious], group[planted_world.spurious.stop :] = 1, 2
    mask = learn(planted_world, steps=20, group=group, sparsity=0.34, irm_weight=1e3).mask
    assert mask[planted_world.spurious].tolist() == [0.0] * 16
    assert float(mask[planted_world.invariant].min()) > 0


def test_names_of_groups_mean_nothing(planted_world: PlantedWorld) -> None:
    """Without noise of the gates, which is drawn by their numbers."""
    group = torch.arange(planted_world.width) % 4
    order = torch.tensor([2, 0, 3, 1])
    quiet = {"sigma": 1e-6, "final_sigma": 1e-6, "steps": 3, "sparsity": 0.0}
    found = learn(planted_world, group=group, **quiet)
    renamed = learn(planted_world, group=order[group], **quiet)
    torch.testing.assert_close(renamed.learned.mu[order], found.learned.mu)
    torch.testing.assert_close(renamed.mask, found.mask)


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
    "hyperparameters",
    [{"sparsity": 1.0}, {"sparsity": -0.1}, {"irm_weight": 0.0}, {"steps": 0}, {"sigma": 0.0}],
)
def test_hyperparameters_out_of_range_are_refused(hyperparameters: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskConfig.model_validate(hyperparameters)


def test_variances_are_read_only_where_the_penalty_that_reads_them_is_estimated() -> None:
    asked = {
        (balancer, penalty): MaskConfig.model_validate({"balancer": balancer, "penalty": penalty})
        for balancer in ("mgda", "erm")
        for penalty in ("coefficient_variance", "vrex")
    }
    assert [key for key, config in asked.items() if config.reads_variances] == [
        ("mgda", "coefficient_variance")
    ]


def attended(planted: PlantedWorld, group: Tensor, **hyperparameters: object) -> MaskState:
    return learn(planted, group=group, form="attention", groups="modality", steps=20, **hyperparameters)


def test_attention_closes_nothing_reads_no_sparsity_and_prefers_the_invariant_modality(
    planted_world: PlantedWorld,
) -> None:
    group = torch.zeros(planted_world.width, dtype=torch.int64)
    group[planted_world.spurious], group[planted_world.spurious.stop :] = 1, 2
    found = attended(planted_world, group, sparsity=0.34)
    assert torch.equal(found.mask, attended(planted_world, group, sparsity=0.0).mask)
    weights = found.learned.mu.softmax(dim=0)
    torch.testing.assert_close(found.mask, (weights / weights.max())[group])
    assert float(found.mask.min()) > 0
    assert int(weights.argmax()) == 0
    assert float(weights[1]) < float(weights[0]) - 0.01


def test_names_of_modalities_mean_nothing_to_attention(planted_world: PlantedWorld) -> None:
    """It has no noise, so another order of the modalities is the same mask."""
    order = torch.tensor([2, 0, 3, 1])
    group = torch.arange(planted_world.width) % 4
    found, renamed = attended(planted_world, group), attended(planted_world, order[group])
    torch.testing.assert_close(renamed.mask, found.mask, rtol=1e-5, atol=1e-6)


def test_attention_is_over_modalities_alone() -> None:
    with pytest.raises(ValidationError, match="form 'attention' needs groups 'modality'"):
        MaskConfig(form="attention", groups="blocks")


def test_attention_closes_no_gate_so_none_is_closed_at_random() -> None:
    with pytest.raises(ValidationError, match="form 'attention' closes none"):
        MaskConfig(form="attention", groups="modality", source="random")
