from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from painvrl.core.errors import EmptyEnvironment
from painvrl.data.grouping import KnownGroups
from painvrl.invariance import per_user_mixture, soft_mixture
from painvrl.invariance.environments import EnvironmentConfig, Environments, identify
from painvrl.invariance.hard_em import _random_start
from painvrl.invariance.shared_model import Affinities, calibrate, sample_users
from painvrl.invariance.soft_mixture import OffsetKind, first_offsets, labelled_offsets

if TYPE_CHECKING:
    from conftest import PlantedWorld, Small

    from painvrl.invariance.shared_model import SharedModel
    from painvrl.model.training_data import TrainingData
    from painvrl.model.ultragcn import Backbone


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shared_offsets(**hyperparameters: Any) -> EnvironmentConfig:
    return EnvironmentConfig(logit_offset="shared", **hyperparameters)


def run(small: Small, config: EnvironmentConfig, seed: int = 0, **more: Any) -> Environments:
    affinities = Affinities(user_content=small.shared.users, weight=small.variant.T @ small.shared.items)
    return identify(small.variant, small.shared, small.data, config, gen(seed), affinities=affinities, **more)


def test_the_label_is_the_likeliest_environment(small: Small) -> None:
    found = run(small, shared_offsets(count=3, steps=15, min_share=0.0))
    assert found.offsets is not None
    assert found.reseeded == 0
    best = small.slow_log_p(found.offsets.double().numpy()).argmax(axis=1)
    assert found.label.tolist() == best.tolist()
    assert found.sizes == tuple(np.bincount(best, minlength=3).tolist())


def test_more_steps_raise_the_likelihood(small: Small) -> None:
    likelihood = [
        run(small, EnvironmentConfig(steps=steps, min_share=0.0)).log_likelihood for steps in (1, 10, 60)
    ]
    assert likelihood[0] < likelihood[1] < likelihood[2]


def test_a_later_round_starts_from_the_last_offsets(small: Small) -> None:
    config = EnvironmentConfig(steps=60, min_share=0.0)
    first = run(small, config)
    second = run(small, EnvironmentConfig(steps=1, learning_rate=1e-9, min_share=0.0), last=first)
    assert first.offsets is not None
    assert second.offsets is not None
    torch.testing.assert_close(second.offsets, first.offsets)
    assert first.moved_share == 1.0
    assert second.moved_share == 0.0
    turned = Environments(
        label=1 - first.label,
        offsets=first.offsets,
        sizes=first.sizes[::-1],
        moved_share=1.0,
        reseeded=0,
        log_likelihood=0.0,
    )
    third = run(small, EnvironmentConfig(steps=1, learning_rate=1e-9, min_share=0.0), last=turned)
    assert third.moved_share == 1.0


def test_equal_seeds_give_equal_labels(small: Small) -> None:
    config = EnvironmentConfig(count=3, steps=10)
    first, again, other = run(small, config), run(small, config), run(small, config, seed=1)
    assert torch.equal(first.label, again.label)
    assert first.log_likelihood == again.log_likelihood
    assert first.offsets is not None
    assert other.offsets is not None
    assert not torch.equal(first.offsets, other.offsets)


every_offset = pytest.mark.parametrize("offset", get_args(OffsetKind))
ORDER = torch.tensor([2, 0, 1])  # not its own inverse


def run_in_double(small: Small, config: EnvironmentConfig, last: Environments | None = None) -> Environments:
    """So that sums in another order part the fits by no more than 1e-9."""
    shared = replace(small.shared, users=small.shared.users.double(), items=small.shared.items.double())
    variant = small.variant.double()
    affinities = Affinities(user_content=shared.users, weight=variant.T @ shared.items)
    return identify(variant, shared, small.data, config, gen(), last=last, affinities=affinities)


def assert_renamed(renamed: Environments, straight: Environments) -> None:
    """That environment ``e`` of one is ``ORDER[e]`` of the other."""
    assert renamed.offsets is not None
    assert straight.offsets is not None
    torch.testing.assert_close(renamed.offsets, straight.offsets[ORDER], rtol=1e-7, atol=1e-9)
    assert not torch.allclose(straight.offsets[ORDER], straight.offsets, rtol=0.1)
    assert torch.equal(ORDER[renamed.label], straight.label)
    assert renamed.sizes == tuple(straight.sizes[e] for e in ORDER.tolist())
    assert renamed.reseeded == straight.reseeded
    assert renamed.log_likelihood == pytest.approx(straight.log_likelihood, rel=1e-9)


@every_offset
@pytest.mark.parametrize("min_share", [0.0, 0.3])
def test_renaming_the_offsets_that_a_fit_starts_from_renames_its_environments(
    small: Small, offset: OffsetKind, min_share: float
) -> None:
    config = EnvironmentConfig(logit_offset=offset, count=3, min_share=min_share)
    columns = small.variant.shape[1] * (2 if offset == "both" else 1)
    start = 0.5 * torch.randn(3, columns, generator=gen(), dtype=torch.float64)
    label = torch.zeros(small.data.n_pairs, dtype=torch.int64)  # of the round before: only moves read it
    straight, renamed = (
        run_in_double(small, config, Environments(label=label, offsets=offsets, sizes=(), moved_share=1.0))
        for offsets in (start, start[ORDER])
    )
    assert_renamed(renamed, straight)
    if min_share == 0:
        # Between donors of one size the guard would have to go by their names.
        assert len(set(straight.sizes)) == 3
    assert (straight.reseeded > 0) == (min_share > 0)


@every_offset
def test_renaming_the_environments_of_random_starts_renames_what_is_found(
    small: Small, offset: OffsetKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EnvironmentConfig(logit_offset=offset, count=3, restarts=3, min_share=0.0)
    found = []
    for order in (torch.arange(3), ORDER):

        def starts(*arguments: Any, order: Tensor = order) -> Tensor:
            return first_offsets(*arguments).double()[:, order]

        for module in (soft_mixture, per_user_mixture):
            monkeypatch.setattr(module, "first_offsets", starts)
        found.append(run_in_double(small, config))
    assert_renamed(found[1], found[0])


def test_identification_reports_that_it_filled_an_environment(small: Small) -> None:
    # Without features all environments are alike, and every interaction falls to the first.
    config = shared_offsets(min_share=0.3)
    found = identify(torch.zeros(small.n_items, 4), small.shared, small.data, config, gen())
    needed = round(0.3 * small.data.n_pairs)
    assert sorted(found.sizes) == [needed, small.data.n_pairs - needed]
    assert found.reseeded == 1


def test_too_few_interactions_for_the_environments_are_refused(small: Small) -> None:
    config = EnvironmentConfig(count=50, min_share=0.0)
    with pytest.raises(EmptyEnvironment, match=r"lower environments\.count or environments\.min_share"):
        run(small, config)


def test_given_labels_are_taken_as_they_are(small: Small) -> None:
    label = torch.arange(small.data.n_pairs) % 3
    found = run(small, EnvironmentConfig(count=3, assignment="given"), given=label)
    assert torch.equal(found.label, label)
    assert found.offsets is None
    assert math.isnan(found.log_likelihood)
    with pytest.raises(EmptyEnvironment, match="no interactions"):
        run(small, EnvironmentConfig(count=4, assignment="given"), given=label)


def test_known_groups_are_the_environments_and_their_number(small: Small) -> None:
    label = torch.arange(small.data.n_pairs) % 3
    sizes = tuple(torch.bincount(label).tolist())
    known = KnownGroups(label=label, names=("a", "b", "c"), sizes=sizes)
    config = EnvironmentConfig(assignment="column", column="era", min_share=0.0)
    found = run(small, config, known=known)
    assert torch.equal(found.label, label)
    assert found.sizes == sizes
    again = run(small, config, known=known, last=found)
    assert again.converged


def test_a_column_and_the_assignment_that_reads_it_are_set_together() -> None:
    with pytest.raises(ValidationError, match=r"needs environments\.column"):
        EnvironmentConfig.model_validate({"assignment": "column"})
    with pytest.raises(ValidationError, match="column says nothing without assignment"):
        EnvironmentConfig.model_validate({"column": "era"})
    assert EnvironmentConfig.model_validate({"assignment": "hard_em", "column": "era"}).column


def test_a_name_alone_stands_for_its_column() -> None:
    config = EnvironmentConfig.model_validate({"assignment": "column", "column": ["era", {"column": "city"}]})
    assert [one.column for one in config.column] == ["era", "city"]
    assert EnvironmentConfig.model_validate(config.model_dump(mode="json")) == config


def test_random_labels_are_even_and_stay_over_the_rounds(make_small: type[Small]) -> None:
    many = make_small(n_users=200, n_items=30)
    config = EnvironmentConfig(count=3, assignment="random")
    first = run(many, config)
    n = many.data.n_pairs
    assert all(abs(size - n / 3) < 4 * math.sqrt(n * 2 / 9) for size in first.sizes)
    second = run(many, config, seed=1, last=first)
    assert torch.equal(second.label, first.label)
    assert second.moved_share == 0.0
    assert not torch.equal(run(many, config, seed=1).label, first.label)


def accuracy(label: Tensor, truth: Tensor) -> float:
    """The share of right labels under the better of the two namings."""
    share = float((label == truth).double().mean())
    return max(share, 1 - share)


@every_offset
def test_planted_environments_are_found_well_above_chance(
    planted_world: PlantedWorld, offset: OffsetKind
) -> None:
    model, data, shared, affinities = calibrated(planted_world)
    variant = 0.5 * planted_world.features
    found = identify(
        variant, shared, data, EnvironmentConfig(logit_offset=offset), gen(), affinities=affinities
    )
    assert accuracy(found.label, planted_world.label) >= 0.65
    random = identify(planted_world.features, shared, data, EnvironmentConfig(assignment="random"), gen())
    assert accuracy(random.label, planted_world.label) < 0.52
    # The logit offsets differ along what the environments differ in; a affinity's contribution is what
    # counts.
    assert found.offsets is not None
    width = planted_world.width
    assert found.offsets.shape == (2, width * (2 if offset == "both" else 1))
    gap = (found.offsets[0] - found.offsets[1]).abs()[:width]
    if offset == "per_user":
        gap = gap * affinities.of(torch.arange(len(model.user_content))).square().mean(dim=0).sqrt()
    spurious, invariant = gap[planted_world.spurious].norm(), gap[planted_world.invariant].norm()
    assert float(spurious) > (2 if offset == "per_user" else 3) * float(invariant)


def calibrated(planted: PlantedWorld) -> tuple[Backbone, TrainingData, SharedModel, Affinities]:
    model, data = planted.model, planted.data
    shared = calibrate(model.user_vectors().detach(), model.item_vectors().detach(), data, gen())
    affinities = Affinities(
        user_content=shared.temperature * model.user_content.detach(), weight=model.weight.detach()
    )
    return model, data, shared, affinities


def test_hard_em_stays_near_chance_where_the_mixture_does_not(planted_world: PlantedWorld) -> None:
    # Why it is not the default: its models remember the labels that they start from.
    _, data, shared, affinities = calibrated(planted_world)
    found = {
        assignment: identify(
            0.5 * planted_world.features,
            shared,
            data,
            EnvironmentConfig.model_validate({"assignment": assignment}),
            gen(),
            affinities=affinities,
        )
        for assignment in ("hard_em", "soft_mixture")
    }
    assert found["hard_em"].converged
    assert 0.5 <= accuracy(found["hard_em"].label, planted_world.label) < 0.56
    settings = EnvironmentConfig().hard_em
    start, _ = _random_start(planted_world.features, data, 2, settings, gen())
    assert float((found["hard_em"].label == start).double().mean()) > 0.58  # after five rounds
    assert accuracy(found["soft_mixture"].label, planted_world.label) >= 0.65


def groups_of(label: Tensor, count: int) -> KnownGroups:
    sizes = torch.bincount(label[label >= 0], minlength=count)
    return KnownGroups(label=label, names=tuple(f"g{e}" for e in range(count)), sizes=tuple(sizes.tolist()))


def start_from_column(**hyperparameters: Any) -> EnvironmentConfig:
    asked = {"assignment": "soft_mixture", "start": "column", "column": "batch"} | hyperparameters
    return EnvironmentConfig.model_validate(asked)


@pytest.mark.parametrize("n_users", [9, 4])
def test_a_labelled_start_is_the_likeliest_offset_of_each_group(small: Small, n_users: int) -> None:
    """No small move of an environment's offset makes its interactions with the fitted users likelier."""
    users = sample_users(small.data, n_users, gen()).users.tolist()
    assert len(users) == n_users
    asked = np.array([user in users for user, _ in small.pairs])
    label = torch.arange(small.data.n_pairs) % 3 - 1  # every third is left open
    settings = start_from_column(steps=400, learning_rate=0.05, ridge=1e-2, fit_cells=n_users * small.n_items)
    found = labelled_offsets(small.variant, small.shared, small.data, label, 2, settings, gen())

    def loss(offsets: Tensor, environment: int) -> float:
        log_p = small.slow_log_p(offsets[None].double().numpy())[:, 0]
        return float(-log_p[(label == environment).numpy() & asked].mean() + 1e-2 * offsets.square().sum())

    for environment in (0, 1):
        best = loss(found[environment], environment)
        assert best < loss(torch.zeros_like(found[environment]), environment)
        for move in 0.05 * torch.randn(20, found.shape[1], generator=gen(4)).to(found.dtype):
            assert loss(found[environment] + move, environment) > best - 1e-5


@pytest.mark.parametrize("assignment", ["soft_mixture", "hard_em"])
def test_identification_starts_from_known_groups_whose_number_it_has(small: Small, assignment: str) -> None:
    label = torch.arange(small.data.n_pairs) % 3
    config = start_from_column(
        assignment=assignment, count=2, steps=5, min_share=0.0, hard_em={"steps": 1, "max_rounds": 1}
    )
    found = run(small, config, known=groups_of(label, 3))
    assert len(found.sizes) == 3
    turned = run(small, config, known=groups_of((label + 1) % 3, 3))
    assert not torch.equal(found.label, turned.label)
    if assignment == "soft_mixture":  # named as the groups are
        assert found.offsets is not None
        assert turned.offsets is not None
        torch.testing.assert_close(turned.offsets.roll(-1, 0), found.offsets, rtol=1e-4, atol=1e-5)
        assert torch.equal((found.label + 1) % 3, turned.label)


def test_a_later_round_does_not_start_from_the_groups_again(small: Small) -> None:
    known = groups_of(torch.arange(small.data.n_pairs) % 2, 2)
    first = run(small, start_from_column(steps=10, min_share=0.0), known=known)
    still = start_from_column(steps=1, learning_rate=1e-9, min_share=0.0)
    second = run(small, still, known=known, last=first)
    assert first.offsets is not None
    assert second.offsets is not None
    torch.testing.assert_close(second.offsets, first.offsets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "column"}, "start 'column' needs environments.column"),
        ({"start": "column", "column": "a", "assignment": "column"}, "needs assignment 'soft_mixture' or"),
        (
            {"start": "column", "column": "a", "assignment": "soft_mixture", "logit_offset": "both"},
            "needs logit_offset 'shared'",
        ),
        ({"assignment": "column", "column": {"column": "a", "unknown": "open"}}, "unknown: open is for"),
    ],
)
def test_a_start_that_cannot_be_made_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EnvironmentConfig.model_validate(settings)
