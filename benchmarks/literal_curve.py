"""What the literal implementation costs and the NDCG at which it stops, trained or taken from ``results/``."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import ours
from benchmarks.curves import WATCHED, Point
from benchmarks.literal import LiteralRanking, LiteralSettings, LiteralTrainer, LiteralUltraGCN, batches, ndcg
from benchmarks.machine import ASSUMED_REFERENCE_GFLOPS, RESULTS, calibration_gflops, write_results
from benchmarks.sizes import REFERENCE_STEP_MS
from painvrl.prepare import Prepared

PATIENCE = 5


def stopped(ndcgs: Sequence[float]) -> bool:
    """No better NDCG in the last ``PATIENCE`` evaluations."""
    return bool(ndcgs) and len(ndcgs) - 1 - ndcgs.index(max(ndcgs)) >= PATIENCE


def literal_model(data: Prepared, settings: LiteralSettings) -> LiteralUltraGCN:
    """The literal implementation on the prepared data, from a seed of its own."""
    seeded = torch.Generator().manual_seed(0)
    return LiteralUltraGCN(data.features.matrix, data.train, settings, seeded)


@dataclass(frozen=True, kw_only=True)
class LiteralCost:
    """Medians: of a step and an epoch in seconds, and of ranking once for one K.

    ``step_over_reference_if_on_assumed_gflops``: the step beside the reference's, scaled by the product of
    matrices under the assumption that :data:`ASSUMED_REFERENCE_GFLOPS` states (1 is equal).
    """

    step: float
    epoch: float
    ranking: float
    calibration_gflops: float
    assumed_reference_gflops: float
    step_over_reference_if_on_assumed_gflops: float
    step_over_reference_unscaled: float


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
    unscaled = step / (REFERENCE_STEP_MS[size] / 1e3)
    return LiteralCost(
        step=step,
        epoch=step * -(-len(data.train) // settings.batch_size),
        ranking=ranking,
        calibration_gflops=round(gflops, 1),
        assumed_reference_gflops=ASSUMED_REFERENCE_GFLOPS,
        step_over_reference_if_on_assumed_gflops=unscaled * gflops / ASSUMED_REFERENCE_GFLOPS,
        step_over_reference_unscaled=unscaled,
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
    while len(curve) < max_epochs and not stopped([point.ndcg for point in curve]):
        start = time.perf_counter()
        trainer.epoch(data.train, generator)
        trained += time.perf_counter() - start
        start = time.perf_counter()
        value = ndcg(ranking, *trainer.model.vectors(), 20, settings.ranked_at_once)
        ranked.append(time.perf_counter() - start)
        curve.append(Point(trained, value))
        print(f"literal epoch {len(curve)}: {trained:.1f} s, NDCG@20 {value:.4f}", flush=True)
    return curve, ranked


def made_of(data: Prepared, settings: LiteralSettings) -> dict[str, object]:
    """Everything that a stored curve depends on; JSON-ready."""
    return {"data": data.dataset.fingerprint, "patience": PATIENCE, "settings": asdict(settings)}


def curve_path(size: str) -> Path:
    """Where the curve of a size is kept."""
    return RESULTS / f"literal_curve_{size}.json"


def store_curve(size: str, data: Prepared, settings: LiteralSettings, ndcgs: Sequence[float]) -> Path:
    """Keep a curve with what it was made of, and whether patience ended it."""
    kept = {"made_of": made_of(data, settings), "stopped": stopped(ndcgs), "ndcg": list(ndcgs)}
    return write_results(curve_path(size).stem, kept)


def stored_curve(
    size: str, data: Prepared, settings: LiteralSettings, *, unfinished: bool
) -> list[float] | None:
    """The NDCG by epoch that ``results/`` keeps of equal data and settings; ``None`` if there is none.

    Raises:
        SystemExit: training was interrupted, and ``unfinished`` does not accept that.
    """
    path = curve_path(size)
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("made_of") != made_of(data, settings):
        return None
    ndcgs = [float(value) for value in found["ndcg"]]
    if stopped(ndcgs) or (unfinished and ndcgs):
        return ndcgs
    raise SystemExit(
        f"error: {path} was interrupted after epoch {len(ndcgs)}; --unfinished takes the best of these epochs "
        "for the target, --again trains anew"
    )


def in_literal_settings(
    size: str, data: Prepared, settings: LiteralSettings, max_epochs: int
) -> list[float]:
    """Train painvrl in the literal one's settings, hours at the large size; returns the NDCG by epoch.

    Kept in ``results/`` after every epoch.
    """
    backbone, training = ours.like_literal(settings)
    values: list[float] = []

    def rank(users: Tensor, items: Tensor) -> dict[str, float]:
        metrics = ours.rank(data, users, items)
        values.append(metrics[WATCHED])
        print(f"literal's settings, epoch {len(values)}: NDCG@20 {values[-1]:.4f}", flush=True)
        store_curve(size, data, settings, values)
        return metrics

    training = training.model_copy(update={"patience": PATIENCE, "max_epochs": max_epochs})
    ours.train(ours.model(data.features.matrix, data.training, backbone), training, rank)
    return values
