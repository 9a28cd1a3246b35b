"""Jobs on a Ray cluster: a worker is an actor, placed on whatever node has its share of CPUs and GPUs free.

Ray places and watches; what a job is, and what becomes of one whose worker died, stays the engine's. There
are as many workers as the cluster has room for, up to those wanted: one that waits for a node takes no job,
and one whose node left is placed anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch

from painvrl.core import interrupts, shown
from painvrl.core.device import use_device
from painvrl.core.errors import ConfigError, StudyError, UserError
from painvrl.core.packages import not_installed
from painvrl.engine.deadline import LATE, Deadline
from painvrl.engine.executor import OnJobRung, OnStage, Placement, goes_on
from painvrl.engine.job import DataSummary, Job, Objective
from painvrl.engine.outcomes import WORKER_DIED, Failed, Outcome
from painvrl.engine.training import failed_by

_LISTEN_SECONDS = 0.5
"""How often new workers are looked for while nothing is reported."""

_MAX_LOST = 5
"""So many workers in a row may die before one has loaded its data."""

_SHARED_FRACTION = 0.95
"""What the workers of a GPU may use of its memory together; the rest is the driver's."""


class RayExecutor:
    """Up to ``workers`` jobs at a time on a Ray cluster.

    Args:
        make: makes an objective on a device; goes to the nodes, so it must be picklable, and the packages
            that it needs must be there.
        workers: at most so many are placed.
        placement: the cluster, and what of a node each worker takes.
        memory_fraction: of a GPU, that each worker may use; ``None``: its share of the GPU.

    Raises:
        ConfigError: no node has room for one worker, or Ray is not installed.
        StudyError: the cluster does not answer, or workers die before they have loaded the data.
        UserError: the data are missing or break a rule.
    """

    def __init__(
        self,
        make: Callable[..., Objective],
        workers: int,
        placement: Placement,
        memory_fraction: float | None = None,
    ) -> None:
        self._ray, self._ours = _connected(placement.address)
        self._lost = 0
        try:
            _check_room(self._ray.nodes(), placement)
            shared = _SHARED_FRACTION * placement.gpus if 0 < placement.gpus < 1 else None
            limit = shared if memory_fraction is None else memory_fraction
            arguments = (make, placement, limit, tuple(shown.GUARDS))
            options = self._ray.remote(
                num_cpus=placement.cpus, num_gpus=placement.gpus, max_restarts=0, max_concurrency=3
            )
            kind = options(_Worker)
            self._slots = [_Slot(self._ray, lambda: kind.remote(*arguments)) for _ in range(workers)]
            # The first worker prepares the data alone; the others read what it left in a shared cache.
            self.data: DataSummary = self._described(self._slots[0])
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many workers have a place now."""
        for slot in self._slots:
            self._look_at(slot)
        return max(1, sum(slot.ready for slot in self._slots))

    def start(self, job: Job) -> None:
        """Give the job to a worker that has none; where all are gone, to the next one that is placed."""
        free = [slot for slot in self._slots if slot.job is None]
        next((slot for slot in free if slot.ready), free[0]).give(job)

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome] | None:
        """Wait for the first job that ends; ``None`` where there is room for another one meanwhile."""
        while True:
            interrupts.check()
            busy = {slot.word: slot for slot in self._slots if slot.job is not None}
            heard, _ = self._ray.wait(list(busy), num_returns=1, timeout=_LISTEN_SECONDS)
            for slot in busy.values():  # this process may have been away for longer than the job
                if slot.deadline.is_over() and not self._ray.wait([slot.word], timeout=0)[0]:
                    return slot.lost(LATE)
            if not heard:
                waiting = [slot for slot in self._slots if not slot.ready and slot.job is None]
                if any(self._look_at(slot) for slot in waiting):
                    return None
                continue
            slot = busy[heard[0]]
            assert slot.job is not None
            number = slot.job.number
            try:
                said = self._ray.get(heard[0])
            except self._died as error:
                return slot.lost(f"the worker that trained it died, or its node left ({_last_line(error)})")
            if isinstance(said, Exception):
                raise said
            if isinstance(said, str):
                slot.deadline.has_begun()
                on_stage(number, said)
            elif isinstance(said, _AtRung):
                slot.actor.answer.remote(on_rung(number, said.rung, said.values))
            else:
                slot.job, slot.ready = None, True
                return number, said
            slot.word = slot.actor.said.remote()

    def close(self) -> None:
        """End every worker, and the connection if it was made here."""
        for slot in getattr(self, "_slots", ()):
            if slot.actor is not None:
                self._ray.kill(slot.actor)
        if self._ours:
            self._ray.shutdown()

    @property
    def _died(self) -> tuple[type[Exception], ...]:
        errors = self._ray.exceptions
        return errors.RayActorError, errors.ObjectLostError, errors.OutOfMemoryError

    def _described(self, slot: _Slot) -> DataSummary:
        while True:
            slot.place()
            try:
                data = self._ray.get(slot.hello)
            except self._died as error:
                self._lose(error)
                continue
            if isinstance(data, Exception):
                raise data
            slot.ready = True
            found: DataSummary = data
            return found

    def _look_at(self, slot: _Slot) -> bool:
        """Whether a worker that had no place has one now and has loaded its data."""
        if slot.ready or slot.job is not None:
            return False
        if slot.actor is None:
            slot.place()
        if not self._ray.wait([slot.hello], timeout=0)[0]:
            return False
        try:
            data = self._ray.get(slot.hello)
        except self._died as error:
            self._lose(error)
            slot.place()
            return False
        if isinstance(data, Exception):
            raise data
        self._lost, slot.ready = 0, True
        return True

    def _lose(self, error: Exception) -> None:
        self._lost += 1
        if self._lost >= _MAX_LOST:
            rule = f"workers on the Ray cluster die before they have loaded the data: {_last_line(error)}"
            raise StudyError(rule, value=self._lost) from None


class _Slot:
    """Room for a worker.

    Attributes:
        actor: the worker; ``None`` before it is asked for.
        ready: whether it has a place and its data.
        hello, word: what Ray is to bring of it: its data, and what it says next of its job.
        job: what it computes.
        deadline: of that job.
    """

    def __init__(self, ray: Any, make: Callable[[], Any]) -> None:
        self._ray, self._make = ray, make
        self.actor: Any = None
        self.hello: Any = None
        self.word: Any = None
        self.ready = False
        self.job: Job | None = None
        self.deadline = Deadline(None)

    def place(self) -> None:
        """Ask for a worker; it waits until a node has room."""
        self.actor, self.ready, self.job = self._make(), False, None
        self.hello = self.actor.describe.remote()

    def give(self, job: Job) -> None:
        if self.actor is None:
            self.place()
        self.job, self.deadline = job, Deadline(job, waits=not self.ready)
        self.actor.train.remote(job)
        self.word = self.actor.said.remote()

    def lost(self, message: str) -> tuple[int, Outcome]:
        """What its job comes to without it; another worker takes its place."""
        assert self.job is not None
        number = self.job.number
        self._ray.kill(self.actor)
        self.place()
        return number, Failed(reason=WORKER_DIED, message=message)


@dataclass(frozen=True)
class _AtRung:
    """A worker has come to a rung and waits for an answer."""

    rung: str
    values: Mapping[str, float]


class _Worker:
    """In an actor: one thread trains, a second one says how it goes, a third one takes answers."""

    def __init__(
        self,
        make: Callable[..., Objective],
        placement: Placement,
        memory_fraction: float | None,
        guards: Sequence[Callable[[], None]],
    ) -> None:
        _guard_output(guards)
        torch.set_num_threads(max(1, int(placement.cpus)))
        # Ray shows an actor its own GPUs alone, whatever their numbers are on the node.
        self._device = torch.device("cuda", 0) if placement.gpus else torch.device("cpu")
        self._make, self._memory_fraction = make, memory_fraction
        self._made: Objective | None = None
        self._making = threading.Lock()
        self._said: SimpleQueue[str | _AtRung | Outcome | Exception] = SimpleQueue()
        self._answers: SimpleQueue[str | None] = SimpleQueue()

    def describe(self) -> DataSummary | UserError:
        """The data of every job, or what of them is wrong."""
        try:
            return self._objective().data
        except UserError as error:
            return error

    def train(self, job: Job) -> None:
        """Compute a job; :meth:`said` says what it comes to."""
        try:
            self._said.put(self._trained(job))
        except Exception as error:  # noqa: BLE001 (raised where the loop runs)
            self._said.put(error)

    def said(self) -> str | _AtRung | Outcome | Exception:
        """Wait for the next stage, rung or outcome."""
        return self._said.get()

    def answer(self, verdict: str | None) -> None:
        """Let the job go on from a rung, or stop there."""
        self._answers.put(verdict)

    def _objective(self) -> Objective:
        with self._making:
            if self._made is None:
                use_device(self._device, self._memory_fraction)
                self._made = self._make(device=self._device)
            return self._made

    def _trained(self, job: Job) -> Outcome:
        try:
            objective = self._objective()
        except UserError:  # every trial would meet it
            raise
        except Exception as error:  # noqa: BLE001 (other workers have their data; the next trial tries again)
            return failed_by(error)

        def on_rung(rung: str, values: Mapping[str, float]) -> str | None:
            self._said.put(_AtRung(rung, dict(values)))
            return self._answers.get()

        return objective(job, self._said.put, on_rung)


def _guard_output(guards: Sequence[Callable[[], None]]) -> None:
    """What an actor prints goes to a log, and to the terminal of whoever began Ray: guard it as theirs."""
    if guards:  # they know the streams that Python opens; Ray has put its own around these
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115 (to the end)
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    for guard in guards:
        guard()


def _connected(address: str | None) -> tuple[Any, bool]:
    """Ray, connected to a cluster; and whether it was not before. Its telemetry stays off."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what it is about to become
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(not_installed(error), key="--executor", value="ray") from None
    if ray.is_initialized():
        return ray, False
    try:
        with _own_sigterm():
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except Exception as error:  # noqa: BLE001 (Ray raises that class itself where a node does not start)
        rule = f"the Ray cluster does not answer: {_last_line(error)}"
        raise StudyError(rule, key="--address", value=address) from None
    return ray, True


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler that this process has; Ray sets one that ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_room(nodes: list[dict[str, Any]], placement: Placement) -> None:
    """Refuse what no node of the cluster could ever give a worker; a busy one is waited for."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    wanted = {"CPU": placement.cpus, "GPU": placement.gpus}
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in alive):
        return
    there = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in alive[:4])
    more = f" and {len(alive) - 4} more" if len(alive) > 4 else ""
    raise ConfigError(
        f"no node of the cluster has {placement.cpus:g} CPUs and {placement.gpus:g} GPUs for a trial; "
        f"there are {len(alive)}: {there}{more}",
        key="--gpus-per-trial" if placement.gpus else "--cpus-per-trial",
    )


def _last_line(error: Exception) -> str:
    """What Ray says at the end: of an error on a node its own words, after the traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
