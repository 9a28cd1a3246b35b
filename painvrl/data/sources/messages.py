"""What readers say of files that are not as they must be."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from painvrl.core.errors import DataError


@dataclass(frozen=True)
class Place:
    """Where something stands: the file, the key of the configuration, and the key's value if it says more."""

    file: Path | str
    key: str
    value: object = None

    def error(self, rule: str, value: object = None) -> DataError:
        """A mistake in this place; ``value`` is named instead of the key's own."""
        return DataError(rule, file=self.file, key=self.key, value=self.value if value is None else value)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever goes wrong while the file is read is an error of the data.

        A damaged file makes its reader fail in more ways than can be listed.
        """
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            raise self.error(f"cannot be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shown(element: object) -> str:
    """An element of an array for a message: short, whatever is nested in it."""
    try:
        return reprlib.repr(element)[:80]
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"
