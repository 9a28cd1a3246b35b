from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from painvrl.core.errors import EmptyEnvironment
from painvrl.invariance import personal_mixture, soft_mixture
from painvrl.invariance.environments import EnvironmentConfig, Environments, identify
from painvrl.invariance.hard_em import _random_start
from painvrl.invariance.shared_model import Tastes, calibrate
from painvrl.invariance.soft_mixture import TiltKind, first_tilts

if TYPE_CHECKING:
    from conftest import PlantedWorld, Small

    from painvrl.invariance.shared_model import SharedModel
    from painvrl.model.training_data import TrainingData
    from painvrl.model.ultragcn import Backbone


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shared_tilts(**knobs: Any) -> EnvironmentConfig:
    return EnvironmentConfig(tilt="shared", **knobs)


def run(small: Small, config: EnvironmentConfig, seed: int = 0, **more: Any) -> Environments:
    tastes = Tastes(user_content=small.shared.users, weight=small.variant.T @ small.shared.items)
    return identify(small.variant, small.shared, small.data, config, gen(seed), tastes=tastes, **more)


def test_the_label_is_the_likeliest_environment(small: Small) -> None:
    found = run(small, shared_tilts(count=3, steps=15, min_share=0.0))
    assert found.tilts is not None
    assert found.reseeded == 0
    best = small.slow_log_p(found.tilts.double().numpy()).argmax(axis=1)
    assert found.label.tolist() == best.tolist()
    assert found.sizes == tuple(np.bincount(best, minlength=3).tolist())


def test_more_steps_raise_the_likelihood(small: Small) -> None:
    likelihood = [
        run(small, EnvironmentConfig(steps=steps, min_share=0.0)).log_likelihood for steps in (1, 10, 60)
    ]
    assert likelihood[0] < likelihood[1] < likelihood[2]


def test_a_later_round_starts_from_the_last_tilts(small: Small) -> None:
    config = EnvironmentConfig(steps=60, min_share=0.0)
    first = run(small, config)
    second = run(small, EnvironmentConfig(steps=1, learning_rate=1e-9, min_share=0.0), last=first)
    assert first.tilts is not None
    assert second.tilts is not None
    torch.testing.assert_close(second.tilts, first.tilts)
    assert first.moved_share == 1.0
    assert second.moved_share == 0.0
    turned = Environments(
        label=1 - first.label,
        tilts=first.tilts,
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
    assert first.tilts is not None
    assert other.tilts is not None
    assert not torch.equal(first.tilts, other.tilts)


every_tilt = pytest.mark.parametrize("tilt", get_args(TiltKind))
ORDER = torch.tensor([2, 0, 1])  # not its own inverse


def run_in_double(small: Small, config: EnvironmentConfig, last: Environments | None = None) -> Environments:
    """So that sums in another order part the fits by no more than 1e-9."""
    shared = replace(small.shared, users=small.shared.users.double(), items=small.shared.items.double())
    variant = small.variant.double()
    tastes = Tastes(user_content=shared.users, weight=variant.T @ shared.items)
    return identify(variant, shared, small.data, config, gen(), last=last, tastes=tastes)


def assert_renamed(renamed: Environments, straight: Environments) -> None:
    """That environment ``e`` of one is ``ORDER[e]`` of the other."""
    assert renamed.tilts is not None
    assert straight.tilts is not None
    torch.testing.assert_close(renamed.tilts, straight.tilts[ORDER], rtol=1e-7, atol=1e-9)
    assert not torch.allclose(straight.tilts[ORDER], straight.tilts, rtol=0.1)
    assert torch.equal(ORDER[renamed.label], straight.label)
    assert renamed.sizes == tuple(straight.sizes[e] for e in ORDER.tolist())
    assert renamed.reseeded == straight.reseeded
    assert renamed.log_likelihood == pytest.approx(straight.log_likelihood, rel=1e-9)


@every_tilt
@pytest.mark.parametrize("min_share", [0.0, 0.3])
def test_renaming_the_tilts_that_a_fit_starts_from_renames_its_environments(
    small: Small, tilt: TiltKind, min_share: float
) -> None:
    config = EnvironmentConfig(tilt=tilt, count=3, min_share=min_share)
    columns = small.variant.shape[1] * (2 if tilt == "both" else 1)
    start = 0.5 * torch.randn(3, columns, generator=gen(), dtype=torch.float64)
    label = torch.zeros(small.data.n_pairs, dtype=torch.int64)  # of the round before: only moves read it
    straight, renamed = (
        run_in_double(small, config, Environments(label=label, tilts=tilts, sizes=(), moved_share=1.0))
        for tilts in (start, start[ORDER])
    )
    assert_renamed(renamed, straight)
    if min_share == 0:
        # Between donors of one size the guard would have to go by their names.
        assert len(set(straight.sizes)) == 3
    assert (straight.reseeded > 0) == (min_share > 0)


@every_tilt
def test_renaming_the_environments_of_random_starts_renames_what_is_found(
    small: Small, tilt: TiltKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EnvironmentConfig(tilt=tilt, count=3, restarts=3, min_share=0.0)
    found = []
    for order in (torch.arange(3), ORDER):

        def starts(*arguments: Any, order: Tensor = order) -> Tensor:
            return first_tilts(*arguments).double()[:, order]

        for module in (soft_mixture, personal_mixture):
            monkeypatch.setattr(module, "first_tilts", starts)
        found.append(run_in_double(small, config))
    assert_renamed(found[1], found[0])


def test_identification_reports_that_it_filled_an_environment(small: Small) -> None:
    # Without features all environments are alike, and every interaction falls to the first.
    config = shared_tilts(min_share=0.3)
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
    assert found.tilts is None
    assert math.isnan(found.log_likelihood)
    with pytest.raises(EmptyEnvironment, match="no interactions"):
        run(small, EnvironmentConfig(count=4, assignment="given"), given=label)


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


@every_tilt
def test_planted_environments_are_found_well_above_chance(
    planted_world: PlantedWorld, tilt: TiltKind
) -> None:
    model, data, shared, tastes = calibrated(planted_world)
    variant = 0.5 * planted_world.features
    found = identify(variant, shared, data, EnvironmentConfig(tilt=tilt), gen(), tastes=tastes)
    assert accuracy(found.label, planted_world.label) >= 0.65
    random = identify(planted_world.features, shared, data, EnvironmentConfig(assignment="random"), gen())
    assert accuracy(random.label, planted_world.label) < 0.52
    # The tilts differ along what the environments differ in; a taste's contribution is what counts.
    assert found.tilts is not None
    width = planted_world.width
    assert found.tilts.shape == (2, width * (2 if tilt == "both" else 1))
    gap = (found.tilts[0] - found.tilts[1]).abs()[:width]
    if tilt == "personal":
        gap = gap * tastes.of(torch.arange(len(model.user_content))).square().mean(dim=0).sqrt()
    spurious, invariant = gap[planted_world.spurious].norm(), gap[planted_world.invariant].norm()
    assert float(spurious) > (2 if tilt == "personal" else 3) * float(invariant)


def calibrated(planted: PlantedWorld) -> tuple[Backbone, TrainingData, SharedModel, Tastes]:
    model, data = planted.model, planted.data
    shared = calibrate(model.user_vectors().detach(), model.item_vectors().detach(), data, gen())
    tastes = Tastes(
        user_content=shared.temperature * model.user_content.detach(), weight=model.weight.detach()
    )
    return model, data, shared, tastes


def test_hard_em_stays_near_chance_where_the_mixture_does_not(planted_world: PlantedWorld) -> None:
    # Why it is not the default: its models remember the labels that they start from.
    _, data, shared, tastes = calibrated(planted_world)
    found = {
        assignment: identify(
            0.5 * planted_world.features,
            shared,
            data,
            EnvironmentConfig.model_validate({"assignment": assignment}),
            gen(),
            tastes=tastes,
        )
        for assignment in ("hard_em", "soft_mixture")
    }
    assert found["hard_em"].converged
    assert 0.5 <= accuracy(found["hard_em"].label, planted_world.label) < 0.56
    settings = EnvironmentConfig().hard_em
    start, _ = _random_start(planted_world.features, data, 2, settings, gen())
    assert float((found["hard_em"].label == start).double().mean()) > 0.58  # after five rounds
    assert accuracy(found["soft_mixture"].label, planted_world.label) >= 0.65
