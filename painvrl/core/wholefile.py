"""Writing a file: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from painvrl.core.errors import PlaceError, UserError


def write_whole(path: Path, content: str | bytes, *, what: str) -> Path:
    """Write ``content`` to ``path`` through a file beside it, and make the folder where there is none.

    Who may read it is up to the process's umask, as with any other file.

    Args:
        path: where to; a file that is there is replaced.
        content: text is written as UTF-8.
        what: what it is, for the error: "the report".

    Raises:
        UserError: it cannot be written there.
    """
    if not path.name:
        raise UserError(f"{what} cannot be written to a folder; name a file in it", file=path)
    temporary = path.parent / f".{os.getpid()}.{path.name}"[:255]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # where nothing could be made there is nothing to clear away
            temporary.unlink()
        raise PlaceError.of(error, f"{what} cannot be written", file=path) from None
    return path
