"""Arrays on disk under content keys: written atomically, and recomputed when unreadable.

Large arrays can lie beside their entry as files of their own, which are mapped instead of read: they take
memory only where they are touched, the system can take it back, and processes share it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np

from painvrl.core.errors import PlaceError
from painvrl.core.wholefile import taking_its_place

_BESIDE = "beside"
"""Among an entry's arrays: the checksum of each that lies beside it, as text."""


@dataclass(frozen=True)
class ArrayCache:
    """A folder of ``.npz`` files, one a key, and of ``.npy`` files beside some of them.

    A key digests everything that decides the content: inputs, settings, versions of packages, and
    for prepared data the layout number that is raised with the code that makes them. So an entry
    never goes stale, and two processes that compute the same one write the same file; the last wins.

    Attributes:
        folder: made at the first write.
    """

    folder: Path

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays under ``key``, or None if there are none or a file is damaged.

        Every checksum is verified, so that a damaged file cannot pass for data. What lies beside the entry
        is mapped; who writes to it changes a copy of its own.
        """
        try:
            # NumPy leaves a path's file open where it is no archive; an open file is ours to close.
            with self.path(key).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if _BESIDE in arrays:
                for name, checksum in cast("dict[str, int]", unpack_text(arrays.pop(_BESIDE))).items():
                    path = self._beside(key, name)
                    if _checksum(path) != checksum:
                        return None
                    arrays[name] = mapped(path)
            return arrays
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error):
            return None

    def store(self, key: str, arrays: Mapping[str, np.ndarray], *, beside: Collection[str] = ()) -> None:
        """Write ``arrays`` under ``key``; a reader sees all of it or nothing.

        Args:
            key: decides the content of what lies beside, if anything does.
            arrays: by name.
            beside: names of those that :meth:`load` is to map.

        Raises:
            PlaceError: the folder cannot be written.
        """
        inside = {name: array for name, array in arrays.items() if name not in beside}
        try:
            if beside:
                checksums: dict[str, int] = {}
                for name in beside:
                    path = self._beside(key, name)
                    self._write(path, partial(np.save, arr=arrays[name], allow_pickle=False))
                    checksums[name] = _checksum(path)
                inside[_BESIDE] = pack_text(checksums)
            self._write(self.path(key), lambda stream: np.savez(stream, allow_pickle=False, **inside))
        except OSError as error:
            raise PlaceError.of(error, "the cache folder cannot be written", file=self.folder) from error

    def _write(self, path: Path, save: Callable[[IO[bytes]], None]) -> None:
        with taking_its_place(path) as temporary, temporary.open("wb") as stream:
            save(stream)

    def path(self, key: str) -> Path:
        """The file of ``key``."""
        return self.folder / f"{key}.npz"

    def _beside(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.npy"


def mapped(path: Path) -> np.ndarray:
    """The array of numbers in an ``.npy`` file, mapped: a page is read when it is touched.

    Who writes to it changes a copy of the page, never the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no such array, or not all of it.
    """
    return np.asarray(np.lib.format.open_memmap(path, mode="c"))


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, mode="r").data)


def pack_text(value: object) -> np.ndarray:
    """A JSON-ready value as ``[bytes]`` uint8, for a place among arrays."""
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def unpack_text(array: np.ndarray) -> object:
    """The inverse of :func:`pack_text`.

    Raises:
        ValueError: the bytes are not JSON.
    """
    return json.loads(array.tobytes())
