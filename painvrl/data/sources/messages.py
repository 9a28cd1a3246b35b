"""What readers say of files and folders that are not as they must be."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from painvrl.core.device import is_out_of_memory
from painvrl.core.errors import DataError, listing
from painvrl.core.memory import refusal


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
            full = is_out_of_memory(error)
            raise self.error(refusal() if full else f"cannot be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shown(element: object) -> str:
    """An element of an array for a message: short, whatever is nested in it."""
    try:
        return reprlib.repr(element)[:80]
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a kind of folder must hold, in words.

    Attributes:
        files: the files' names, and what each of them is where a name does not say it.
        published: where such folders can be got.
        kind: what ``data.path`` names.
    """

    files: str
    published: str
    kind: str = "folder"


def files_in(path: Path) -> dict[str, Path]:
    """The files that lie in the folder ``path`` itself, by name; none if there is no such folder."""
    folder = path.expanduser()
    if not folder.is_dir():
        return {}
    return {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}


def unfit(
    path: Path, layout: Layout, lacks: str, *, key: str = "data.path", found: Iterable[str] | None = None
) -> DataError:
    """The error about a folder that is missing or ``lacks`` something: all that the user needs to know.

    It says which files are expected, which were found, and where they are published.

    Args:
        path: of the folder.
        layout: what it should hold.
        lacks: what is not there.
        key: in the configuration.
        found: names of what is there; None for the files in the folder itself.
    """
    folder = path.expanduser()
    place = Place(path, key)
    wanted = f"it must hold {layout.files}; published {layout.published}"
    if found is None and not folder.is_dir():
        rule = f"must be a {layout.kind}" if folder.exists() else f"there is no such {layout.kind}"
        if not folder.is_absolute():
            rule += f" under the current directory {Path.cwd()}"
        return place.error(f"{rule}; {wanted}")
    names = listing(list(files_in(path) if found is None else found))
    return place.error(f"lacks {lacks}; {wanted}", names or "no file")
