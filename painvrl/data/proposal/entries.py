"""Keys of a file with what they hold, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key; ``value`` may be entries again. ``why`` becomes its comment."""

    key: str
    value: object
    why: str = ""

    @property
    def inner(self) -> tuple[Entry, ...]:
        """The entries that it holds."""
        return self.value if isinstance(self.value, tuple) else ()


def plain(entries: Sequence[Entry]) -> dict[str, object]:
    """What the entries hold, without comments."""
    return {entry.key: plain(entry.inner) if entry.inner else entry.value for entry in entries}
