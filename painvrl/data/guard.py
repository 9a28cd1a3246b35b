"""The guard of the test parts: no one sees their rows without leaving a line in an access log."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from painvrl.core.errors import DataError, PlaceError
from painvrl.data.parts import Part, TestParts


@dataclass(frozen=True)
class AccessLog:
    """The record of every read of a test part: one JSON line a read, only ever appended to.

    Attributes:
        path: the access log's file; it and its folder are made at the first read.
    """

    path: Path

    def record(self, fingerprint: str, *, reader: str) -> int:
        """Append one read and make it durable.

        Args:
            fingerprint: names the test parts that are about to be read.
            reader: who reads, for people (a trial, a command).

        Returns:
            How often these have been read, this read included. Processes that append at the
            same time get different numbers.

        Raises:
            PlaceError: the access log cannot be written; then nothing may be read.
        """
        line = json.dumps({"time": datetime.now(UTC).isoformat(), "reader": reader, "split": fingerprint})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write on an O_APPEND descriptor is atomic, and afterwards the position is the end
            # of this very line, which gives each of several writers its own place in the order.
            # The leading newline closes a line that a crashed writer left open.
            descriptor = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_RDWR, 0o644)
            try:
                os.write(descriptor, f"{'' if _is_closed(descriptor) else chr(10)}{line}\n".encode())
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            written = self.path.read_bytes()[:end]
        except OSError as error:
            what = "the test parts stay sealed, as the access log of test reads cannot be written"
            raise PlaceError.of(error, what, file=self.path) from error
        return _count(written, fingerprint)

    def reads(self, fingerprint: str) -> int:
        """How often the test parts of this name have been read so far (looking is not a read)."""
        try:
            return _count(self.path.read_bytes(), fingerprint)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise DataError(
                f"the access log of test reads cannot be read ({error.strerror})", file=self.path
            ) from error


class GuardedParts:
    """The test parts of a split; :meth:`open` is the only way to their rows.

    Attributes:
        fingerprint: what the access log counts reads by: of drawn test parts the split's own fingerprint;
            where the data say which rows are for the test, a digest of those rows, so that neither another
            seed nor another setting makes them unread.
    """

    __slots__ = ("__parts", "fingerprint")

    def __init__(self, *, parts: Mapping[str, Part], fingerprint: str) -> None:
        self.__parts = dict(parts)
        self.fingerprint: str = fingerprint

    def open(self, access_log: AccessLog, reader: str) -> TestParts:
        """Record the read in ``access_log``, then hand the test parts out.

        Raises:
            PlaceError: the access log cannot be written.
        """
        reads = access_log.record(self.fingerprint, reader=reader)
        return TestParts(parts=dict(self.__parts), reads=reads)

    def __repr__(self) -> str:
        return f"GuardedParts(fingerprint={self.fingerprint!r})"


def _is_closed(descriptor: int) -> bool:
    """Whether the file is empty or ends with a newline."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _count(access_log: bytes, fingerprint: str) -> int:
    """Lines of ``access_log`` about these test parts.

    A torn line does not count: rows are handed out only after the whole line is on disk.
    """
    reads = 0
    for line in access_log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        reads += isinstance(entry, dict) and entry.get("split") == fingerprint
    return reads
