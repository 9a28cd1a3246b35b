"""Writing a file: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from painvrl.core.errors import PlaceError, UserError

_numbers = itertools.count()


@contextmanager
def taking_its_place(path: Path, *, durably: bool = False) -> Iterator[Path]:
    """A file beside ``path`` to write, which replaces it at the end; where something fails nothing is left.

    The folder is made where there is none. Who may read the file is up to the process's umask.

    Args:
        path: what is replaced.
        durably: wait for the disk, so that a power cut leaves the old file or the new one, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its name holds nothing of the file's, which may be as long as a name can be.
    temporary = path.parent / f".{os.getpid()}.{threading.get_ident()}.{next(_numbers)}.tmp"
    try:
        yield temporary
        if durably and temporary.exists():
            on_disk(temporary)
        temporary.replace(path)
        if durably:
            on_disk(path.parent)
    finally:
        with suppress(OSError):  # where nothing could be made there is nothing to clear away
            temporary.unlink(missing_ok=True)


def on_disk(path: Path) -> None:
    """Wait until what was written to a file, or the names in a folder, would outlive a power cut."""
    folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not folder:  # not every file system takes one, and Windows opens none
            raise


def write_whole(path: Path, content: str | bytes, *, what: str) -> Path:
    """Write ``content`` to ``path`` through a file beside it, and make the folder where there is none.

    Args:
        path: where to; a file that is there is replaced.
        content: text is written as UTF-8.
        what: what it is, for the error: "the report".

    Raises:
        UserError: it cannot be written there.
    """
    if not path.name:
        raise UserError(f"{what} cannot be written to a folder; name a file in it", file=path)
    try:
        with taking_its_place(path) as temporary:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise PlaceError.of(error, f"{what} cannot be written", file=path) from None
    return path
