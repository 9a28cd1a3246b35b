"""Who computes jobs: this process, one at a time, several processes beside it, or workers on a Ray cluster.

Only the process that runs the loop asks for jobs and tracks them. An executor gets a job, passes on the
names of its stages and what it measures at its rungs, and returns the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch

from painvrl.core.device import deal_devices, use_device
from painvrl.core.errors import ConfigError
from painvrl.engine.job import DataSummary, Job, Objective
from painvrl.engine.outcomes import Outcome

OnStage = Callable[[int, str], None]
"""Called with a job's number and the stage that it enters."""

OnJobRung = Callable[[int, str, Mapping[str, float]], str | None]
"""Called with a job's number, a rung and the metrics there; returns why the job is to stop, or ``None``."""


def goes_on(number: int, rung: str, values: Mapping[str, float]) -> None:
    """Stops nothing."""


class Executor(Protocol):
    """Computes up to ``size`` jobs at a time.

    Whatever computes jobs keeps to this contract; ``tests/engine/test_executors.py`` is its test.
    """

    @property
    def size(self) -> int:
        """How many jobs can be under way."""

    @property
    def data(self) -> DataSummary:
        """The data behind every job."""

    def start(self, job: Job) -> None:
        """Put a job under way; fewer than ``size`` are."""

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome] | None:
        """Wait until a job that is under way ends: its number and what it came to.

        ``None`` where none has, but there is room for another one: :attr:`size` has grown.
        """


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Who is to compute jobs, and what each may take.

    Attributes:
        executor: ``None`` is ``serial`` with one worker, and ``processes`` with several.
        address: of a Ray cluster, as Ray names it; ``None`` finds the one of this machine or starts one.
        cpus, gpus: of a node, for each worker on the cluster; part of a GPU is shared with others.

    Raises:
        ConfigError: Ray's settings without Ray, or more than one GPU and part of another.
    """

    executor: Literal["serial", "processes", "ray"] | None = None
    address: str | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ConfigError("must be whole above 1", key="--gpus-per-trial", value=self.gpus)
        if self.executor != "ray" and (self.address, self.cpus, self.gpus) != (None, 1, 0):
            rule = "--address, --cpus-per-trial and --gpus-per-trial are for --executor ray"
            raise ConfigError(rule, key="--executor", value=self.executor)


class SerialExecutor:
    """One job at a time, in this process."""

    size: int = 1

    def __init__(self, objective: Objective) -> None:
        self.data: DataSummary = objective.data
        self._objective = objective
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Take the job; :meth:`next` computes it."""
        self._job = job

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        """Compute the job."""
        assert self._job is not None
        job, self._job = self._job, None
        outcome = self._objective(job, partial(on_stage, job.number), partial(on_rung, job.number))
        return job.number, outcome


@contextmanager
def executor_of(
    make: Callable[..., Objective],
    device: torch.device,
    workers: int,
    memory_fraction: float | None = None,
    objective: Objective | None = None,
    placement: Placement | None = None,
) -> Iterator[Executor]:
    """Who computes the jobs: ``workers`` that each call ``make(device=...)``, or ``objective`` alone.

    Args:
        make: picklable.
        device: ``cuda`` without a number is all CUDA devices, dealt to the workers.
        workers: jobs at a time. One computes in this process, more in as many processes beside it.
        memory_fraction: of a CUDA device that each worker may use; ``None``: 0.95 shared equally by
            the workers of a device, without a limit for one that has its device to itself. A single
            worker sets it, and the current CUDA device, for this process.
        objective: computes the jobs of a single worker, in this process.
        placement: where workers are, if not in this process or beside it; on a cluster they take its
            devices instead of ``device``.
    """
    if workers < 1:
        raise ConfigError("must be at least 1", key="workers", value=workers)
    chosen = (placement and placement.executor) or ("serial" if workers == 1 else "processes")
    if chosen == "serial" and workers > 1:
        raise ConfigError("must be 1 with --executor serial", key="workers", value=workers)
    if placement is not None and chosen == "ray":
        from painvrl.engine.ray_executor import RayExecutor

        with closing(RayExecutor(make, workers, placement, memory_fraction)) as cluster:
            yield cluster
        return
    devices = deal_devices(device, workers)
    if chosen == "serial":
        use_device(devices[0], memory_fraction)
        yield SerialExecutor(make(device=devices[0]) if objective is None else objective)
        return
    from painvrl.engine.processes import ProcessExecutor, worker_specs

    with closing(ProcessExecutor(worker_specs(make, devices, memory_fraction))) as pool:
        yield pool
