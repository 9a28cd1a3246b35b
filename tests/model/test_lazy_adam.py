from __future__ import annotations

import pytest
import torch
from torch import Tensor

from painvrl.model.lazy_adam import LazyAdam

STEPS = ((0, 2), (2, 3), (4,), (0, 1, 2, 3, 4), (2,))


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(width: int, seed: int = 0) -> Tensor:
    return torch.randn(5, width, generator=gen(seed), dtype=torch.float64)


def gradients(width: int) -> list[tuple[Tensor, Tensor]]:
    draw = gen(1)
    return [
        (torch.tensor(rows), torch.randn(len(rows), width, generator=draw, dtype=torch.float64))
        for rows in STEPS
    ]


def lazily(start: Tensor, steps: list[tuple[Tensor, Tensor]], rate: float = 0.1) -> Tensor:
    moved = start.clone()
    optimizer = LazyAdam([moved], rate)
    for rows, gradient in steps:
        optimizer.step([(rows, moved[rows], gradient)])
    return moved


@pytest.mark.filterwarnings("ignore:.*parse checked sparse.*", "ignore:.*invariant checks.*")
def test_it_is_torchs_sparse_adam() -> None:
    start, steps = table(3), gradients(3)
    reference = start.clone().requires_grad_()
    optimizer = torch.optim.SparseAdam([reference], lr=0.1)
    for rows, gradient in steps:
        reference.grad = torch.sparse_coo_tensor(rows[None], gradient, start.shape).coalesce()
        optimizer.step()
    torch.testing.assert_close(lazily(start, steps), reference.detach(), rtol=1e-12, atol=1e-12)


def test_where_every_row_is_touched_it_is_adam() -> None:
    start = table(3)
    steps = [(torch.arange(5), table(3, seed)) for seed in range(1, 5)]
    reference = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([reference], lr=0.1)
    for _, gradient in steps:
        reference.grad = gradient.clone()
        optimizer.step()
    # Their epsilons differ: Adam adds its own after the correction of the second moment.
    torch.testing.assert_close(lazily(start, steps), reference.detach(), rtol=0, atol=1e-6)


def test_a_row_that_is_not_touched_stays_bit_for_bit() -> None:
    start, steps = table(3), gradients(3)[:2]
    moved = lazily(start, steps)
    assert torch.equal(moved[[1, 4]], start[[1, 4]])
    assert (moved[[0, 2, 3]] != start[[0, 2, 3]]).all()


def test_tables_are_updated_each_by_itself() -> None:
    first, second = table(2, 3), table(4, 4)
    apart = lazily(first, gradients(2)), lazily(second, gradients(4))
    together = first.clone(), second.clone()
    optimizer = LazyAdam(together, 0.1)
    for (rows, one), (_, other) in zip(gradients(2), gradients(4), strict=True):
        optimizer.step([(rows, together[0][rows], one), (rows, together[1][rows], other)])
    assert torch.equal(together[0], apart[0])
    assert torch.equal(together[1], apart[1])


def test_an_optimiser_that_takes_over_goes_on_bit_for_bit() -> None:
    start, steps = table(3), gradients(3)
    moved = start.clone()
    first = LazyAdam([moved], 0.1)
    for rows, gradient in steps[:3]:
        first.step([(rows, moved[rows], gradient)])
    second = LazyAdam([moved], 0.1)
    second.load_state_dict(first.state_dict())
    for rows, gradient in steps[3:]:
        second.step([(rows, moved[rows], gradient)])
    assert torch.equal(moved, lazily(start, steps))
