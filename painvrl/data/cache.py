"""Arrays on disk under content keys: written atomically, and recomputed when unreadable.

Large arrays can lie beside their entry as files of their own, which are mapped instead of read: they take
memory only where they are touched, the system can take it back, and processes share it.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from painvrl.core.device import is_out_of_memory
from painvrl.core.errors import PlaceError
from painvrl.core.memory import uncounted
from painvrl.core.wholefile import taking_its_place

_logger = logging.getLogger(__name__)

_END_OF_ZIP = 12
"""Bytes from a zip archive's end to the number of its members."""

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
        """The arrays under ``key``, or None if there are none or a file is damaged, which is said.

        Every checksum is verified, so that a damaged file cannot pass for data. What lies beside the entry
        is mapped; who writes to it changes a copy of its own.

        Raises:
            MemoryError: there is not enough of it; nothing is wrong with the file.
        """
        try:
            # NumPy leaves a path's file open where it is no archive; an open file is ours to close.
            with self.path(key).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                _require_whole(archive, stream)
                arrays = {name: archive[name] for name in archive.files}
            if _BESIDE in arrays:
                for name, checksum in cast("dict[str, int]", unpack_text(arrays.pop(_BESIDE))).items():
                    path = self._beside(key, Path(name).name)
                    _require(_checksum(path) == checksum, path.name)
                    arrays[name] = mapped(path)
            return arrays
        except Exception as error:  # a file can be damaged in more ways than can be listed
            if is_out_of_memory(error):
                raise
            if not isinstance(error, FileNotFoundError) or self.path(key).exists():
                self.note_damage(key, error)
            return None

    def note_damage(self, key: str, error: Exception) -> None:
        """Say of an entry that is there, and cannot be read, that it counts as none."""
        why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        _logger.warning("note: damaged, so it counts as none: %s (%s)", self.path(key), why)

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
        with taking_its_place(path) as temporary:
            with temporary.open("wb") as stream:
                save(stream)
            if path.is_dir():  # no file can replace it; it may hold somebody's work
                path.rename(path.with_name(f"{path.name}.damaged-{os.getpid()}"))

    def path(self, key: str) -> Path:
        """The file of ``key``."""
        return self.folder / f"{key}.npz"

    def _beside(self, key: str, name: str) -> Path:
        return self.folder / f"{key}.{name}.npy"


def _require_whole(archive: Any, stream: IO[bytes]) -> None:
    """Look at all of an open archive.

    NumPy reads what an array's header asks for, and a shorter shape would pass the checksum by. Python's
    reader does not look at how many members there are, and an entry that is damaged can swallow the next.
    """
    wrong = archive.zip.testzip()
    _require(wrong is None, wrong)
    stream.seek(-_END_OF_ZIP, os.SEEK_END)
    _require(int.from_bytes(stream.read(2), "little") == len(archive.files), "its list of arrays")


def _require(is_whole: bool, what: str | None) -> None:
    if not is_whole:
        raise ValueError(f"{what} is not what was stored")


def mapped(path: Path) -> np.ndarray:
    """The array of numbers in an ``.npy`` file, mapped: a page is read when it is touched.

    Who writes to it changes a copy of the page, never the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no such array, or not all of it.
    """
    with uncounted():
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
