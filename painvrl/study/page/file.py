"""Writing a page: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from painvrl.errors import UserError


def write_page(page: str, path: Path) -> Path:
    """Write ``page`` to ``path``, through a temporary file beside it.

    Raises:
        UserError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"the report cannot be written: {error.strerror}", file=path) from None
    return path
