"""What is Ray's own: the demand that no node can meet, and nodes that come and go."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from painvrl.cli import output
from painvrl.core import shown
from painvrl.core.errors import ConfigError
from painvrl.engine.executor import Executor, Placement, executor_of
from painvrl.engine.job import Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed
from painvrl.engine.ray_executor import _check_room
from painvrl.run.config import TrainConfig

CPU = torch.device("cpu")
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": each} for each in resources]


def test_a_demand_that_no_node_can_meet_is_refused_in_one_line_and_one_that_some_node_can_is_not() -> None:
    cluster = nodes({"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0})
    for cpus, gpus in ((8, 0), (2, 1), (1, 0.5)):
        _check_room(cluster, Placement(executor="ray", cpus=cpus, gpus=gpus))
    for cpus, gpus in ((9, 0), (1, 2), (8, 0.5)):
        with pytest.raises(ConfigError, match="no node of the cluster has") as caught:
            _check_room(cluster, Placement(executor="ray", cpus=cpus, gpus=gpus))
        assert str(caught.value).endswith("there are 2: 8 CPUs, 0 GPUs; 2 CPUs, 1 GPUs")
    with pytest.raises(ConfigError, match="there are 0"):
        _check_room(nodes({"CPU": 9.0}, alive=False), Placement(executor="ray"))


def test_part_of_a_gpu_is_less_than_one_and_rays_settings_are_for_ray() -> None:
    with pytest.raises(ConfigError, match="--gpus-per-trial: must be whole above 1"):
        Placement(executor="ray", gpus=1.5)
    for name, settings in (("processes", {"gpus": 1.0}), (None, {"address": "head:6379"})):
        with pytest.raises(ConfigError, match="are for --executor ray"):
            Placement(executor=name, **settings)  # type: ignore[arg-type]


def test_one_process_trains_one_trial_at_a_time() -> None:
    with (
        pytest.raises(ConfigError, match="must be 1 with --executor serial"),
        executor_of(list, CPU, 2, placement=Placement(executor="serial")),  # type: ignore[arg-type]
    ):
        pass


@pytest.fixture
def toys() -> Iterator[ModuleType]:
    folder = str(Path(__file__).parent)
    sys.path.insert(0, folder)
    yield importlib.import_module("toy_objective")
    sys.modules.pop("toy_objective")
    sys.path.remove(folder)


AS_RAY_BEGINS_IT = """
import sys

class Unbuffered:  # Ray's own streams are no TextIOWrapper
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        self.stream.write(text)
        self.stream.flush()
    def __getattr__(self, name):
        return getattr(self.stream, name)

sys.stdout, sys.stderr = Unbuffered(sys.stdout), Unbuffered(sys.stderr)
from toy_objective import Loud
from painvrl.cli.output import guard_output
from painvrl.engine.executor import Placement
from painvrl.engine.ray_executor import _Worker
_Worker(Loud, Placement(), None, (guard_output,)).describe()
print("token=hunter2")
"""


def test_an_actor_shows_no_secret_whatever_ray_has_put_around_its_streams() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    said = subprocess.run(
        [sys.executable, "-c", AS_RAY_BEGINS_IT],
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert (said.stdout, said.stderr) == ("token=***\n", "postgresql://me:***@host/db\n")


@pytest.mark.slow
def test_what_an_actor_prints_is_guarded_before_ray_brings_it_to_the_terminal(
    toys: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(shown, "GUARDS", [output.guard_output])
    ray.init(**NODE, include_dashboard=False, log_to_driver=True, logging_level="ERROR")
    try:
        with executor_of(toys.Loud, CPU, 1, placement=Placement(executor="ray")):
            said, end = "", time.monotonic() + 60
            while "@host/db" not in said and time.monotonic() < end:
                time.sleep(0.2)
                said += "".join(capsys.readouterr())
    finally:
        ray.shutdown()
    assert "postgresql://me:***@host/db" in said
    assert "hunter2" not in said


def wait_for(executor: Executor, size: int) -> None:
    end = time.monotonic() + 300
    while executor.size != size:
        assert time.monotonic() < end, f"there are no {size} workers"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_node_that_leaves_costs_its_job_alone_and_one_that_comes_takes_the_next(
    toys: ModuleType, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    held = tmp_path / "held"
    held.touch()

    def job(number: int) -> Job:
        return Job(number=number, point={"while": str(held)}, config=tiny_config)

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        leaves = cluster.add_node(**NODE)
        placement = Placement(executor="ray", address=cluster.address)
        with executor_of(toys.Toy, CPU, 2, placement=placement) as executor:
            wait_for(executor, 2)
            for number in (0, 1):
                executor.start(job(number))
            cluster.remove_node(leaves, allow_graceful=False)
            ended = executor.next(lambda *_: None)
            assert ended is not None
            died, outcome = ended
            assert isinstance(outcome, Failed)
            assert outcome.reason == WORKER_DIED
            assert executor.size == 1
            cluster.add_node(**NODE)
            assert executor.next(lambda *_: None) is None, "there is room for another job"
            assert executor.size == 2
            executor.start(job(2))
            held.unlink()
            outcomes = dict(ended for _ in range(2) if (ended := executor.next(lambda *_: None)))
            assert outcomes.keys() == {1 - died, 2}
            assert all(isinstance(one, Completed) for one in outcomes.values())
    finally:
        ray.shutdown()
        cluster.shutdown()
