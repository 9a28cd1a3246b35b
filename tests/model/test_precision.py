"""bfloat16 products with the features cost no quality beyond seed noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare

SEEDS = range(5)


def ndcg(tmp_path_factory: pytest.TempPathFactory, precision: str) -> np.ndarray:
    """IID NDCG@20 of every seed, split and initialisation together."""
    values = []
    for seed in SEEDS:
        config = TrainConfig.model_validate(
            {
                "data": {
                    "kind": "planted",
                    "n_users": 300,
                    "n_items": 400,
                    "interactions_per_environment": 25,
                },
                "split": {"protocol": "planted"},
                "backbone": {"id_dim": 8, "content_dim": 16, "precision": precision},
                "training": {"max_epochs": 60},
                "mask": {"steps": 20},
                "environments": {"restarts": 1, "steps": 20},
                "rounds": 1,
                "fusion": {"kind": "invariant"},
                "seed": seed,
            }
        )
        folder = tmp_path_factory.mktemp("cache")
        prepared = prepare(config, cache_dir=folder, device=torch.device("cpu"))
        values.append(run(config, prepared).metrics["iid/ndcg_at_20"])
    return np.array(values)


@pytest.mark.slow
def test_bfloat16_reaches_the_same_ndcg_within_seed_noise(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    exact, rounded = (ndcg(tmp_path_factory, precision) for precision in ("float32", "bfloat16"))
    assert (exact != rounded).any()
    # Paired by seed: what bfloat16 changes, beside what another seed changes and beside the value itself.
    change = abs((rounded - exact).mean())
    assert change < 2 * exact.std(ddof=1) / len(SEEDS) ** 0.5
    assert change < 0.05 * exact.mean()
