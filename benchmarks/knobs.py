"""Do the knobs move the objectives? ``python -m benchmarks.knobs [--seeds 3] [--protocol cold_item]``.

One knob at a time around the base configuration of ``studies/movielens.yaml``; mean and spread of
the valid NDCG@20 over seeds (split and initialisation together).
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import mean_and_spread, merged, prepared, print_table, trained
from painvrl.config import TrainConfig
from painvrl.pipeline import with_variant_weight
from painvrl.study.spec import load_spec

KNOBS: dict[str, tuple[float, ...]] = {
    "mask.sparsity": (0.1, 0.9),
    "mask.irm_weight": (0.1, 1.0, 1000.0),
    "environments.count": (2, 6),
    "backbone.id_dropout": (0.3, 0.6),
    "backbone.l2": (0.1, 0.6),
}
BRANCH_WEIGHTS = (0.0, 0.5, 1.0)


def nested(path: str, value: float) -> dict[str, Any]:
    """``a.b`` and a value as ``{a: {b: value}}``."""
    group, key = path.split(".")
    return {group: {key: value}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--protocol", choices=["cold_item", "popularity"])
    parser.add_argument("--content-only", action="store_true", help="no ID embeddings")
    parser.add_argument("--knob", action="append", choices=[*KNOBS, "fusion.variant_weight"])
    asked = parser.parse_args()
    base = load_spec(Path("studies/movielens.yaml")).config.model_dump()
    if asked.protocol:
        base["split"] = {"protocol": asked.protocol}
    if asked.content_only:
        base = merged(base, {"backbone": {"id_dim": 0}})
    seeds = range(asked.seeds)
    data = {}
    rows = []

    def measure(name: str, level: str, change: dict[str, Any], weights: tuple[float, ...] = ()) -> None:
        ends: dict[float | None, tuple[list[float], list[float]]] = {}
        for seed in seeds:
            settings = TrainConfig.model_validate(merged(base, change) | {"seed": seed})
            if seed not in data:
                data[seed] = prepared(settings)
            result = trained(settings, data[seed])
            for weight in weights or (None,):
                scored = result if weight is None else with_variant_weight(result, data[seed], weight)
                iid, ood = ends.setdefault(weight, ([], []))
                iid.append(scored.metrics["iid/ndcg_at_20"])
                ood.append(scored.metrics["ood/ndcg_at_20"])
        for weight, (iid, ood) in ends.items():
            shown = level if weight is None else f"{weight:g}"
            rows.append([name, shown, mean_and_spread(iid), mean_and_spread(ood)])
            print(rows[-1], f"OOD/IID {statistics.mean(ood) / statistics.mean(iid):.2f}", flush=True)

    measure("base", "", {})
    if not asked.knob or "fusion.variant_weight" in asked.knob:
        measure("fusion.variant_weight", "", nested("fusion.variant_weight", 1.0), BRANCH_WEIGHTS)
    for knob, levels in KNOBS.items():
        if asked.knob and knob not in asked.knob:
            continue
        for level in levels:
            measure(knob, f"{level:g}", nested(knob, level))
    where = asked.protocol or base["split"]["protocol"]
    print_table(
        f"MovieLens, {where}{', content only' if asked.content_only else ''}, {len(seeds)} seeds, valid NDCG@20",
        ["knob", "level", "IID", "OOD"],
        rows,
    )


if __name__ == "__main__":
    main()
