"""Runs that were killed half-way: a file a run, from which the same run goes on.

A run offers what the rest of it needs at its save points: between stages, and within a training at its
evaluations. Most offers are refused: nothing is written sooner than :data:`MIN_SECONDS` after the start or
after the last time, nor so often that writing would take more than :data:`MOST_SHARE` of the time. So a
run that is short writes nothing, and one that is killed loses about as much.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from painvrl.core.errors import PlaceError
from painvrl.data.cache import ArrayCache, pack_text, unpack_text
from painvrl.data.digest import digest_of
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared
from painvrl.run.pretrained import numbers_of

MIN_SECONDS = 30.0
"""A run that is killed loses so much, and what it was about to save."""

MOST_SHARE = 0.01
"""Of a run's time, spent on writing."""

DISK_BYTES = 4 << 30
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""A run that was killed so long ago begins again."""

State: TypeAlias = Mapping[str, Any]
"""A tree of tensors and JSON-ready values. Dataclasses in it come back as mappings, tuples as lists."""

_TREE, _TENSOR = "tree", "tensor"


class Savepoint(Protocol):
    """Where one run leaves what the rest of it needs."""

    def load(self) -> State | None:
        """What an earlier process saved last of the same run, on the CPU; ``None`` to begin anew."""

    def save(self, make: Callable[[], State]) -> None:
        """Offer the run's state, in place of the last one. It is made only if it is written."""


class NullSavepoint:
    """Nothing is kept."""

    def load(self) -> State | None:
        """Begin anew."""
        return None

    def save(self, make: Callable[[], State]) -> None:
        """Refuse."""


def run_key(
    config: TrainConfig, prepared: Prepared, epochs: Mapping[str, int] | None = None, *, branch: bool = False
) -> str:
    """Equal for two runs only if all that is known to decide their results to the last bit is equal.

    Args:
        config: the run; every setting counts.
        prepared: its data.
        epochs: those of a run that trains a fixed number of them.
        branch: whether it trains a branch that weighs nothing.
    """
    return digest_of(
        config.model_dump(mode="json"),
        [prepared.dataset.fingerprint, prepared.split.fingerprint],
        prepared.train.user.numpy(),
        prepared.train.item.numpy(),
        None if epochs is None else dict(epochs),
        branch,
        numbers_of(prepared.device),
    )


class UnfinishedRuns:
    """A folder of unfinished runs by key.

    A run whose key another process is at keeps nothing and finds nothing: the other's state is its own.

    Args:
        folder: made at the first write; ``None`` keeps nothing.
        min_seconds: between two writes; :data:`MIN_SECONDS` by default.
        clock: seconds since some time past.
        disk_bytes: of files in ``folder``, at most; those that were written longest ago go first.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        min_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self._cache = None if folder is None else ArrayCache(folder)
        self._min_seconds = MIN_SECONDS if min_seconds is None else min_seconds
        self._clock = clock
        self._disk_bytes = disk_bytes

    @contextmanager
    def savepoint(self, key: str, *, final: type[Exception] = Exception) -> Iterator[Savepoint]:
        """Where the run under ``key`` leaves its state, until the block ends.

        What is there goes when the block ends, by an error, too. It stays when the process dies.

        Args:
            key: of the run.
            final: errors after which nobody goes on. Others leave what is there, as an interrupt does, which
                says so then.
        """
        if self._cache is None:
            yield NullSavepoint()
            return
        _sweep(self._cache, self._disk_bytes)
        point = _FileSavepoint(self._cache, key, self._min_seconds, self._clock, self._disk_bytes)
        try:
            yield point
            point.discard()
        except final:
            point.discard()
            raise
        except KeyboardInterrupt:
            if point.is_kept:
                raise KeyboardInterrupt("the same command goes on where it was kept last") from None
            raise
        finally:
            point.release()


class _FileSavepoint:
    """A file, and the lock that keeps other processes from it; both are made when something is written.

    Attributes:
        is_kept: whether the file holds a state of this run.
    """

    def __init__(
        self, cache: ArrayCache, key: str, min_seconds: float, clock: Callable[[], float], disk_bytes: int
    ) -> None:
        self._cache = cache
        self._key = key
        self._min_seconds = min_seconds
        self._clock = clock
        self._disk_bytes = disk_bytes
        self._due = clock() + min_seconds
        self._lock: FileLock | None = None
        self._refused = False
        self.is_kept = False

    def load(self) -> State | None:
        """See :class:`Savepoint`."""
        if not self._cache.path(self._key).exists() or not self._claim():
            return None
        arrays = self._cache.load(self._key)
        state = None if arrays is None else _unpacked(arrays, self._key)
        self.is_kept = state is not None
        return state

    def save(self, make: Callable[[], State]) -> None:
        """See :class:`Savepoint`."""
        start = self._clock()
        if self._refused or start < self._due or not self._claim():
            return
        arrays = _packed(make(), self._key)
        if sum(array.nbytes for array in arrays.values()) > self._disk_bytes:
            self._refused = True
            return
        try:
            self._cache.store(self._key, arrays)
        except PlaceError:  # keeping only saves time
            self._refused = True
            return
        self.is_kept = True
        end = self._clock()
        self._due = end + max(self._min_seconds, (end - start) / MOST_SHARE)

    def discard(self) -> None:
        """Delete the file, if this run has claimed it."""
        if self._lock is not None:
            with suppress(OSError):
                self._cache.path(self._key).unlink(missing_ok=True)
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def release(self) -> None:
        """Let the next process have what is there."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _claim(self) -> bool:
        """Whether the key is this run's; once it was another's, it stays so to the end."""
        if self._lock is None and not self._refused:
            self._lock = _try_lock(_lock_path(self._cache, self._key))
            self._refused = self._lock is None
        return not self._refused


def _lock_path(cache: ArrayCache, key: str) -> Path:
    return cache.folder / f".{key}.lock"


def _try_lock(path: Path) -> FileLock | None:
    """The lock, held; ``None`` if another holds it or the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(blocking=False)
    except (OSError, Timeout):
        return None
    return lock


def _sweep(cache: ArrayCache, disk_bytes: int) -> None:
    """Delete what nobody will go on with, and what is too much.

    Deleting a lock while somebody opens it lets two equal runs hold it. Each then writes, whole and under
    the same name, a state that the other could go on from as well.
    """
    cache.shrink(disk_bytes, oldest=ABANDONED_SECONDS)
    for path in cache.folder.glob(".*.lock"):
        if cache.path(path.stem.removeprefix(".")).exists():
            continue
        lock = _try_lock(path)
        if lock is not None:
            with suppress(OSError):
                path.unlink()
            lock.release()


def _packed(state: State, key: str) -> dict[str, np.ndarray]:
    """The tensors as arrays of their own, and the tree with their names in their places."""
    arrays: dict[str, np.ndarray] = {}

    def without_tensors(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = str(len(arrays))
            arrays[name] = value.detach().cpu().numpy()
            return {_TENSOR: name}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {one.name: without_tensors(getattr(value, one.name)) for one in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {name: without_tensors(part) for name, part in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [without_tensors(part) for part in value]
        return value

    tree = without_tensors(state)
    return {**arrays, _TREE: pack_text({"key": key, "state": tree})}


def _unpacked(arrays: Mapping[str, np.ndarray], key: str) -> State | None:
    """The inverse; ``None`` for a file that was not written under ``key``."""

    def with_tensors(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {_TENSOR}:
                # A copy lies where torch puts its own tensors: products round by where their factors lie.
                return torch.from_numpy(arrays[value[_TENSOR]]).clone()
            return {name: with_tensors(part) for name, part in value.items()}
        return [with_tensors(part) for part in value] if isinstance(value, list) else value

    try:
        told = unpack_text(arrays[_TREE])
        if not isinstance(told, dict) or told["key"] != key:
            return None
        state: State = with_tensors(told["state"])
    except (KeyError, ValueError, TypeError):
        return None
    return state
