"""Seconds to the NDCG at which the literal implementation stops: ``python -m benchmarks.time_to_ndcg``.

The literal implementation stops early on validation NDCG@20 (ranked after every epoch, patience 5). With
``--literal run`` it really trains; with ``--literal settings`` painvrl trains in its settings, which take the
same steps (tests/test_benchmarks.py), and each epoch is counted at the literal one's measured seconds. Then
painvrl's losses train until they reach that NDCG, their rankings included. ``implicit``'s ALS stands beside
the gramian loss, at the highest NDCG that both reach; there nobody's rankings count.

Seconds of an epoch are medians. Indexing the data once is on neither side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
import warnings
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.backbone import ALS, BASE
from benchmarks.common import config, prepared, print_table
from benchmarks.literal import LiteralRanking, LiteralSettings, LiteralTrainer, LiteralUltraGCN, batches, ndcg
from benchmarks.machine import ASSUMED_REFERENCE_GFLOPS, RESULTS, calibration_gflops, write_results
from benchmarks.sizes import REFERENCE_STEP_MS, SIZES, build
from painvrl.device import peak_memory_mib
from painvrl.model.ultragcn import BackboneConfig
from painvrl.prepare import Prepared
from painvrl.training import TrainingConfig

PATIENCE = 5
ALS_ITERATIONS = (1, 2, 3, 5, 8, 12, 18)
ALS_REPEATS = 5  # an iteration takes 20 ms: a single timing is noise
WATCHED = "iid/ndcg_at_20"


@dataclass(frozen=True)
class Point:
    """A point of a curve: seconds since the start, and the validation NDCG@20 reached there."""

    seconds: float
    ndcg: float


class Reached(Exception):
    """Ends a training whose target is reached."""


def reached(curve: list[Point], target: float) -> float | None:
    """The first seconds at which ``curve`` is at ``target``."""
    return next((point.seconds for point in curve if point.ndcg >= target), None)


def best(curve: list[Point]) -> float:
    """The highest NDCG of a curve."""
    return max(point.ndcg for point in curve)


def rounded(curve: list[Point]) -> list[dict[str, float]]:
    """A curve as JSON-ready values."""
    return [{name: round(value, 5) for name, value in asdict(point).items()} for point in curve]


def literal_model(data: Prepared, settings: LiteralSettings) -> LiteralUltraGCN:
    """The literal implementation on the prepared data, from a seed of its own."""
    seeded = torch.Generator().manual_seed(0)
    return LiteralUltraGCN(data.features.matrix, data.train, settings, seeded)


@dataclass(frozen=True, kw_only=True)
class LiteralCost:
    """Medians: of a step and an epoch in seconds, and of ranking once for one K.

    ``step_ratio``: the step beside the reference's, both scaled by the product of matrices (1 is equal).
    """

    step: float
    epoch: float
    ranking: float
    calibration_gflops: float
    step_ratio: float


def literal_cost(data: Prepared, size: str, settings: LiteralSettings, steps: int) -> LiteralCost:
    """Time some steps, and one ranking of at most four blocks of users."""
    model = literal_model(data, settings)
    trainer = LiteralTrainer(model)
    seconds, speed = [], []
    for index, batch in enumerate(islice(batches(data.train, settings, torch.Generator()), steps + 3)):
        if index % 25 == 0:
            speed.append(calibration_gflops(repeats=2))
        start = time.perf_counter()
        trainer.step(batch)
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[3:])
    users, items = model.vectors()
    measured = min(users.shape[0], 4 * settings.ranked_at_once)
    asked = ours.literal_iid_ranking(data)
    start = time.perf_counter()
    ndcg(asked, users[:measured], items, 20, settings.ranked_at_once)
    ranking = (time.perf_counter() - start) * users.shape[0] / measured
    gflops = statistics.median(speed)
    expected = REFERENCE_STEP_MS[size] / 1e3 * ASSUMED_REFERENCE_GFLOPS / gflops
    return LiteralCost(
        step=step,
        epoch=step * -(-len(data.train) // settings.batch_size),
        ranking=ranking,
        calibration_gflops=round(gflops, 1),
        step_ratio=step / expected,
    )


def run_literal(
    data: Prepared, ranking: LiteralRanking, settings: LiteralSettings, max_epochs: int
) -> tuple[list[Point], list[float]]:
    """Really train it; returns the curve in training seconds, and the seconds of every ranking."""
    trainer = LiteralTrainer(literal_model(data, settings))
    generator = torch.Generator().manual_seed(1)
    curve: list[Point] = []
    ranked: list[float] = []
    trained = 0.0
    while len(curve) < max_epochs:
        start = time.perf_counter()
        trainer.epoch(data.train, generator)
        trained += time.perf_counter() - start
        start = time.perf_counter()
        value = ndcg(ranking, *trainer.model.vectors(), 20, settings.ranked_at_once)
        ranked.append(time.perf_counter() - start)
        curve.append(Point(trained, value))
        print(f"literal epoch {len(curve)}: {trained:.1f} s, NDCG@20 {value:.4f}", flush=True)
        if stopped(curve):
            break
    return curve, ranked


def stopped(curve: list[Point]) -> bool:
    """No better NDCG in the last ``PATIENCE`` evaluations."""
    values = [point.ndcg for point in curve]
    return len(values) - 1 - values.index(max(values)) >= PATIENCE


def in_literal_settings(
    data: Prepared, size: str, settings: LiteralSettings, max_epochs: int, *, unfinished: bool
) -> list[float]:
    """Painvrl's NDCG by epoch in the literal one's settings; an hour and more at the large size.

    Kept in ``results/``, because its seconds do not count. A curve that was interrupted before it
    stopped is trained anew unless ``unfinished`` takes it as it is.
    """
    path = RESULTS / f"literal_curve_{size}.json"
    made_of = {"settings": asdict(settings), "patience": PATIENCE, "data": data.dataset.fingerprint}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        values = list(found["ndcg"])
        complete = stopped([Point(0.0, value) for value in values])
        if made_of.items() <= found.items() and (complete or unfinished):
            return values
    backbone, training = ours.like_literal(settings)
    values = []

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        metrics = ours.rank(data, users, items)
        values.append(metrics[WATCHED])
        print(f"literal's settings, epoch {len(values)}: NDCG@20 {values[-1]:.4f}", flush=True)
        write_results(path.stem, {**made_of, "ndcg": values})
        return metrics

    training = training.model_copy(update={"patience": PATIENCE, "max_epochs": max_epochs})
    ours.train(ours.model(data.features.matrix, data.training, backbone), training, rank)
    return values


def train_ours(
    data: Prepared,
    backbone: BackboneConfig,
    training: TrainingConfig,
    target: float = float("inf"),
    *,
    rankings_count: bool = True,
) -> list[Point]:
    """Painvrl's curve until ``target`` or its own early stopping."""
    curve: list[Point] = []
    ranked = 0.0
    # The first step of a process imports half of torch; nobody's imports count.
    ours.epochs(ours.model(data.features.matrix, data.training, backbone), training, 1)
    start = time.perf_counter()
    model = ours.model(data.features.matrix, data.training, backbone)

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        nonlocal ranked
        before = time.perf_counter()
        metrics = ours.rank(data, users, items)
        if not rankings_count:
            ranked += time.perf_counter() - before
        curve.append(Point(time.perf_counter() - start - ranked, metrics[WATCHED]))
        if curve[-1].ndcg >= target:
            raise Reached
        return metrics

    with contextlib.suppress(Reached):
        ours.train(model, training, rank)
    return curve


def train_als(data: Prepared, settings: dict[str, Any]) -> list[Point]:
    """ALS for more and more iterations, each from the start; only its fit counts."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    train = data.train
    matrix = csr_matrix(
        (np.ones(len(train), dtype=np.float32), (train.user.numpy(), train.item.numpy())),
        shape=(train.n_users, train.n_items),
    )
    curve = []
    for iterations in ALS_ITERATIONS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            spent = []
            for _ in range(ALS_REPEATS):
                start = time.perf_counter()
                model = AlternatingLeastSquares(iterations=iterations, random_state=0, **settings)
                model.fit(matrix, show_progress=False)
                spent.append(time.perf_counter() - start)
            seconds = statistics.median(spent)
        vectors = torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)
        curve.append(Point(seconds, ours.rank(data, *vectors)[WATCHED]))
    return curve


def beside_als(data: Prepared, backbone: BackboneConfig, gramian: list[Point]) -> dict[str, object]:
    """The gramian loss and ALS at the highest NDCG that both reach.

    ``gramian`` is a whole curve, for what it reaches. The seconds come from curves of their own, ranked after
    every epoch as ALS is after every iteration: nobody's rankings count.
    """
    curves = {name: train_als(data, settings) for name, settings in ALS.items()}
    target = min(best(gramian), max(best(curve) for curve in curves.values()))
    times = {name: reached(curve, target) for name, curve in curves.items()}
    als = min(seconds for seconds in times.values() if seconds is not None)
    every_epoch = ours.GRAMIAN_TRAINING.model_copy(update={"evaluate_every": 1, "patience": 50})
    mine = [
        reached(train_ours(data, backbone, every_epoch, target, rankings_count=False), target)
        for _ in range(ALS_REPEATS)
    ]
    found = [seconds for seconds in mine if seconds is not None]
    return {
        "ndcg": target,
        "gramian_seconds": statistics.median(found),
        "gramian_range": [min(found), max(found)],
        "als_seconds": als,
        "times_als": statistics.median(found) / als,
        "best_als_ndcg": max(best(curve) for curve in curves.values()),
        "best_gramian_ndcg": best(gramian),
        "als": {name: rounded(curve) for name, curve in curves.items()},
    }


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
    return beside_als(data, BackboneConfig(), train_ours(data, BackboneConfig(), ours.GRAMIAN_TRAINING))


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
    if "als" in measured:
        shown = (
            measured["als"] if isinstance(measured["als"], dict) and asked.size != "movielens" else measured
        )
        assert isinstance(shown, dict)
        print({name: value for name, value in shown.items() if name != "als"})
    print(write_results(f"time_to_ndcg_{asked.size}", measured))


if __name__ == "__main__":
    main()
