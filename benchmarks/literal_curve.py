"""The literal implementation's curve: what it costs, how it is run, and its settings run by painvrl."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import islice

import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.curves import WATCHED, Point
from benchmarks.literal import LiteralRanking, LiteralSettings, LiteralTrainer, LiteralUltraGCN, batches, ndcg
from benchmarks.machine import ASSUMED_REFERENCE_GFLOPS, RESULTS, calibration_gflops, write_results
from benchmarks.sizes import REFERENCE_STEP_MS
from painvrl.run.prepare import Prepared

PATIENCE = 5


def literal_model(data: Prepared, settings: LiteralSettings) -> LiteralUltraGCN:
    """The literal implementation on the prepared data, from a seed of its own."""
    seeded = torch.Generator().manual_seed(0)
    return LiteralUltraGCN(data.features, data.train, settings, seeded)


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
    stopped is trained again unless ``unfinished`` takes it as it is; it is replaced only by a longer one.
    """
    path = RESULTS / f"literal_curve_{size}.json"
    made_of = {"settings": asdict(settings), "patience": PATIENCE, "data": data.dataset.fingerprint}
    known: list[float] = []
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if made_of.items() <= found.items():
            known = list(found["ndcg"])
    if known and (unfinished or stopped([Point(0.0, value) for value in known])):
        return known
    backbone, training = ours.like_literal(settings)
    values: list[float] = []

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        metrics = ours.rank(data, users, items)
        values.append(metrics[WATCHED])
        print(f"literal's settings, epoch {len(values)}: NDCG@20 {values[-1]:.4f}", flush=True)
        if len(values) > len(known):
            write_results(path.stem, {**made_of, "ndcg": values})
        return metrics

    training = training.model_copy(update={"patience": PATIENCE, "max_epochs": max_epochs})
    ours.train(ours.model(data.features, data.training, backbone), training, rank)
    return values
