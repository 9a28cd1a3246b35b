from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from painvrl.evaluation.ranking import DotProducts, JudgedUsers, evaluate_users
from painvrl.evaluation.user_values import values_of
from painvrl.run.pipeline import RunResult
from painvrl.run.prepare import Prepared


@pytest.fixture(scope="module")
def judged(tiny_prepared: Prepared, tiny_result: RunResult) -> dict[str, JudgedUsers]:
    scorer = DotProducts(tiny_result.user_vectors, tiny_result.item_vectors)
    return evaluate_users(tiny_prepared.valid_plan, scorer)


def test_each_metric_has_the_column_of_its_cut_off(
    tiny_prepared: Prepared, judged: dict[str, JudgedUsers]
) -> None:
    plan = tiny_prepared.valid_plan
    assert len(plan.ks) > 1
    full = [f"{part}/{metric}_at_{k}" for part in judged for metric in ("recall", "ndcg") for k in plan.ks]
    kept = values_of(plan, judged, full)
    assert set(kept.values) == set(full)
    for part, each in judged.items():
        np.testing.assert_array_equal(kept.users[part], each.users.numpy())
        for metric in ("recall", "ndcg"):
            columns = [torch.from_numpy(kept.values[f"{part}/{metric}_at_{k}"]) for k in plan.ks]
            torch.testing.assert_close(torch.stack(columns, dim=1), each.values[metric].float())


def test_only_parts_that_are_asked_for_are_kept_and_a_mean_asks_for_its_parts(
    tiny_prepared: Prepared, judged: dict[str, JudgedUsers]
) -> None:
    assert set(values_of(tiny_prepared.valid_plan, judged, ["iid/ndcg_at_20"]).users) == {"iid"}
    plan = replace(tiny_prepared.valid_plan, means={"both": ("iid", "ood")})
    kept = values_of(plan, judged, ["both/ndcg_at_20"])
    assert set(kept.values) == {"iid/ndcg_at_20", "ood/ndcg_at_20"}
    assert kept.parts_of("both/ndcg_at_20") == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    assert kept.parts_of("iid/ndcg_at_20") == ("iid/ndcg_at_20",)
