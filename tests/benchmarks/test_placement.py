"""Simulated GPUs, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.placement import ROOT, SimulatedGpus, simulate
from painvrl.core.workspace import Workspace
from painvrl.data.sources import PlantedConfig
from painvrl.engine.job import Job
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import load_spec
from painvrl.study.store.storage import open_study


@pytest.mark.slow
def test_every_trial_of_the_study_is_simulated_once(tmp_path: Path) -> None:
    spec = load_spec(ROOT / "studies" / "movielens.yaml", ["study.sampler=random"])
    simulated = simulate(spec, tmp_path, gpus=3, seconds=30.0, trials=9)
    records = open_study(spec, Workspace(tmp_path)).trials()
    assert len(records) == len(simulated.spans) == 9
    assert all(record.points for record in records)
    assert all(24.0 <= end - start <= 36.0 for start, end in simulated.spans)
    assert 0.5 < simulated.busy() <= 1.0


def test_gpus_that_wait_are_not_busy() -> None:
    simulated, config = SimulatedGpus(size=2, seconds=10.0), TrainConfig(data=PlantedConfig())
    for number in range(2):
        simulated.start(Job(number=number, point={}, config=config))
    ended = {simulated.next(lambda *_: None)[0] for _ in range(2)}
    simulated.now += 100.0
    simulated.start(Job(number=2, point={}, config=config))
    assert ended == {0, 1}
    assert 0.07 < simulated.busy() < 0.11  # two trainings of ten seconds on two GPUs, in about 110 seconds
