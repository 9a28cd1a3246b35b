"""The backbone alone beside implicit's ALS: ``python -m benchmarks.backbone [--seeds 5]``.

MovieLens, ``popularity`` split, NDCG@20 of the valid parts, the same ranking code for both. Needs the
extra ``baselines``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.common import config, mean_and_spread, prepared, print_table, trained
from painvrl.baselines.implicit_factors import ALS, AlsConfig
from painvrl.baselines.port import Inputs
from painvrl.evaluation.ranking import evaluate_scorer
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared

BASE: dict[str, Any] = {
    "data": {"kind": "movielens"},
    "split": {"protocol": "popularity"},
    "mask": {"source": "ones"},
    "fusion": {"kind": "invariant"},
    "evaluation": {"ks": [20]},
}
BACKBONES: dict[str, dict[str, Any]] = {
    "gramian, defaults": {},
    "gramian, genres only": {"data": {"modalities": ["genres"]}},
    "sampled (UltraGCN), genres only": {
        "data": {"modalities": ["genres"]},
        "backbone": {"loss": {"kind": "sampled"}, "l2": 0.003},
        "training": {"learning_rate": 0.005, "max_epochs": 60, "evaluate_every": 5},
    },
}
ALS_SETTINGS: dict[str, dict[str, Any]] = {
    "als 64, reg 5, alpha 5": {"factors": 64, "regularization": 5.0, "alpha": 5.0},
    "als 64, reg 0.05, alpha 1": {"factors": 64, "regularization": 0.05, "alpha": 1.0},
    "als 32, reg 5, alpha 5": {"factors": 32, "regularization": 5.0, "alpha": 5.0},
    "als 16, reg 1, alpha 2": {"factors": 16, "regularization": 1.0, "alpha": 2.0},
}


def als_metrics(settings: TrainConfig, data: Prepared, hyperparameters: dict[str, Any]) -> dict[str, float]:
    """Fit implicit's ALS on the training part and score it with painvrl's ranking."""
    fit = ALS.start(Inputs(settings, data))
    return evaluate_scorer(data.valid_plan, fit(AlsConfig.model_validate(hyperparameters)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    rows = []
    for name in [*BACKBONES, *ALS_SETTINGS]:
        iid, ood, seconds = [], [], []
        for seed in seeds:
            settings = config(BASE, BACKBONES.get(name, {}), {"seed": seed})
            data = prepared(settings)
            start = time.perf_counter()
            if name in ALS_SETTINGS:
                metrics = als_metrics(settings, data, ALS_SETTINGS[name])
            else:
                metrics = dict(trained(settings, data).metrics)
            seconds.append(time.perf_counter() - start)
            iid.append(metrics["iid/ndcg_at_20"])
            ood.append(metrics["ood/ndcg_at_20"])
        rows.append([name, mean_and_spread(iid), mean_and_spread(ood), f"{np.median(seconds):.1f}"])
        print(rows[-1], flush=True)
    print_table(
        f"MovieLens, popularity, {len(seeds)} seeds, valid NDCG@20",
        ["model", "IID", "OOD", "seconds (median)"],
        rows,
    )


if __name__ == "__main__":
    main()
