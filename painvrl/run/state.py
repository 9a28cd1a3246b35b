"""What a run has come to so far, and the file from which it continues if its process is killed.

A run that continues tells again what was reported before, and its stages take up what is there. Every stage
is a function of the configuration, the data and the stages before, so what is not there is computed again,
with the same result to the last bit.

A run offers its state between stages, within a training at its evaluations, and within a mask at its steps.
Most offers are refused: nothing is written sooner than :data:`MIN_SECONDS` after the start or after the last
time, nor so often that writing would take more than :data:`MOST_SHARE` of the time. So a run that is short
writes nothing, and one that is killed loses about as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock

from painvrl.core import interrupts
from painvrl.core.device import rounding_of
from painvrl.core.errors import PlaceError, StudyError, is_of_the_place
from painvrl.core.observer import GOES_ON, NullObserver, Observer
from painvrl.core.tensorfile import read_tree, sweep_trees, write_tree
from painvrl.data.digest import digest_of
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import code_digest

MIN_SECONDS = 30.0
"""A run that is killed loses so much, and what it was about to save."""

MOST_SHARE = 0.01
"""Of a run's time, spent on writing."""

DISK_BYTES = 4 << 30
"""Of all files in the folder; those that were written longest ago go first."""

ABANDONED_SECONDS = 7 * 24 * 3600.0
"""A run that was killed so long ago begins again."""


def run_key(
    config: TrainConfig, prepared: Prepared, epochs: Mapping[str, int] | None = None, *, branch: bool = False
) -> str:
    """Equal for two runs only if all that is known to decide their results is equal, but for rounding.

    A run may go on with another processor or number of threads. It notes that (:attr:`RunState.mixed`).

    Args:
        config: the run; every setting counts.
        prepared: its data.
        epochs: those of a run that trains a fixed number of them.
        branch: whether it trains a branch that weighs nothing.
    """
    return digest_of(
        config.deciding(),
        list(prepared.fingerprints),
        prepared.train.user.numpy(),
        prepared.train.item.numpy(),
        None if epochs is None else dict(epochs),
        branch,
        prepared.device.type,
        torch.__version__,
        code_digest(),
    )


class Partway(Protocol):
    """A stage between two of its steps: all that the next ones depend on."""

    @property
    def place(self) -> str:
        """How far it is, for people: ``epoch 4``."""


class RunState:
    """What a run has come to so far: what it reported and took, and what the rest of it needs.

    Args:
        observer: is called as the run proceeds.
        file: where the state is saved; nowhere by default.
        known: the state that an earlier process saved.
        differs: what is another here than in that process, and may change the last bits.

    Attributes:
        mixed: what was not the same in all processes that computed parts of the run, and may change its
            last bits: ``processor``, ``number of threads``, ...
        seconds: wall time by stage, that of a process before included.
        epochs: chosen epoch by training.
    """

    def __init__(
        self,
        observer: Observer | None = None,
        file: StateFile | None = None,
        known: Mapping[str, Any] | None = None,
        differs: Sequence[str] = (),
    ) -> None:
        before = known or {
            "seconds": {},
            "epochs": {},
            "reported": [],
            "results": {},
            "training": {},
            "mixed": (),
        }
        self.mixed: tuple[str, ...] = tuple(dict.fromkeys([*before["mixed"], *differs]))
        self.seconds: dict[str, float] = before["seconds"]
        self.epochs: dict[str, int] = before["epochs"]
        self._reported: list[tuple[Any, ...]] = before["reported"]
        self._results: dict[str, Any] = before["results"]
        self._training: dict[str, Partway] = before["training"]
        self._observer = observer or NullObserver()
        self._file = file
        self._since: tuple[str, float] | None = None

    def resume(self, observer: Observer) -> None:
        """Tell ``observer`` from here on, and first of all again what an earlier process reported."""
        self._observer = observer
        if self._reported:
            observer.stage(GOES_ON + self._place() + _doubt(self.mixed))
        for kind, *what in self._reported:
            getattr(observer, kind)(*what)

    @contextmanager
    def stage(self, name: str, label: str | None = None) -> Iterator[None]:
        """Tell of ``label``, which a run has once, and add the block's wall time to ``seconds[name]``."""
        interrupts.check()
        entry = ("stage", label or name)
        if entry not in self._reported:  # else it was reported by the process before
            self._reported.append(entry)
            self._observer.stage(label or name)
        self._since = (name, time.perf_counter())
        yield
        self.seconds = self._seconds_now()
        self._since = None

    def curve(self, name: str, epoch: int, values: Mapping[str, float]) -> None:
        """Tell of a point of a training's curve."""
        interrupts.check()
        self._reported.append(("curve", name, epoch, dict(values)))
        self._observer.curve(name, epoch, values)

    def points(self, name: str) -> tuple[tuple[int, Mapping[str, float]], ...]:
        """The points of a training's curve that were reported: an epoch, and its loss and metrics."""
        return tuple(
            (what[1], what[2]) for kind, *what in self._reported if (kind, what[0]) == ("curve", name)
        )

    def save(self, name: str, result: Any) -> None:
        """What came of a stage and others need; a later result of that name takes its place.

        Its tensors must not change any more. This is a point at which the run may be saved.
        """
        if self._file is None:  # nothing is gone on with, so nothing is held
            return
        self._results[name] = result
        self._offer({})

    def load(self, name: str) -> Any:
        """What was saved under ``name``, by an earlier process, too, on the run's device; else ``None``."""
        return self._results.get(name)

    def drop(self, name: str) -> None:
        """No one needs it any more."""
        self._results.pop(name, None)

    def save_training(self, name: str, make: Callable[[], Partway]) -> None:
        """A point within a stage at which the run may be saved; the state is made only then."""
        self._offer({name: make})

    def load_training(self, name: str) -> Any:
        """The state within the stage ``name`` if a process was killed there; for the first who asks."""
        return self._training.pop(name, None)

    def is_training(self, name: str) -> bool:
        """Whether an earlier process was killed within this training."""
        return name in self._training

    def _offer(self, training: Mapping[str, Callable[[], Partway]]) -> None:
        if self._file is None:
            return
        self._file.save(
            lambda: {
                "seconds": self._seconds_now(),
                "epochs": self.epochs,
                "reported": self._reported,
                "results": self._results,
                "training": {name: make() for name, make in training.items()},
                "mixed": self.mixed,
            }
        )

    def _seconds_now(self) -> dict[str, float]:
        if self._since is None:
            return self.seconds
        name, start = self._since
        return {**self.seconds, name: self.seconds.get(name, 0.0) + time.perf_counter() - start}

    def _place(self) -> str:
        for name, state in self._training.items():
            return f"{state.place} of {name}"
        return f"the end of {next(what for kind, what, *_ in reversed(self._reported) if kind == 'stage')}"


def _doubt(mixed: Sequence[str]) -> str:
    return f" (kept with another {' and '.join(mixed)}: the last digits may differ)" if mixed else ""


@contextmanager
def run_state(
    folder: Path | None,
    key: str,
    device: torch.device | str,
    *,
    final: type[Exception] = Exception,
    kept: Callable[[], object] = lambda: None,
) -> Iterator[RunState]:
    """The state of the run under ``key``, as an earlier process left it if it was killed.

    Its file goes when the block ends, by most errors, too. It stays when the process dies. A run whose key
    another process is at saves nothing and finds nothing: the other's state is its own.

    Args:
        folder: made at the first write; ``None`` saves nothing.
        key: of the run; see :func:`run_key`.
        device: where it trains.
        final: errors after which no one continues. Others leave what is there, as a disk or a database does
            that refuses, and an interrupt, which says so then.
        kept: is called whenever the state has been saved.
    """
    if folder is None:
        yield RunState()
        return
    # Deleting the lock of a run that has gone on for a week lets an equal one begin. Each then writes, whole
    # and under the same name, a state that the other could go on from as well.
    sweep_trees(folder, DISK_BYTES, oldest=ABANDONED_SECONDS)
    file = StateFile(folder, key, torch.device(device), kept)
    try:
        yield RunState(file=file, known=file.load(), differs=file.differs)
        file.discard()
    except final as error:
        if not (isinstance(error, (PlaceError, StudyError)) or is_of_the_place(error)):
            file.discard()
        raise
    except KeyboardInterrupt:
        if file.holds_state:
            raise KeyboardInterrupt("the same command continues where it was kept last") from None
        raise
    finally:
        file.release()


class StateFile:
    """A run's file, and the lock that keeps other processes from it; both are made at the first write.

    Attributes:
        holds_state: whether the file holds a state of this run.
        differs: what may change the last bits and is another here than where that state was saved.
    """

    def __init__(self, folder: Path, key: str, device: torch.device, kept: Callable[[], object]) -> None:
        self._key = key
        self._device = device
        self._kept = kept
        self._path = folder / f"{key}.pt"
        self._lock = FileLock(folder / f".{key}.lock")
        self._due = time.perf_counter() + MIN_SECONDS
        self._refused = False
        self.holds_state: bool = False
        self.differs: tuple[str, ...] = ()

    def load(self) -> Mapping[str, Any] | None:
        """What an earlier process saved last of the same run; ``None`` to begin again."""
        if not self._path.exists() or not self._claim():
            return None
        found = read_tree(self._path, self._device)
        self.holds_state = isinstance(found, dict) and found.get("key") == self._key
        if not self.holds_state:
            return None
        there = found["rounding"]
        self.differs = tuple(name for name, here in rounding_of(self._device).items() if here != there[name])
        state: Mapping[str, Any] = found["state"]
        return state

    def save(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Offer the run's state, in place of the last one. It is made only if it is written."""
        start = time.perf_counter()
        if self._refused or start < self._due or not self._claim():
            return
        tree = {"key": self._key, "rounding": rounding_of(self._device), "state": make()}
        if not write_tree(self._path, tree, most_bytes=DISK_BYTES):
            self._refused = True  # saving only saves time
            return
        self.holds_state = True
        self._kept()
        end = time.perf_counter()
        self._due = end + max(MIN_SECONDS, (end - start) / MOST_SHARE)

    def discard(self) -> None:
        """Delete the file, if this run has claimed it."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def release(self) -> None:
        """Let the next process have what is there."""
        self._lock.release()

    def _claim(self) -> bool:
        """Whether the key is this run's; once it was another's, it stays so to the end."""
        if not self._lock.is_locked:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(blocking=False)
            except OSError:  # another's lock is one, too
                self._refused = True
        return self._lock.is_locked
