"""What a tracker is still to get, in files: what trials came to, with the curves that nothing else keeps.

    spool/STUDY/study.yaml     the study's file, from the start of a run until a tracker has everything
    spool/STUDY/TRIAL.json     what a trial came to, until the tracker has it
    spool/STUDY/.TRIAL.json.lacking     the same of a trial that the storage lacks
    spool/STUDY/.TRIAL.json.unreadable     one that cannot be read

All else that a tracker shows is in the storage. So nothing is replayed call by call: whoever opens the
tracker again compares it with the storage, and takes what trials came to from here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from painvrl.core.wholefile import write_whole
from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Outcome
from painvrl.study.store.packed import unpacked

_STUDY = "study.yaml"


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """What a trial came to, and when, in milliseconds since 1970: told twice, it is one and the same."""

    outcome: Outcome
    ended: int


_SPOOLED = TypeAdapter(Spooled)


@dataclass(frozen=True)
class Spool:
    """What the tracker of one study is still to get; ``folder``: of this study alone."""

    folder: Path

    def begin(self, yaml: str) -> None:
        """A run of the study begins.

        Raises:
            PlaceError: the folder cannot be written (here and in :meth:`keep`).
        """
        write_whole(self.folder / _STUDY, yaml, what="what MLflow is to get")

    def keep(self, trial: int, outcome: Outcome, ended: int | None = None) -> int:
        """Keep what a trial came to; when that was, in milliseconds: now unless it is known."""
        ended = int(time.time() * 1000) if ended is None else ended
        text = _SPOOLED.dump_json(Spooled(outcome=unpacked(outcome), ended=ended))
        write_whole(self._file(trial), text, what="what MLflow is to get")
        return ended

    def drop(self, trial: int) -> None:
        """The tracker has it."""
        self._file(trial).unlink(missing_ok=True)

    def set_aside(self, trial: int) -> None:
        """The storage lacks the trial: what it came to is kept, and no tracker is to get it."""
        self._file(trial).replace(self.folder / f".{trial}.json.lacking")

    def load(self) -> dict[int, Spooled]:
        """What is kept, by trial; a file that cannot be read counts as none."""
        return dict(self._read())

    def end(self) -> int:
        """The tracker has everything, but for what others keep here that share the workspace.

        Returns:
            how many files cannot be read: they are set aside, and counted once.
        """
        files = list(self.folder.glob("*.json"))  # looked for first: others may write more meanwhile
        if self.load():
            return 0
        aside = 0
        for file in files:
            with suppress(FileNotFoundError):  # another one was first: it had it, or set it aside
                file.replace(self.folder / f".{file.name}.unreadable")
                aside += 1
        (self.folder / _STUDY).unlink(missing_ok=True)
        with suppress(OSError):  # somebody writes a file, or one is set aside
            self.folder.rmdir()
        return aside

    @property
    def yaml(self) -> str | None:
        """The study's file; ``None`` if it is not there."""
        try:
            return (self.folder / _STUDY).read_text(encoding="utf-8")
        except OSError:
            return None

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob("*.json"))

    def _file(self, trial: int) -> Path:
        return self.folder / f"{trial}.json"

    def _read(self) -> Iterator[tuple[int, Spooled]]:
        for file in sorted(self.folder.glob("*.json")):
            try:
                yield int(file.stem), _SPOOLED.validate_python(json.loads(file.read_bytes()))
            except (OSError, ValueError, RecursionError):
                continue


def spool_of(workspace: Workspace, study: str) -> Spool:
    """The spool of a study."""
    return Spool(workspace.spool / study)


def spooled_studies(workspace: Workspace) -> tuple[str, ...]:
    """Names of the studies whose tracker is still to get something."""
    files = (*workspace.spool.glob(f"*/{_STUDY}"), *workspace.spool.glob("*/[!.]*.json"))
    return tuple(sorted({file.parent.name for file in files}))
