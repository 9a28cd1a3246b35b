"""The folder that holds everything painvrl writes: caches, studies, runs, checkpoints."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from painvrl.core.errors import PlaceError, UserError
from painvrl.core.wholefile import write_whole


@dataclass(frozen=True)
class _Below:
    """A path below the workspace's root."""

    name: str

    def __get__(self, workspace: Workspace, owner: type) -> Path:
        return workspace.root / self.name


@dataclass(frozen=True)
class Workspace:
    """Where things lie. Paths are made absolute; nothing is created before :meth:`create`.

    Args:
        root: the folder.
        states: where the states of runs are kept that are under way, in place of ``run_states`` below
            ``root``: a folder that several hosts reach lets each go on with what another has begun.

    Raises:
        UserError: the path is not UTF-8, which the databases' URLs are.
    """

    root: Path
    states: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())
        if self.states is not None:
            object.__setattr__(self, "states", Path(self.states).expanduser().absolute())
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            raise UserError(
                "the workspace's path must be UTF-8; name another", value=str(self.root)
            ) from None

    def create(self) -> Workspace:
        """Make the folder.

        Raises:
            PlaceError: it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlaceError.of(error, "the workspace cannot be made", file=self.root) from None
        return self

    cache: ClassVar[_Below] = _Below("cache")
    """Prepared data and encodings."""

    checkpoints: ClassVar[_Below] = _Below("checkpoints")
    """Trained models, a folder each."""

    @property
    def run_states(self) -> Path:
        """Runs that were killed half-way."""
        return self.root / "run_states" if self.states is None else self.states

    artifacts: ClassVar[_Below] = _Below("mlartifacts")
    """MLflow's artifact root."""

    ablations: ClassVar[_Below] = _Below("ablations")
    """Results of ablations, a folder each."""

    baselines: ClassVar[_Below] = _Below("baselines")
    """Runs of baselines, a folder a configuration."""

    confirmations: ClassVar[_Below] = _Below("confirmations")
    """Results of confirmations, a folder a study."""

    users: ClassVar[_Below] = _Below("users")
    """What each user got from each trial, a folder a study."""

    spool: ClassVar[_Below] = _Below("spool")
    """What MLflow is still to get, a folder a study."""

    reports: ClassVar[_Below] = _Below("reports")
    """Reports of studies, a file each."""

    optuna_db: ClassVar[_Below] = _Below("optuna.db")
    """The studies."""

    mlflow_db: ClassVar[_Below] = _Below("mlflow.db")
    """MLflow's runs."""

    test_reads: ClassVar[_Below] = _Below("test_reads.jsonl")
    """The access log of reads of sealed test parts."""

    stamp: ClassVar[_Below] = _Below("painvrl.json")
    """The version of painvrl that the workspace is of."""

    def stamp_version(self, version: str) -> None:
        """Note the version of painvrl whose names the studies use.

        Raises:
            PlaceError: the file cannot be written.
        """
        write_whole(self.stamp, json.dumps({"painvrl": version}) + "\n", what="the workspace's stamp")

    @property
    def storage_url(self) -> str:
        """The studies' database, as SQLAlchemy names it."""
        return sqlite_url(self.optuna_db)

    @property
    def tracking_uri(self) -> str:
        """MLflow's database, as SQLAlchemy names it."""
        return sqlite_url(self.mlflow_db)

    def lock_path(self, study: str) -> Path:
        """The file that is locked while a process runs the study."""
        digest = hashlib.blake2b(study.encode(), digest_size=4).hexdigest()
        return self.root / "locks" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', study)[:60]}-{digest}.lock"


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path holds.

    MLflow makes the folder of a ``sqlite:///`` URL without decoding it: the folder ``a%3Fb`` beside ``a?b``.
    It does not where the URL names a driver.
    """
    quoted = quote(str(path))
    return f"sqlite:///{quoted}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"
