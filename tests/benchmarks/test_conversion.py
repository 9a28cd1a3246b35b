from __future__ import annotations

import torch

from painvrl.data.interactions import Interactions
from painvrl.run.prepare import Prepared


def test_preferences_are_the_least_squares_of_each_user_over_the_items_that_train_has() -> None:
    from benchmarks.conversion import scores_of

    draws = torch.Generator().manual_seed(0)
    features = torch.randn(7, 4, generator=draws, dtype=torch.float64)
    taken = torch.rand(5, 7, generator=draws) < 0.5
    taken[:, 6] = False  # a new item
    user, item = taken.nonzero(as_tuple=True)
    train = Interactions(user=user, item=item, n_users=5, n_items=7)
    warm = taken.any(dim=0)
    for ridge, found in zip((0.5, 20.0), scores_of(features, train, (0.5, 20.0)), strict=True):
        known = features[warm]
        left = known.T @ known + ridge * torch.eye(4, dtype=torch.float64)
        wanted = torch.linalg.solve(left, known.T @ taken[:, warm].double().T).T @ features.T
        torch.testing.assert_close(found, wanted)


def test_the_penalty_with_the_best_iid_is_taken_and_a_closed_gate_reads_nothing(
    tiny_prepared: Prepared,
) -> None:
    from benchmarks.conversion import by_ridge

    gates = [1.0] * len(tiny_prepared.widths)
    each = [by_ridge(tiny_prepared, gates, (ridge,))["iid"].mean() for ridge in (1.0, 1e4)]
    assert each[0] != each[1]
    assert by_ridge(tiny_prepared, gates, (1.0, 1e4))["iid"].mean() == max(each)
    closed = by_ridge(tiny_prepared, [0.0] * len(gates), (1.0,))
    assert closed["ood"].mean() != by_ridge(tiny_prepared, gates, (1.0,))["ood"].mean()
