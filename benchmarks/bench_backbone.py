"""An epoch of the backbone: the literal implementation beside painvrl's losses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import ours
from benchmarks.literal import Batch, LiteralSettings, LiteralTrainer, LiteralUltraGCN, batches
from benchmarks.machine import ASSUMED_REFERENCE_GFLOPS, calibration_gflops
from benchmarks.sizes import REFERENCE_STEP_MS
from painvrl.model.fit import TrainingConfig
from painvrl.model.ultragcn import BackboneConfig
from painvrl.run.prepare import Prepared

STEPS = 60
HALF = {"precision": "bfloat16"}
SETTINGS = {
    "gramian": (ours.GRAMIAN, ours.GRAMIAN_TRAINING),
    "gramian, bfloat16": (ours.GRAMIAN.model_copy(update=HALF), ours.GRAMIAN_TRAINING),
    "sampled": (ours.SAMPLED, ours.SAMPLED_TRAINING),
    "sampled, bfloat16": (ours.SAMPLED.model_copy(update=HALF), ours.SAMPLED_TRAINING),
    "literal's settings, lazy": (
        ours.like_literal(LiteralSettings(l2=0.0))[0],
        TrainingConfig(learning_rate=LiteralSettings.learning_rate),
    ),
}


def bench_epoch_literal(benchmark: BenchmarkFixture, size: str, data: Prepared) -> None:
    """Single steps; an epoch is as many of them as there are batches."""
    settings = LiteralSettings()
    trainer = LiteralTrainer(
        LiteralUltraGCN(data.features, data.train, settings, torch.Generator().manual_seed(0))
    )
    drawn: Iterator[Batch] = islice(batches(data.train, settings, torch.Generator()), STEPS + 3)
    before = calibration_gflops()
    benchmark.group = f"epoch, {size}"
    benchmark.pedantic(
        trainer.step, setup=lambda: ((next(drawn),), {}), rounds=STEPS, warmup_rounds=3, iterations=1
    )
    gflops = (before + calibration_gflops()) / 2
    expected = REFERENCE_STEP_MS[size] / 1e3 * ASSUMED_REFERENCE_GFLOPS / gflops
    benchmark.extra_info.update(
        times=-(-len(data.train) // settings.batch_size),
        calibration_gflops=round(gflops, 1),
        reference_step_ms=REFERENCE_STEP_MS[size],
        assumed_reference_gflops=ASSUMED_REFERENCE_GFLOPS,
        step_over_reference_if_on_assumed_gflops=round(benchmark.stats.stats.median / expected, 3),
    )


@pytest.mark.parametrize("name", SETTINGS)
def bench_epoch_ours(benchmark: BenchmarkFixture, size: str, data: Prepared, name: str) -> None:
    """Whole epochs; one of the gramian loss is one step."""
    backbone, training = SETTINGS[name]
    model = ours.model(data.features, data.training, backbone)
    benchmark.group = f"epoch, {size}"
    slow = size == "large" and name == "literal's settings, lazy"  # a minute an epoch
    rounds = 1 if slow else 20 if name.startswith("gramian") else 3
    benchmark.pedantic(ours.epochs, args=(model, training, 1), rounds=rounds, warmup_rounds=int(not slow))


def bench_epoch_literal_whole(benchmark: BenchmarkFixture) -> None:
    """At the small size a literal epoch is short enough to be run as it is."""
    from benchmarks.conftest import data_of

    data = data_of("small")
    trainer = LiteralTrainer(
        LiteralUltraGCN(data.features, data.train, LiteralSettings(), torch.Generator().manual_seed(0))
    )
    benchmark.group = "whole epoch, small"
    benchmark.pedantic(trainer.epoch, args=(data.train, torch.Generator().manual_seed(1)), rounds=2)


def bench_epoch_without_features(benchmark: BenchmarkFixture, size: str, data: Prepared) -> None:
    """What the embeddings alone cost: one feature column is left."""
    backbone = BackboneConfig()
    model = ours.model(data.features[:, :1], data.training, backbone)
    benchmark.group = f"epoch, {size}"
    benchmark.pedantic(ours.epochs, args=(model, ours.GRAMIAN_TRAINING, 1), rounds=20)
