"""Does a speed-up that changes numerics cost quality? ``python -m benchmarks.ablation [--seeds 5]``.

Each row is a slow setting and the fast one that replaced it, trained on the same seeds (split and
initialisation together); valid NDCG@20 of both parts and the paired difference, fast minus slow, with its
95% interval.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.common import config, mean_and_spread, merged, paired_interval, prepared, print_table, trained
from benchmarks.planted import BASE
from painvrl.study.file.spec import load_spec

MOVIELENS: dict[str, Any] = load_spec(Path("studies/movielens.yaml")).config.model_dump()
# With the defaults, whose penalty the contrasts are for.
PLANTED = merged(BASE, {"environments": {"logit_offset": "shared"}, "mask": {"penalty": "gradient_variance"}})
SAMPLED: dict[str, Any] = {
    "data": {"kind": "movielens", "modalities": ["genres"]},
    "split": {"protocol": "popularity"},
    "mask": {"source": "ones"},
    "fusion": {"kind": "invariant"},
    "backbone": {"l2": 0.003},
    "training": {"learning_rate": 0.005, "max_epochs": 60, "evaluate_every": 5},
}


def sampled(loss: dict[str, Any], **training: Any) -> dict[str, Any]:
    """The sampled loss with other negatives or updates."""
    return {"backbone": {"loss": {"kind": "sampled"} | loss}, "training": training}


def contrasts(kind: str, count: int) -> dict[str, Any]:
    """A number of environments, and how the penalty sees them."""
    return {"environments": {"count": count}, "mask": {"penalty": "gradient_variance", "contrasts": kind}}


ROWS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    **{
        f"contrasts, {name}, E = {count}": (base, contrasts("all", count), contrasts("sketched", count))
        for name, base, counts in (("MovieLens", MOVIELENS, (4, 6, 10)), ("planted", PLANTED, (4, 10)))
        for count in counts
    },
    "bfloat16, MovieLens": (MOVIELENS, {}, {"backbone": {"precision": "bfloat16"}}),
    "bfloat16, planted": (PLANTED, {}, {"backbone": {"precision": "bfloat16"}}),
    "shared negatives": (
        SAMPLED,
        sampled({"negatives_per": "pair", "negatives": 50}),
        sampled({"negatives_per": "batch", "negatives": 200}),
    ),
    "lazy updates": (SAMPLED, sampled({}, updates="dense"), sampled({}, updates="lazy")),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    asked = parser.parse_args()
    rows = []
    for name, (base, slow, fast) in ROWS.items():
        if asked.only not in name:
            continue
        values: dict[str, tuple[list[float], list[float]]] = {"iid": ([], []), "ood": ([], [])}
        seconds: tuple[list[float], list[float]] = ([], [])
        for seed in range(asked.seeds):
            data = prepared(config(base, slow, {"seed": seed, "evaluation": {"ks": [20]}}))
            for side, change in enumerate((slow, fast)):
                start = time.perf_counter()
                result = trained(config(base, change, {"seed": seed, "evaluation": {"ks": [20]}}), data)
                seconds[side].append(time.perf_counter() - start)
                for part, sides in values.items():
                    sides[side].append(result.metrics[f"{part}/ndcg_at_20"])
        cells = [name]
        for before, after in values.values():
            cells += [mean_and_spread(before), mean_and_spread(after)]
            cells.append("{:+.4f} [{:+.4f}, {:+.4f}]".format(*paired_interval(after, before)))
        cells.append(" -> ".join(f"{statistics.median(side):.1f}" for side in seconds))
        rows.append(cells)
        print(cells, flush=True)
    print_table(
        f"Ablation of speed-ups, {asked.seeds} seeds, valid NDCG@20",
        ["speed-up", "IID slow", "IID fast", "difference", "OOD slow", "OOD fast", "difference", "seconds"],
        rows,
    )


if __name__ == "__main__":
    main()
