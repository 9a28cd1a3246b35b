"""What a source of data is: settings, and how the data set is read that they name."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from painvrl.core.registry import Registry
from painvrl.core.settings import Settings
from painvrl.data.cache import ArrayCache
from painvrl.data.dataset import Dataset


class Source(Settings):
    """The base of all sources."""

    is_drawn: ClassVar[bool] = False
    """Whether the data depend on the seed, and are not cached."""

    kind: str
    """Which source the data come from; decides which other keys there are."""
    memory_limit: float | None = Field(default=None, gt=0, exclude_if=lambda limit: limit is None)
    """GiB that the process may take while data are read, on Linux; ``null``: 80% of the machine's."""

    @abstractmethod
    def read(self, encodings: ArrayCache, seed: int) -> Dataset:
        """The data set.

        Raises:
            DataError: a package, a file, a column or a value is not as it must be.
        """

    def named_files(self) -> tuple[Path, ...]:
        """Every file whose content decides the data set."""
        return ()

    def packages(self) -> tuple[str, ...]:
        """Names and versions of whatever else decides it."""
        return ()


SOURCES = Registry[type[Source]](
    "source of data", group="painvrl.sources", within="painvrl.data.sources", named_by="kind"
)
