"""Several processes that compute jobs: one that dies takes its own job with it and no other.

A worker process gets a job, sends the names of the stages, and then the outcome; it keeps its data on its
device from job to job. One that does not end by itself is killed: a job that has used up its time, and
whoever is still there when the executor is closed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import TypeAlias

import torch

from painvrl.core import interrupts, shown
from painvrl.core.device import use_device
from painvrl.core.errors import StudyError, UserError
from painvrl.engine.deadline import LATE, Deadline
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.job import DataSummary, Job, Objective
from painvrl.engine.outcomes import WORKER_DIED, Failed, Outcome
from painvrl.engine.training import failed_by

MAX_DESCRIBERS = 5
"""So many processes may die while they prepare the data, before it is the data's fault."""

END_SECONDS = 5.0
"""A process that is told to end does so at once; one that has not by then is killed."""

_LOOK_SECONDS = 1.0
"""How often the time of jobs, and whether this process is to stop, is looked at while nothing is reported."""

_SHARED_FRACTION = 0.95
"""What workers may use together of a device that they share; the rest is the driver's."""


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

    Raises:
        UserError: the data are missing or break a rule, or a device cannot be limited.
        StudyError: one process after the other died over the data.
    """

    def __init__(self, specs: Sequence[WorkerSpec]) -> None:
        self.size: int = len(specs)
        self._slots = [_Slot(spec) for spec in specs]
        try:
            # The first process prepares the data alone; the others read what it left in the cache.
            self.data: DataSummary = self._described(self._slots[0])
        except BaseException:
            self.close()
            raise

    def _described(self, slot: _Slot) -> DataSummary:
        for _ in range(MAX_DESCRIBERS):
            slot.submit(None)
            while True:
                _wait([slot])
                dead = slot.is_dead()
                for said in slot.said():
                    if isinstance(said, DataSummary):
                        return said
                    if isinstance(said, _Raised):
                        raise said.error
                if dead:
                    break
        rule = "worker processes die while they prepare the data (killed, or out of memory); that many did"
        raise StudyError(rule, value=MAX_DESCRIBERS)

    def start(self, job: Job) -> None:
        """Give the job to a process that has none."""
        next(slot for slot in self._slots if slot.job is None).submit(job)

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        """Wait for the first trial that ends."""
        busy = [slot for slot in self._slots if slot.job is not None]
        while True:
            _wait(busy)
            for slot in busy:
                assert slot.job is not None
                number = slot.job.number
                outcome = _outcome_of(slot, partial(on_stage, number), partial(on_rung, number))
                if outcome is not None:
                    slot.job = None
                    return number, outcome

    def close(self) -> None:
        """End every process, in whatever it is doing, within seconds."""
        for slot in self._slots:
            slot.hang_up()
        end = time.monotonic() + END_SECONDS
        try:
            for slot in self._slots:
                slot.join(end - time.monotonic())
        finally:  # also where somebody asks a second time
            for slot in self._slots:
                slot.kill()


def _outcome_of(
    slot: _Slot,
    on_stage: Callable[[str], None],
    on_rung: Callable[[str, Mapping[str, float]], str | None],
) -> Outcome | None:
    """Pass on what a process has said; what its job came to, if it has ended or its process has to."""
    dead = slot.is_dead()  # asked first: its last words may come between two questions
    for said in slot.said():
        if isinstance(said, str):
            slot.deadline.has_begun()
            on_stage(said)
        elif isinstance(said, _AtRung):
            slot.answer(on_rung(said.rung, said.values))
        elif isinstance(said, _Raised):
            raise said.error
        elif not isinstance(said, DataSummary):
            return said
    if dead:
        message = "the process that trained it died (killed, or out of memory)"
    elif slot.deadline.is_over():
        message = LATE
    else:
        return None
    slot.kill()
    return Failed(reason=WORKER_DIED, message=message)


@dataclass(frozen=True)
class _AtRung:
    """A process has come to a rung and waits for an answer."""

    rung: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class _Raised:
    """An error that ends everything."""

    error: Exception


_Said: TypeAlias = str | _AtRung | _Raised | DataSummary | Outcome
"""What a process says: a stage, a rung, and what a task came to."""


class _Slot:
    """A place and its process, which is started when it is needed and again after it died.

    Attributes:
        job: the one that the process computes.
        deadline: of that job.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self.job: Job | None = None
        self._spec = spec
        self._process: SpawnProcess | None = None
        self._line: Connection | None = None
        self.deadline = Deadline(None)

    def submit(self, job: Job | None) -> None:
        """Give the process a job, or let it describe its data."""
        if self.is_dead():  # not started yet, or it died between two tasks
            self.kill()
            self._begin()
        assert self._line is not None
        self.job = job
        self.deadline = Deadline(job)
        with suppress(OSError):  # it died just now, as will be noticed
            self._line.send(job)

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process = context.Process(target=_work, args=(self._spec, far_end, tuple(shown.GUARDS)))
        with far_end, _interrupts_held_back():
            self._process.start()

    def heard_by(self) -> tuple[Connection | int, ...]:
        """What to wait on for a word of the process, or its death."""
        assert self._line is not None
        assert self._process is not None
        return self._line, self._process.sentinel

    def said(self) -> Iterator[_Said]:
        """What the process has said since the last call."""
        with suppress(EOFError, OSError):  # it died
            while self._line is not None and self._line.poll():
                yield self._line.recv()

    def answer(self, verdict: str | None) -> None:
        """Let the process go on from a rung, or stop there."""
        with suppress(OSError):  # it died
            if self._line is not None:
                self._line.send(verdict)

    def is_dead(self) -> bool:
        """Whether there is no process."""
        return self._process is None or not self._process.is_alive()

    def hang_up(self) -> None:
        """Tell the process to end at once."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if self._process is not None:
            self._process.join(max(0.0, seconds))

    def kill(self) -> None:
        """End the process, even one that is stopped."""
        self.hang_up()
        if self._process is not None:
            self._process.kill()
            self._process.join(END_SECONDS)
            self._process = None


def _wait(slots: Sequence[_Slot]) -> None:
    """Until one of them may have said something or died; at most for a moment.

    Raises:
        KeyboardInterrupt: this process is to stop.
    """
    interrupts.check()
    wait([each for slot in slots for each in slot.heard_by()], timeout=_LOOK_SECONDS)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """A process that is started meanwhile never sees Ctrl-C, nor a signal that goes to the whole group.

    It is reported by the one that started it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # as it starts it lets SIGINT and SIGTERM through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(spec: WorkerSpec, line: Connection, guards: Sequence[Callable[[], None]]) -> None:
    """What a worker process does: one task after the other, until its line is closed."""
    for guard in guards:
        guard()
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(spec.threads)
    inbox: SimpleQueue[Job | str | None] = SimpleQueue()
    threading.Thread(target=_listen, args=(line, inbox), daemon=True).start()
    worker = _Worker(spec, line, inbox)
    while True:
        said = worker.do(inbox.get())
        try:
            line.send(said)
        except OSError:  # no one is there
            os._exit(1)


def _listen(line: Connection, inbox: SimpleQueue[Job | str | None]) -> None:
    """Take tasks and answers in; end this process when the line is closed: by its owner, or by its death."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(line.recv())
    os._exit(1)


class _Worker:
    """What a worker process knows."""

    def __init__(self, spec: WorkerSpec, line: Connection, inbox: SimpleQueue[Job | str | None]) -> None:
        self._spec = spec
        self._line = line
        self._inbox = inbox
        self._objective: Objective | None = None

    def do(self, task: object) -> _Said:
        """Compute a job, or describe the data."""
        try:
            return self._train(task) if isinstance(task, Job) else self._made().data
        except Exception as error:  # noqa: BLE001 (it is everybody's, and raised there)
            return _Raised(error)

    def _made(self) -> Objective:
        """The objective, made at the first use and kept: the data stay on the device."""
        if self._objective is None:
            use_device(self._spec.device, self._spec.memory_fraction)
            self._objective = self._spec.make()
        return self._objective

    def _train(self, job: Job) -> Outcome:
        try:
            objective = self._made()
        except UserError:  # every trial would meet it
            raise
        except Exception as error:  # noqa: BLE001 (the other processes have their data; the next trial tries again)
            return failed_by(error)
        return objective(job, self._line.send, self._on_rung)

    def _on_rung(self, rung: str, values: Mapping[str, float]) -> str | None:
        self._line.send(_AtRung(rung, dict(values)))
        answer = self._inbox.get()
        assert not isinstance(answer, Job)
        return answer
