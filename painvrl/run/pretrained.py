"""Pretrained backbones that runs share: trained once, and taken by every run with equal settings.

Nothing that environments, mask, rounds or fusion are set to enters a pretraining, so trials that
differ only there would train the same backbone over and over.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from painvrl.core.device import rounding_of
from painvrl.core.registry import foreign_code
from painvrl.core.tensorfile import read_tree, sweep_trees, write_tree
from painvrl.data.digest import digest_of
from painvrl.run.config import TrainConfig
from painvrl.run.prepare import Prepared

NOT_READ = frozenset({"environments", "mask", "rounds", "fusion"})
"""Sections of a configuration that a pretraining does not read; environments are read where the backbone's
risks are theirs. A new section is read until it stands here: a key that says too much costs a training, one
that says too little a wrong result."""

MEMORY_BYTES = 1 << 30
DISK_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A trained backbone, and what was reported while it was trained.

    Attributes:
        state: parameters by name, on the CPU.
        best_epoch: the epoch that early stopping chose.
        curves: an epoch, and its loss and metrics.
    """

    state: Mapping[str, Tensor]
    best_epoch: int
    curves: tuple[tuple[int, Mapping[str, float]], ...]

    @property
    def size(self) -> int:
        """Bytes of the parameters."""
        return sum(tensor.nbytes for tensor in self.state.values())


torch.serialization.add_safe_globals([Pretrained])  # a file may hold one


def pretraining_key(config: TrainConfig, prepared: Prepared, reported: str = "") -> str:
    """Equal for two runs only if all that is known to decide a pretraining is equal.

    Digests every setting that a pretraining reads, what it trains on and is judged by, what is known to
    decide the rounding, and the code, so that an entry on disk cannot outlive the code that made it.
    Two pretrainings under one key are equal as far as the device repeats its sums to the last bit. Two
    under different keys may be equal all the same: a key says rather too much than too little.

    ``reported``: what is reported of the training beside its metrics, which is kept with it.
    """
    unread = set(NOT_READ) - ({"environments"} if config.backbone.reads_environments else set())
    return digest_of(
        config.model_dump(mode="json", exclude=unread),
        list(prepared.fingerprints),
        prepared.train.user.numpy(),
        prepared.train.item.numpy(),
        reported,
        numbers_of(prepared.device),
    )


def numbers_of(device: torch.device) -> str:
    """A digest of what decides a result's numbers besides settings and data: the code, and what rounds."""
    return digest_of(rounding_of(device), code_digest())


def code_digest() -> str:
    """A digest of the package's own code, and of that which has come in by a registry."""
    return digest_of(_code(), [list(one) for one in foreign_code()])


class PretrainedStore:
    """Pretrained backbones by key, the most recently used ones.

    A process that is about to train one holds :meth:`claim` on its key; others that want the same one wait,
    and find it. The lock goes when its holder dies.

    Args:
        folder: where other processes find them, too; ``None`` keeps them in memory only. Keys that
            never come back have no place on a disk.
        memory_bytes: of parameters, at most.
        disk_bytes: of files in ``folder``, at most.
    """

    def __init__(
        self, folder: Path | None = None, *, memory_bytes: int = MEMORY_BYTES, disk_bytes: int = DISK_BYTES
    ) -> None:
        self._entries: OrderedDict[str, Pretrained] = OrderedDict()
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._disk_bytes = disk_bytes

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Wait until no other process trains the backbone under ``key``, and keep others waiting meanwhile.

        Look for the backbone again inside. Where the folder cannot be written no one waits, and each trains.
        """
        lock = None
        if self._folder is not None:
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._folder / f".{key}.lock")
                lock.acquire()
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def load(self, key: str) -> Pretrained | None:
        """The backbone under ``key``, or None."""
        found = self._entries.get(key) or self._read(key)
        if found is not None:
            self._remember(key, found)
        return found

    def store(self, key: str, trained: Pretrained) -> None:
        """Keep a backbone. A folder that cannot be written is no error: sharing only saves time."""
        self._remember(key, trained)
        if self._folder is not None:
            write_tree(self._folder / f"{key}.pt", trained, most_bytes=self._disk_bytes)
            sweep_trees(self._folder, self._disk_bytes)

    def _remember(self, key: str, trained: Pretrained) -> None:
        self._entries[key] = trained
        self._entries.move_to_end(key)
        while sum(entry.size for entry in self._entries.values()) > self._memory_bytes:
            self._entries.popitem(last=False)

    def _read(self, key: str) -> Pretrained | None:
        if self._folder is None:
            return None
        path = self._folder / f"{key}.pt"
        with suppress(OSError):  # the time of the last use, which sweeping goes by
            os.utime(path)
        found = read_tree(path)
        return found if isinstance(found, Pretrained) else None


@functools.cache
def _code() -> str:
    """A digest of the package's own source."""
    root = Path(__file__).parent.parent
    sources = sorted(root.rglob("*.py"))
    return digest_of(*([path.relative_to(root).as_posix(), path.read_text("utf-8")] for path in sources))
