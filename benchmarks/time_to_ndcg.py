"""Seconds to the NDCG at which the literal implementation stops: ``python -m benchmarks.time_to_ndcg``.

The literal implementation stops early on validation NDCG@20 (ranked after every epoch, patience 5). With
``--literal run`` it really trains; with ``--literal settings`` painvrl trains in its settings, which take the
same steps (tests/benchmarks/test_literal.py), and each epoch is counted at the literal one's measured
seconds. Then painvrl's losses train until they reach that NDCG, their rankings included. ``implicit``'s ALS
stands beside the gramian loss, at the highest NDCG that both reach; there no one's rankings count.

Seconds of an epoch are medians. Indexing the data once is on neither side.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict

import torch

from benchmarks import ours
from benchmarks.backbone import BASE
from benchmarks.beside_als import beside_als
from benchmarks.common import config, prepared, print_table
from benchmarks.curves import Point, best, reached, rounded, train_ours
from benchmarks.literal import LiteralSettings
from benchmarks.literal_curve import in_literal_settings, literal_cost, run_literal, stopped
from benchmarks.machine import RESULTS, write_results
from benchmarks.sizes import SIZES, build
from painvrl.core.device import peak_memory_mib
from painvrl.model.ultragcn import BackboneConfig


def compare(asked: argparse.Namespace) -> dict[str, object]:
    """Measure one planted size; returns everything that was measured."""
    settings = LiteralSettings(l2=asked.l2)
    data = build(asked.size)
    ranking = ours.literal_iid_ranking(data)
    cost = literal_cost(data, asked.size, settings, asked.literal_steps)
    print(f"{asked.size}: {len(data.train)} training interactions, {cost}", flush=True)
    if asked.literal == "run":
        literal, ranked = run_literal(data, ranking, settings, asked.max_epochs)
        ranking_seconds = statistics.median(ranked)
    else:
        values = in_literal_settings(
            data, asked.size, settings, asked.max_epochs, unfinished=asked.unfinished
        )
        literal = [Point(cost.epoch * (index + 1), value) for index, value in enumerate(values)]
        ranking_seconds = cost.ranking
    target = best(literal)
    literal_seconds = reached(literal, target)
    assert literal_seconds is not None
    epoch = 1 + next(index for index, point in enumerate(literal) if point.ndcg == target)
    both = {
        "gramian": (ours.GRAMIAN, ours.GRAMIAN_TRAINING),
        "sampled": (
            ours.SAMPLED.model_copy(update={"l2": ours.SAMPLED_L2[asked.size]}),
            ours.SAMPLED_TRAINING,
        ),
    }
    curves = {name: train_ours(data, *chosen, target=target) for name, chosen in both.items()}
    seconds = {name: reached(curve, target) for name, curve in curves.items()}
    with_ranking = literal_seconds + epoch * ranking_seconds
    rows = [
        ["literal", f"{target:.4f}", f"{literal_seconds:.1f}", f"{with_ranking:.1f}", "1", "1"],
        *(
            [name, f"{best(curves[name]):.4f}", "", "never", "", ""]
            if taken is None
            else [
                name,
                f"{best(curves[name]):.4f}",
                "",
                f"{taken:.2f}",
                f"{literal_seconds / taken:.1f}",
                f"{with_ranking / taken:.1f}",
            ]
            for name, taken in seconds.items()
        ),
    ]
    how = "where it stopped" if stopped(literal) else f"of its first {len(literal)} epochs, not stopped"
    print_table(
        f"{asked.size}: time to the literal implementation's best valid NDCG@20, epoch {epoch}, {how}",
        ["", "NDCG@20", "seconds training", "with rankings", "ratio to training alone", "ratio"],
        rows,
    )
    measured: dict[str, object] = {
        "size": asked.size,
        "training_interactions": len(data.train),
        "literal": {
            **asdict(cost),
            "how": asked.literal,
            "best_epoch": epoch,
            "epochs": len(literal),
            "stopped": stopped(literal),
            "ndcg": target,
            "training_seconds": literal_seconds,
            "with_ranking_seconds": with_ranking,
            "ranking_seconds": ranking_seconds,
            "curve": rounded(literal),
        },
        "ours": {name: {"seconds": seconds[name], "curve": rounded(curve)} for name, curve in curves.items()},
        "peak_mib": peak_memory_mib(torch.device("cpu")),  # of this process, the literal model included
    }
    if asked.als:
        whole = train_ours(data, ours.GRAMIAN, ours.GRAMIAN_TRAINING)
        measured["gramian_whole"] = rounded(whole)
        measured["als"] = beside_als(data, ours.GRAMIAN, whole)
    return measured


def ours_alone(asked: argparse.Namespace) -> dict[str, object]:
    """The gramian loss to the stored curve's best NDCG, in a process that holds nothing else."""
    data = build(asked.size)
    found = json.loads((RESULTS / f"literal_curve_{asked.size}.json").read_text(encoding="utf-8"))
    curve = train_ours(data, ours.GRAMIAN, ours.GRAMIAN_TRAINING, max(found["ndcg"]))
    peak = peak_memory_mib(torch.device("cpu"))
    print(f"NDCG@20 {curve[-1].ndcg:.4f} after {curve[-1].seconds:.1f} s, peak {peak:.0f} MiB")
    return {"curve": rounded(curve), "peak_mib": peak}


def movielens() -> dict[str, object]:
    """ALS and the gramian loss with its defaults on MovieLens, ``popularity`` split."""
    data = prepared(config(BASE, {"seed": 0}))
    whole = train_ours(data, BackboneConfig(), ours.GRAMIAN_TRAINING)
    return {"als": beside_als(data, BackboneConfig(), whole)}


def main() -> None:
    """Measure, print, and write ``results/time_to_ndcg_SIZE.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=[*SIZES, "movielens"], default="small")
    parser.add_argument("--literal", choices=["run", "settings"], help="small runs it, large does not")
    parser.add_argument("--literal-steps", type=int, default=100, help="steps that are timed")
    parser.add_argument("--max-epochs", type=int, default=300)
    parser.add_argument("--l2", type=float, default=LiteralSettings.l2)
    parser.add_argument("--unfinished", action="store_true", help="take a stored curve that has not stopped")
    parser.add_argument("--ours-only", action="store_true", help="no literal model: for the peak memory")
    parser.add_argument("--no-als", dest="als", action="store_false")
    asked = parser.parse_args()
    asked.literal = asked.literal or ("run" if asked.size == "small" else "settings")
    if asked.ours_only:
        write_results(f"ours_{asked.size}", ours_alone(asked))
        return
    measured = movielens() if asked.size == "movielens" else compare(asked)
    shown = measured.get("als")
    if isinstance(shown, dict):
        print({name: value for name, value in shown.items() if name != "als"})
    print(write_results(f"time_to_ndcg_{asked.size}", measured))


if __name__ == "__main__":
    main()
