"""Which hyperparameter moves what, under which protocol? ``python -m benchmarks.sensitivity [--seeds 5]``.

Four hyperparameters at three levels each around the base configuration of ``studies/movielens.yaml``, for
planted data around that of ``studies/planted.yaml``, in Taguchi's orthogonal array L9: nine settings in which
every two levels of two hyperparameters meet once, so that the effect of a hyperparameter is a difference of
means over the same other levels. Every setting is trained under the same seeds, so a split that is easy for
all cancels, too.

The table gives of each hyperparameter the share of the variance of valid NDCG@20 that it explains, beside
that of the seeds and what is left, which is how differently the seeds take the settings; "not sure" is what
the F test of the analysis of variance does not call an effect at 1%. **Four hyperparameters fill the array:
what two of them do together counts as an effect of the other two.** So a large share is a hyperparameter's
own, a small one may be borrowed, and a level is chosen after ``python -m benchmarks.one_at_a_time`` has shown
it one at a time. Planted data
have no ID embeddings: there the share of ID dropout is part of what the other three do together, and noise.

Every trained model is also scored with other weights of popularity and, where it has one, of the variant
branch, which no training sees; their rows are means of paired differences. ``--output`` keeps every value;
protocols that stand in the file and are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from benchmarks import parts_100k
from benchmarks.common import merged, paired_interval, prepared, print_table, trained
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, reweighed
from painvrl.run.prepare import Prepared
from painvrl.study.ablation.spec import load_study_file
from painvrl.study.file.spec import load_spec

KNOBS: Mapping[str, tuple[float, float, float]] = {
    "environments.count": (2, 4, 6),
    "mask.sparsity": (0.1, 0.5, 0.9),
    "mask.irm_weight": (1.0, 30.0, 1000.0),
    "backbone.id_dropout": (0.0, 0.4, 0.8),
}
L9 = (
    (0, 0, 0, 0),
    (0, 1, 1, 1),
    (0, 2, 2, 2),
    (1, 0, 1, 2),
    (1, 1, 2, 0),
    (1, 2, 0, 1),
    (2, 0, 2, 1),
    (2, 1, 0, 2),
    (2, 2, 1, 0),
)
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "popularity": {"protocol": "popularity"},
    "cold_item": {"protocol": "cold_item", "ood_candidates": "all", "iid_candidates": "all"},
    "cold_item, held out": {"protocol": "cold_item"},
    "item_group, genre": {"protocol": "item_group", "column": "genre", "ood_candidates": "all"},
    "item_group, clusters": {"protocol": "item_group", "clusters": 20, "ood_candidates": "all"},
    "temporal": {"protocol": "temporal", "force": True},
    "temporal_user": {"protocol": "temporal_user"},
}
PROTOCOLS_100K: Mapping[str, Mapping[str, Any]] = {
    "user_group, occupation": {"protocol": "user_group", "column": "occupation"},
}
"""MovieLens 2016 knows nothing of its users; the atomic files of MovieLens-100K do."""
PLANTED: Mapping[str, Mapping[str, Any]] = {
    "planted": {},
    "planted, 6/1": {"spurious_strengths": (6.0, 1.0)},
}
NAMES = (*PROTOCOLS, *PLANTED, *PROTOCOLS_100K, *parts_100k.SPLITS)
VARIANT_WEIGHT = 0.5
VARIANT_WEIGHTS = (0.0, 1.0)  # beside that one
POPULARITY_WEIGHTS = (-0.05, -0.02, 0.02)  # beside 0
MEASURES = ("iid/ndcg_at_20", "ood/ndcg_at_20")
SURE = 0.01

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """Of the variance: what a factor explains, and how likely noise alone explains as much."""

    share: float
    p_value: float


def analysed(values: Array, levels: NDArray[np.int64]) -> tuple[dict[int, Share], float, float]:
    """The analysis of variance of ``values`` ``[settings, seeds]`` by the ``levels`` ``[settings,
    hyperparameters]``.

    Returns each hyperparameter's share, that of the seeds, and what is left. At least two seeds; the
    hyperparameters must be orthogonal, and each level of a hyperparameter as frequent as the others.
    """
    centred = values - values.mean()
    total = float((centred**2).sum())
    settings, seeds = values.shape
    explained = {
        hyperparameter: float(
            sum(
                seeds * at.sum() * centred[at].mean() ** 2
                for at in (
                    levels[:, hyperparameter] == level for level in np.unique(levels[:, hyperparameter])
                )
            )
        )
        for hyperparameter in range(levels.shape[1])
    }
    by_seed = float(settings * (centred.mean(axis=0) ** 2).sum())
    left = total - sum(explained.values()) - by_seed
    freedom = {hyperparameter: len(np.unique(levels[:, hyperparameter])) - 1 for hyperparameter in explained}
    free = settings * seeds - 1 - sum(freedom.values()) - (seeds - 1)
    shares = {
        hyperparameter: Share(
            share=value / total,
            p_value=float(
                f_distribution.sf(
                    (value / freedom[hyperparameter]) / (left / free), freedom[hyperparameter], free
                )
            ),
        )
        for hyperparameter, value in explained.items()
    }
    return shares, by_seed / total, left / total


def settings_of(base: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """``base`` with the levels of each row of the array."""
    for row in L9:
        changed = dict(base)
        for (path, levels), level in zip(KNOBS.items(), row, strict=True):
            group, key = path.split(".")
            value = int(levels[level]) if key == "count" else levels[level]
            changed = merged(changed, {group: {key: value}})
        yield changed


def rescored(result: RunResult, data: Prepared) -> Iterator[tuple[str, RunResult]]:
    """The trained model itself, and with other weights of what is not trained."""
    yield "", result
    for weight in VARIANT_WEIGHTS if result.config.fusion.kind == "branch" else ():
        yield f"variant weight {weight:g}", reweighed(result, data, variant_weight=weight)
    for weight in POPULARITY_WEIGHTS:
        yield f"popularity weight {weight:g}", reweighed(result, data, popularity_weight=weight)


def measure(base: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, dict[str, Array]]:
    """By variation ("" is the trained model) and measure the values ``[settings, seeds]``."""
    found: dict[str, dict[str, Array]] = {}
    for column, seed in enumerate(seeds):
        data: Prepared | None = None
        for row, changed in enumerate(settings_of(base)):
            settings = TrainConfig.model_validate({**changed, "seed": seed})
            data = data or prepared(settings)
            for name, scored in rescored(trained(settings, data), data):
                kept = found.setdefault(name, {each: np.zeros((len(L9), len(seeds))) for each in MEASURES})
                for each in MEASURES:
                    kept[each][row, column] = scored.metrics[each]
            print(f"seed {seed}, setting {row + 1} of {len(L9)}", flush=True)
    return found


def report(name: str, found: Mapping[str, Mapping[str, Array]], seeds: int) -> None:
    """The tables of one protocol."""
    levels = np.array(L9)
    rows = []
    shares = {each: analysed(found[""][each], levels) for each in MEASURES}
    for hyperparameter, (path, values) in enumerate(KNOBS.items()):
        cells = [path]
        for each in MEASURES:
            means = [found[""][each][levels[:, hyperparameter] == level].mean() for level in range(3)]
            share = shares[each][0][hyperparameter]
            cells += [
                f"{share.share:.0%}" + ("" if share.p_value < SURE else " (not sure)"),
                " / ".join(f"{mean:.4f}" for mean in means),
            ]
        rows.append([*cells[:1], " / ".join(f"{value:g}" for value in values), *cells[1:]])
    for label, at in (("seeds", 1), ("the rest", 2)):
        rows.append([label, "", *(cell for each in MEASURES for cell in (f"{shares[each][at]:.0%}", ""))])
    print_table(
        f"{name}: share of the variance of valid NDCG@20, nine settings, {seeds} seeds",
        ["hyperparameter", "levels", "IID share", "IID by level", "OOD share", "OOD by level"],
        rows,
    )
    rows = []
    for variation in list(found)[1:]:
        gaps = (
            paired_interval(
                found[variation][each].mean(axis=0).tolist(), found[""][each].mean(axis=0).tolist()
            )
            for each in MEASURES
        )
        rows.append([variation, *("{:+.4f} [{:+.4f}, {:+.4f}]".format(*gap) for gap in gaps)])
    print_table(
        f"{name}: the same models with other weights, less their own",
        ["weight", "IID", "OOD"],
        rows,
    )


def base_of_each(ml_100k: Path | None) -> dict[str, dict[str, Any]]:
    """What the hyperparameters are turned in, by name; those on MovieLens-100K only with its folder."""
    movielens = load_spec(Path("studies/movielens.yaml")).config.model_dump()
    base = merged(movielens, {"fusion": {"variant_weight": VARIANT_WEIGHT}})
    planted = load_study_file(Path("studies/planted.yaml")).config.model_dump()
    found = {name: {**base, "split": dict(split)} for name, split in PROTOCOLS.items()}
    found |= {name: merged(planted, {"data": dict(data)}) for name, data in PLANTED.items()}
    if ml_100k:
        own = {"kind": "mmrec", "path": str(ml_100k), "title": "movie_title", "categories": "class"}
        table = parts_100k.table_of(ml_100k, Path("workspace/parts_100k"))
        for name, split in {**PROTOCOLS_100K, **parts_100k.SPLITS}.items():
            data = own if name in PROTOCOLS_100K else table
            found[name] = {**base, "data": data, "split": dict(split)}
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5, choices=range(2, 11), metavar="2..10")
    parser.add_argument("--protocol", action="append", choices=NAMES)
    help_100k = "its folder of atomic files; adds user_group, official and given"
    parser.add_argument("--ml-100k", type=Path, help=help_100k)
    parser.add_argument("--output", type=Path, help="write the values of every training to this JSON file")
    asked = parser.parse_args()
    bases = base_of_each(asked.ml_100k)
    names = asked.protocol or list(bases)
    if without := [name for name in names if name not in bases]:
        parser.error(f"{', '.join(without)}: needs --ml-100k")
    there = asked.output is not None and asked.output.exists()
    values: dict[str, Any] = json.loads(asked.output.read_text()) if there else {}
    for name in names:
        found = measure(bases[name], range(asked.seeds))
        values[name] = {
            variation: {each: kept[each].tolist() for each in MEASURES} for variation, kept in found.items()
        }
        if asked.output:
            asked.output.write_text(json.dumps(values, indent=1) + "\n")
        report(name, found, asked.seeds)


if __name__ == "__main__":
    main()
