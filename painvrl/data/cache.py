"""Arrays on disk under content keys: written atomically, and recomputed when unreadable."""

from __future__ import annotations

import json
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from painvrl.errors import PlaceError

_TORN_SECONDS = 3600
"""A file that is being written is younger; an older one belongs to a process that died over it."""


@dataclass(frozen=True)
class ArrayCache:
    """A folder of ``.npz`` files, one a key.

    A key digests everything that decides the content: inputs, settings, versions of packages, and
    for prepared data the layout number that is raised with the code that makes them. So an entry
    never goes stale, and two processes that compute the same one write the same file; the last wins.

    Attributes:
        folder: made at the first write.
    """

    folder: Path

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays under ``key``, or None if there are none or the file is damaged.

        The archive's checksums are verified, so that a damaged file cannot pass for data.
        """
        try:
            # NumPy leaves a path's file open where it is no archive; an open file is ours to close.
            with self.path(key).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error):
            return None

    def store(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write ``arrays`` under ``key``; a reader sees all of it or nothing.

        Raises:
            PlaceError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    np.savez(stream, allow_pickle=False, **arrays)
                Path(temporary).replace(self.path(key))
            except BaseException:
                Path(temporary).unlink()
                raise
        except OSError as error:
            raise PlaceError.of(error, "the cache folder cannot be written", file=self.folder) from error

    def path(self, key: str) -> Path:
        """The file of ``key``."""
        return self.folder / f"{key}.npz"

    def shrink(self, limit: int, *, oldest: float | None = None) -> None:
        """Delete the files that were written or touched longest ago, down to ``limit`` bytes.

        Files that an interrupted write left behind go, too.

        Args:
            limit: in bytes.
            oldest: seconds; an older file goes whatever the limit.
        """
        now = time.time()
        for path in self.folder.glob(".*.tmp"):
            with suppress(OSError):  # another process deleted it
                if path.stat().st_mtime < now - _TORN_SECONDS:
                    path.unlink()
        files = []
        for path in self.folder.glob("*.npz"):
            with suppress(OSError):  # another process deleted it
                files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for written, size, path in sorted(files):
            if total <= limit and (oldest is None or written >= (now - oldest) * 1e9):
                return
            total -= size
            with suppress(OSError):
                path.unlink()


def pack_text(value: object) -> np.ndarray:
    """A JSON-ready value as ``[bytes]`` uint8, for a place among arrays."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def unpack_text(array: np.ndarray) -> object:
    """The inverse of :func:`pack_text`.

    Raises:
        ValueError: the bytes are not JSON.
    """
    return json.loads(array.tobytes())
