"""bfloat16 products with the features cost no quality beyond seed noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from painvrl.config import TrainConfig
from painvrl.pipeline import run
from painvrl.prepare import prepare

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
                "mask": {"source": "ones"},
                "fusion": {"kind": "invariant"},
                "seed": seed,
            }
        )
        folder = tmp_path_factory.mktemp("cache")
        prepared = prepare(config, cache_dir=folder, device=torch.device("cpu"))
        values.append(run(config, prepared).metrics["iid/ndcg_at_20"])
    return np.array(values)


def test_bfloat16_reaches_the_same_ndcg_within_seed_noise(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    exact, rounded = (ndcg(tmp_path_factory, precision) for precision in ("float32", "bfloat16"))
    assert (exact != rounded).any()
    noise = exact.std(ddof=1) / len(SEEDS) ** 0.5
    assert abs((rounded - exact).mean()) < 2 * noise
    assert noise < 0.1 * exact.mean()  # or anything would pass
