"""The variant part of the features: the product and the rows of a matrix that is never made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from painvrl.invariance.environments import EnvironmentConfig, identify
from painvrl.invariance.hard_em import HardEMSettings
from painvrl.invariance.shared_model import Affinities
from painvrl.invariance.soft_mixture import OffsetKind
from painvrl.invariance.variant import VariantPart

if TYPE_CHECKING:
    from conftest import Small


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_variant_part_is_that_of_the_gated_matrix() -> None:
    draw = gen()
    features, gates = torch.randn(30, 5, generator=draw), torch.rand(5, generator=draw)
    columns, items = torch.randn(5, 3, generator=draw), torch.randint(30, (40,), generator=draw)
    part, whole = VariantPart(features, gates), features * gates
    torch.testing.assert_close(part @ columns, whole @ columns)
    assert torch.equal(part[items], whole[items])
    assert (part.shape, part.device) == (whole.shape, whole.device)


class Largest(TorchDispatchMode):
    """The most elements of a floating tensor that an operation makes with as many rows as there are items."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.n_items, self.made = n_items, 0

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.is_floating_point() and self.n_items in found.shape[:2]:
            given = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
            if found.untyped_storage().data_ptr() not in given:  # a view is not made
                self.made = max(self.made, found.numel())
        return found


ASSIGNMENTS = ["hard_em", *get_args(OffsetKind)]


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_environments_are_found_without_a_second_matrix_of_features(small: Small, assignment: str) -> None:
    """It would be the largest thing that a training holds."""
    width = 4_000  # more columns than anything else here has
    features = torch.randn(small.n_items, width, generator=gen(1))
    known: dict[str, Any] = {"hard_em": {"assignment": assignment}}
    config = EnvironmentConfig.model_validate(
        known.get(assignment, {"logit_offset": assignment, "candidates": 2})
        | {"steps": 2, "restarts": 1, "min_share": 0.0, "hard_em": HardEMSettings(max_rounds=1, steps=2)}
    )
    affinities = Affinities(
        user_content=small.shared.users, weight=torch.randn(width, small.shared.users.shape[1])
    )
    warm = small.data.warm_features(features)  # a run has it for the mask
    watch = Largest(small.n_items if assignment != "hard_em" else len(warm))
    with watch:
        identify(
            features,
            small.shared,
            small.data,
            config,
            gen(),
            mask=torch.full((width,), 0.3),
            affinities=affinities,
        )
    assert 0 < watch.made < small.n_items * width / 4


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_environments_see_the_variant_part_or_all_features(small: Small, assignment: str) -> None:
    known: dict[str, Any] = {"hard_em": {"assignment": assignment}}
    config = EnvironmentConfig.model_validate(
        known.get(assignment, {"logit_offset": assignment}) | {"steps": 4, "min_share": 0.0}
    )
    affinities = Affinities(user_content=small.shared.users, weight=small.variant.T @ small.shared.items)
    mask = torch.linspace(0, 1, small.variant.shape[1])

    def found(features: torch.Tensor, mask: torch.Tensor | None, sees: str) -> torch.Tensor:
        seen = config.model_copy(update={"sees": sees})
        environments = identify(
            features, small.shared, small.data, seen, gen(), mask=mask, affinities=affinities
        )
        fit = environments.models.weight if environments.models is not None else environments.offsets
        assert fit is not None
        return fit

    gated = small.variant * (1 - mask)
    torch.testing.assert_close(
        found(small.variant, mask, "variant"), found(gated, None, "variant"), rtol=1e-3, atol=1e-4
    )
    assert torch.equal(found(small.variant, mask, "all"), found(small.variant, None, "all"))
    assert not torch.equal(found(small.variant, mask, "variant"), found(small.variant, mask, "all"))
