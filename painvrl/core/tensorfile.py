"""Trees of tensors and values in files of torch's: written whole, and a damaged one counts as none.

The comment of such a file, which is a zip archive, is a digest of all before it. The archive's own checksums
are of what lies in it, and do not cover where it lies.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from painvrl.core.device import is_out_of_memory
from painvrl.core.wholefile import taking_its_place

_logger = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size
_BLOCK_BYTES = 1 << 20

_TORN_SECONDS = 3600.0
"""A file that is being written is younger; an older one belongs to a process that died over it."""


def write_tree(path: Path, tree: object, *, most_bytes: int) -> bool:
    """Write ``tree`` to ``path``; a reader sees all of it or nothing.

    Classes in it, other than torch's, need :func:`torch.serialization.add_safe_globals`.

    Returns:
        Whether it is there: it is not where the place cannot be written, or the file has more bytes.
    """
    try:
        with taking_its_place(path, durably=True) as temporary:
            torch.save(tree, temporary)
            _seal(temporary)
            if temporary.stat().st_size > most_bytes:
                temporary.unlink()  # so that nothing can take the place
    except (OSError, RuntimeError):  # the latter is what torch makes of a full disk
        return False
    return True


def read_tree(path: Path, device: torch.device | str = "cpu") -> Any:
    """What :func:`write_tree` wrote, with its tensors on ``device``; ``None`` if nothing whole is there.

    Of a file that is there it is said that it is damaged.
    """
    try:
        why = _damage(path)
        if why is None:
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a file can be damaged in more ways than can be listed
        if is_out_of_memory(error):
            raise
        why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    _logger.warning("note: damaged, so it counts as none: %s (%s)", path, why)
    return None


def _seal(path: Path) -> None:
    """Give an archive without a comment its digest for one."""
    with path.open("r+b") as file:
        file.seek(-2, 2)  # an archive ends with the length of its comment, and the comment
        file.write(_DIGEST_BYTES.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.write(digest)


def _damage(path: Path) -> str | None:
    """Why a file is not what was written; ``None`` if it is."""
    with zipfile.ZipFile(path) as archive:
        sealed = archive.comment
        if not sealed:  # of an earlier version: torch writes checksums, and does not look at them
            wrong = archive.testzip()
            return None if wrong is None else f"{wrong} is not what was written"
    digest, left = hashlib.sha256(), path.stat().st_size - len(sealed)
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return None if digest.digest() == sealed else "it is not what was written"


def sweep_trees(folder: Path, most_bytes: int, *, oldest: float = math.inf) -> None:
    """Delete the files that were written or touched longest ago, down to ``most_bytes``.

    Locks are files, too, but empty ones make no room. What an interrupted write left behind goes as well.

    Args:
        folder: may be missing.
        most_bytes: of all files in it.
        oldest: seconds; what is older goes whatever its size.
    """
    found, total = [], 0
    for path in folder.glob("*"):
        with suppress(OSError):  # another process deleted it
            status = path.stat()
            found.append((time.time() - status.st_mtime, status.st_size, path))
    for age, size, path in sorted(found):
        total += size
        limit = _TORN_SECONDS if path.suffix == ".tmp" else oldest
        if age > limit or (size and total > most_bytes):
            with suppress(OSError):
                path.unlink()
