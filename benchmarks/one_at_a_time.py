"""Do the hyperparameters move the objectives? ``python -m benchmarks.one_at_a_time [--seeds 3] [--protocol
cold_item]``.

One hyperparameter at a time around the base configuration of ``studies/movielens.yaml``, whose own level is
the row
``base`` and left out of the others; mean and spread of the valid NDCG@20 over seeds (split and
initialisation together).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import mean_and_spread, merged, paired_interval, prepared, print_table, trained
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import reweighed
from painvrl.run.prepare import Prepared
from painvrl.study.file.spec import load_spec

HYPERPARAMETERS: dict[str, tuple[float, ...]] = {
    "mask.sparsity": (0.1, 0.5, 0.9),
    "mask.irm_weight": (0.1, 1.0, 1000.0),
    "environments.count": (2, 6),
    "backbone.id_dropout": (0.0, 0.8),
    "backbone.l2": (0.1, 0.4),
}
BRANCH_WEIGHTS = (0.0, 0.5, 1.0)


def nested(path: str, value: float) -> dict[str, Any]:
    """``a.b`` and a value as ``{a: {b: value}}``."""
    group, key = path.split(".")
    return {group: {key: value}}


def other_levels(hyperparameter: str, base: dict[str, Any]) -> tuple[float, ...]:
    """The levels of a hyperparameter but the one that ``base`` has."""
    group, key = hyperparameter.split(".")
    return tuple(level for level in HYPERPARAMETERS[hyperparameter] if level != base[group][key])


class Sweep:
    """Trains one configuration per (level, seed) and keeps the rows of the table."""

    def __init__(self, base: dict[str, Any], seeds: range) -> None:
        self.base = base
        self.seeds = seeds
        self.rows: list[list[str]] = []
        self._reference: tuple[list[float], list[float]] | None = None
        self._data: dict[int, Prepared] = {}

    def measure(
        self, hyperparameter: str, level: str, change: dict[str, Any], weights: Sequence[float] = ()
    ) -> None:
        """Add a row; with ``weights``, one for each variant weight from one training.

        Differences are to the base, those of variant weights to the first weight.
        """
        ends: dict[str, tuple[list[float], list[float]]] = {}
        for seed in self.seeds:
            settings = TrainConfig.model_validate(merged(self.base, change) | {"seed": seed})
            if seed not in self._data:
                self._data[seed] = prepared(settings)
            result = trained(settings, self._data[seed])
            scored = {f"{v:g}": reweighed(result, self._data[seed], variant_weight=v) for v in weights}
            for shown, outcome in (scored or {level: result}).items():
                iid, ood = ends.setdefault(shown, ([], []))
                iid.append(outcome.metrics["iid/ndcg_at_20"])
                ood.append(outcome.metrics["ood/ndcg_at_20"])
        first = next(iter(ends.values()))
        self._reference = self._reference or first
        compared = first if weights else self._reference
        for shown, (iid, ood) in ends.items():
            gaps = [
                ""
                if values is reference
                else "{:+.4f} [{:+.4f}, {:+.4f}]".format(*paired_interval(values, reference))
                for values, reference in zip((iid, ood), compared, strict=True)
            ]
            self.rows.append([hyperparameter, shown, mean_and_spread(iid), mean_and_spread(ood), *gaps])
            print(self.rows[-1], flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--protocol", choices=["cold_item", "popularity"], default="cold_item")
    parser.add_argument("--content-only", action="store_true", help="no ID embeddings")
    parser.add_argument("--held-out", action="store_true", help="rank cold items among themselves")
    parser.add_argument("--fusion", choices=["branch", "invariant"], default="branch")
    parser.add_argument(
        "--hyperparameter", action="append", choices=[*HYPERPARAMETERS, "fusion.variant_weight"]
    )
    asked = parser.parse_args()
    base = load_spec(Path("studies/movielens.yaml")).config.model_dump()
    base = merged(base, {"fusion": {"kind": asked.fusion}})
    if asked.protocol != base["split"]["protocol"]:
        base |= {"split": {"protocol": asked.protocol}}
    if asked.held_out:
        base = merged(base, {"split": {"ood_candidates": "held_out"}})
    if asked.content_only:
        base = merged(base, {"backbone": {"id_dim": 0}})
    sweep = Sweep(base, range(asked.seeds))
    sweep.measure("base", "", {})
    wanted = asked.hyperparameter or [*HYPERPARAMETERS, "fusion.variant_weight"]
    if "fusion.variant_weight" in wanted and asked.fusion == "branch":
        # A branch has something to give where the mask closes much.
        for sparsity in (base["mask"]["sparsity"], 0.9):
            change = merged(nested("fusion.variant_weight", 1.0), nested("mask.sparsity", sparsity))
            sweep.measure(f"variant weight, sparsity {sparsity:g}", "", change, BRANCH_WEIGHTS)
    for hyperparameter in (hyperparameter for hyperparameter in HYPERPARAMETERS if hyperparameter in wanted):
        for level in other_levels(hyperparameter, base):
            sweep.measure(hyperparameter, f"{level:g}", nested(hyperparameter, level))
    print_table(
        f"MovieLens, {asked.protocol}, {asked.fusion}{', content only' if asked.content_only else ''}, "
        f"{asked.seeds} seeds, valid NDCG@20",
        ["hyperparameter", "level", "IID", "OOD", "IID difference, paired 95%", "OOD difference, paired 95%"],
        sweep.rows,
    )


if __name__ == "__main__":
    main()
