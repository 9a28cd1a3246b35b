"""A data set that is a folder of published files: what is there, and one message for what is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from painvrl.core.errors import DataError, listing


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
    wanted = f"it must hold {layout.files}; published {layout.published}"
    if found is None and not folder.is_dir():
        rule = f"must be a {layout.kind}" if folder.exists() else f"there is no such {layout.kind}"
        if not folder.is_absolute():
            rule += f" under the current directory {Path.cwd()}"
        return DataError(f"{rule}; {wanted}", file=path, key=key)
    names = listing(list(files_in(path) if found is None else found))
    return DataError(f"lacks {lacks}; {wanted}", file=path, key=key, value=names or "no file")
