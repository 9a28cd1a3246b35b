"""Several processes that compute jobs: one that dies takes its own job with it and no other.

A worker process gets a job, sends the names of the stages, and returns the outcome; it keeps its data on its
device from job to job.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import ParamSpec, TypeAlias, TypeVar

import torch

from painvrl.core.device import use_device
from painvrl.core.errors import StudyError, UserError
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.job import DataSummary, Job, Objective
from painvrl.engine.outcomes import WORKER_DIED, Failed, Outcome
from painvrl.engine.training import failed_by

P = ParamSpec("P")
R = TypeVar("R")

_SHARED_FRACTION = 0.95
"""What workers may use together of a device that they share; the rest is the driver's."""

_LISTEN_SECONDS = 0.05
"""How often stages are passed on, and jobs at a rung get their answer, while no job ends."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """Where a worker process trains.

    Attributes:
        make: makes its objective; sent to the process, so it must be picklable.
        device: the one that ``make`` trains on.
        threads: of torch on the CPU.
        memory_fraction: of a CUDA device that the process may use; ``None`` sets no limit.
    """

    make: Callable[[], Objective]
    device: torch.device
    threads: int
    memory_fraction: float | None = None


def memory_fractions(devices: Sequence[torch.device], wanted: float | None) -> tuple[float | None, ...]:
    """The limit of each worker: as wanted, else equal parts of a CUDA device that several share."""
    if wanted is not None:
        return (wanted,) * len(devices)
    sharing = [devices.count(device) for device in devices]
    return tuple(
        _SHARED_FRACTION / count if device.type == "cuda" and count > 1 else None
        for device, count in zip(devices, sharing, strict=True)
    )


def worker_specs(
    make: Callable[..., Objective], devices: Sequence[torch.device], memory_fraction: float | None
) -> list[WorkerSpec]:
    """A worker a device, with an equal part of the threads of this process."""
    threads = max(1, torch.get_num_threads() // len(devices))
    return [
        WorkerSpec(make=partial(make, device=each), device=each, threads=threads, memory_fraction=fraction)
        for each, fraction in zip(devices, memory_fractions(devices, memory_fraction), strict=True)
    ]


class ProcessExecutor:
    """As many trials at a time as there are ``specs``, a process each.

    Every process has an executor of its own: one that dies takes its own trial with it and no other.

    Raises:
        UserError: the data are missing or break a rule, or a device cannot be limited.
        StudyError: a process died before its first trial.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.size: int = len(specs)
        self._slots = [_Slot(spec) for spec in specs]
        self._running: dict[Future[Outcome], tuple[int, _Slot]] = {}
        try:
            # The first process prepares the data alone; the others read what it left in the cache.
            self.data: DataSummary = self._slots[0].submit(_describe).result()
        except BaseException as error:
            self.close()
            if isinstance(error, BrokenProcessPool):
                raise StudyError("a worker process died while it prepared the data") from None
            raise

    def start(self, job: Job) -> None:
        """Give the job to a process that has none."""
        busy = {slot for _, slot in self._running.values()}
        slot = next(slot for slot in self._slots if slot not in busy)
        self._running[slot.submit(_train, job)] = (job.number, slot)

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        """Wait for the first trial that ends."""
        while True:
            done, _ = wait(self._running, timeout=_LISTEN_SECONDS, return_when=FIRST_COMPLETED)
            for number, slot in self._running.values():
                for reported in slot.reported():
                    if isinstance(reported, str):
                        on_stage(number, reported)
                    else:
                        slot.answer(on_rung(number, *reported))
            if done:
                future = min(done, key=lambda one: self._running[one][0])
                number, slot = self._running.pop(future)
                try:
                    return number, future.result()
                except BrokenProcessPool:
                    slot.close()
                    message = "the process that trained it died (killed, or out of memory)"
                    return number, Failed(reason=WORKER_DIED, message=message)

    def close(self) -> None:
        """End every process, in whatever it is doing."""
        for slot in self._slots:
            slot.hang_up()
        for slot in self._slots:
            slot.close()


_Reported: TypeAlias = str | tuple[str, Mapping[str, float]]
"""What a process says while it trains: a stage, or a rung and the metrics there, and waits for an answer."""


class _Slot:
    """A place and its process, which is started when it is needed and again after it died."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._executor: ProcessPoolExecutor | None = None
        self._line: Connection | None = None

    def submit(self, task: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> Future[R]:
        """Run ``task`` in the process."""
        if self._executor is not None:
            try:
                return self._executor.submit(task, *arguments, **named)
            except BrokenProcessPool:  # it died between two trials
                self.close()
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._executor = ProcessPoolExecutor(
            max_workers=1, mp_context=context, initializer=_begin, initargs=(self._spec, far_end)
        )
        with far_end, _interrupts_held_back():
            return self._executor.submit(task, *arguments, **named)

    def reported(self) -> Iterator[_Reported]:
        """What the process has said since the last call."""
        with suppress(EOFError, OSError):  # it died; its future says so, too
            while self._line is not None and self._line.poll():
                yield self._line.recv()

    def answer(self, verdict: str | None) -> None:
        """Let the process go on from a rung, or stop there."""
        with suppress(OSError):  # it died
            if self._line is not None:
                self._line.send(verdict)

    def hang_up(self) -> None:
        """Tell the process to end at once."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def close(self) -> None:
        self.hang_up()
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process that is started meanwhile never sees Ctrl-C, nor a SIGTERM that goes to the whole group.

    It is reported by the one that started it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """What a worker process knows; made by :func:`_begin`."""

    def __init__(self, spec: WorkerSpec, line: Connection) -> None:
        self.line = line
        self.answers: SimpleQueue[str | None] = SimpleQueue()
        self._spec = spec
        self._objective: Objective | None = None

    @property
    def objective(self) -> Objective:
        """Made at the first use and kept: the data stay on the device."""
        if self._objective is None:
            use_device(self._spec.device, self._spec.memory_fraction)
            self._objective = self._spec.make()
        return self._objective


_worker: _Worker | None = None


def _begin(spec: WorkerSpec, line: Connection) -> None:
    """In a worker process, before anything else."""
    global _worker  # noqa: PLW0603 (an executor's tasks share nothing else)
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(spec.threads)
    _worker = _Worker(spec, line)
    threading.Thread(target=_listen, args=(line, _worker.answers), daemon=True).start()


def _listen(line: Connection, answers: SimpleQueue[str | None]) -> None:
    """Take answers in; end this process when the other end is closed: by its owner, or because it is gone."""
    with suppress(EOFError, OSError):
        while True:
            answers.put(line.recv())
    os._exit(1)


def _describe() -> DataSummary:
    assert _worker is not None
    return _worker.objective.data


def _train(job: Job) -> Outcome:
    assert _worker is not None
    worker, line = _worker, _worker.line
    try:
        objective = worker.objective
    except UserError:  # every trial would meet it
        raise
    except Exception as error:  # noqa: BLE001 (the other processes have their data; the next trial tries again)
        return failed_by(error)

    def on_rung(rung: str, values: Mapping[str, float]) -> str | None:
        line.send((rung, dict(values)))
        return worker.answers.get()

    return objective(job, line.send, on_rung)
