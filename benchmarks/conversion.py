"""Does the final model lose what gates gain? ``python -m benchmarks.conversion --study wrong-text``.

An oracle in place of the conversion: gates are those of the points that ``benchmarks.invariance`` chooses by
``loeo``, trainings that it kept are taken from there. In place of the final model stands a ridge regression
on the gated features. It is the exact minimum of its loss, and nothing in it is sampled or stopped. Its
penalty is the one with the best IID under each seed, as ``l2`` is free in the trainer. Valid parts alone.

The question is what an arm's gates gain over all features under either. A gain by ridge that the trainer
does not show is lost in the conversion. Intervals are those of ``benchmarks.invariance``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import print_table
from benchmarks.invariance import (
    BASE,
    ORACLE,
    REFERENCE,
    ROOT,
    STUDIES,
    Gains,
    Kept,
    Seed,
    arms_of,
    base_of,
    drawn_means,
    interval,
    measure,
    said,
)
from benchmarks.machine import RESULTS, write_results
from painvrl.baselines.specification_gate import Asked
from painvrl.data.interactions import Interactions
from painvrl.data.parts import Part
from painvrl.run.prepare import Prepared, with_features

ARMS = (BASE, REFERENCE, "erm", ORACLE)
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
PARTS = ("iid", "ood")


def scores_of(features: Tensor, train: Interactions, ridges: Sequence[float]) -> list[Tensor]:
    """``[U, I]`` of each penalty: users' preferences by least squares over the items that train has."""
    warm = (train.item_degree() > 0).nonzero(as_tuple=True)[0]
    known = features[warm]
    took = torch.zeros(train.n_users, train.n_items, dtype=features.dtype)
    took[train.user, train.item] = 1.0
    value, vector = torch.linalg.eigh(known.T @ known)
    right, of_items = took[:, warm] @ known @ vector, features @ vector
    return [(right / (value.clamp_min(0) + ridge)) @ of_items.T for ridge in ridges]


def by_ridge(data: Prepared, gates: Sequence[float], ridges: Sequence[float]) -> Mapping[str, Gains]:
    """What positives of the valid parts gain, under the penalty that is best IID."""
    widths = torch.tensor(list(data.widths.values()))
    gated = data.features.cpu().double() * torch.tensor(gates).double().repeat_interleave(widths)
    parts: dict[str, Part] = {name: data.split.valid[name] for name in PARTS}
    tried = []
    for scores in scores_of(gated, data.train, ridges):
        found = {}
        for name, part in parts.items():
            users = (part.interactions.user_degree() > 0).nonzero(as_tuple=True)[0]
            judge = Asked(part, data.train, users, 0)
            gain = judge.gains(scores[users]).astype(np.float32)
            found[name] = Gains(user=judge.user, item=judge.item, gain=gain)
        tried.append(found)
    return max(tried, key=lambda found: found["iid"].mean())


def main() -> None:
    """Fit, print, and write ``results/conversion-STUDY.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    named = [name for name, study in STUDIES.items() if study.closed]
    parser.add_argument("--study", choices=named, default="wrong-text")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--points", type=int, help="at most so many of each grid, to try it out")
    parser.add_argument("--trailers", type=Path, help="features of the trailers")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--keep", type=Path, default=ROOT / "workspace" / "invariance")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    study = STUDIES[asked.study]
    grids = arms_of(study, count=2 if study.file == "wrong-modality" else 3)
    arms = {name: grids[name][: asked.points] for name in ARMS}
    base = base_of(study, 0, asked.trailers)
    kept = Kept(asked.keep / f"{asked.study}-0")
    models: dict[str, list[list[Gains]]] = {part: [] for part in PARTS}
    for seed in asked.seeds:
        at = Seed(study, base, seed)
        picked = {arm: by["loeo"] for arm, by in measure(kept, at, seed, arms, None).items()}
        rows = {arm: kept.rows[key] for arm, key in picked.items()}
        fitted = {
            arm: by_ridge(with_features(at.prepared, at.config(row["change"])), row["mask"], RIDGES)
            for arm, row in rows.items()
        }
        for part, of_seeds in models.items():
            trained = [kept.gains(key, part) for key in picked.values()]
            of_seeds.append([*trained, *(one[part] for one in fitted.values())])
    means = {
        part: drawn_means(of_seeds, asked.draws, np.random.default_rng(0))
        for part, of_seeds in models.items()
    }
    results = []
    for number, (arm, way) in enumerate((arm, way) for way in ("trainer", "ridge") for arm in ARMS):
        first = number - ARMS.index(arm)  # all features, in the same way
        row: dict[str, Any] = {"arm": arm, "conversion": way}
        row |= {part: interval(values[:, number]) for part, values in means.items()}
        row |= {
            f"{part} gained": interval(values[:, number] - values[:, first]) for part, values in means.items()
        }
        results.append(row)
    columns = [*PARTS, *(f"{part} gained" for part in PARTS)]
    print_table(
        f"{asked.study}, seeds {asked.seeds}, valid parts, NDCG@20, gates chosen by loeo",
        ["conversion", "arm", *columns],
        [[row["conversion"], row["arm"], *(said(row[name]) for name in columns)] for row in results],
    )
    whole = asked.points is None and asked.seeds == list(range(10))
    named_as = f"conversion-{asked.study}"
    write_results(named_as, {"seeds": asked.seeds, "rows": results}, folder=RESULTS if whole else asked.keep)


if __name__ == "__main__":
    main()
