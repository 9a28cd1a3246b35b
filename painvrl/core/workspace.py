"""The folder that holds everything painvrl writes: caches, studies, runs, checkpoints."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from painvrl.core.errors import PlaceError, UserError


@dataclass(frozen=True)
class Workspace:
    """Where things lie. ``root`` is made absolute; nothing is created before :meth:`create`.

    Raises:
        UserError: the path is not UTF-8, which the databases' URLs are.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())
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

    @property
    def cache(self) -> Path:
        """Prepared data and encodings."""
        return self.root / "cache"

    @property
    def checkpoints(self) -> Path:
        """Trained models, a folder each."""
        return self.root / "checkpoints"

    @property
    def unfinished(self) -> Path:
        """Runs that were killed half-way."""
        return self.root / "unfinished"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact root."""
        return self.root / "mlartifacts"

    @property
    def ablations(self) -> Path:
        """Results of ablations, a folder each."""
        return self.root / "ablations"

    @property
    def baselines(self) -> Path:
        """Runs of baselines, a folder a configuration."""
        return self.root / "baselines"

    @property
    def confirmations(self) -> Path:
        """Results of confirmations, a folder a study."""
        return self.root / "confirmations"

    @property
    def users(self) -> Path:
        """What each user got from each trial, a folder a study."""
        return self.root / "users"

    @property
    def reports(self) -> Path:
        """Reports of studies, a file each."""
        return self.root / "reports"

    @property
    def optuna_db(self) -> Path:
        """The studies."""
        return self.root / "optuna.db"

    @property
    def mlflow_db(self) -> Path:
        """MLflow's runs."""
        return self.root / "mlflow.db"

    @property
    def test_reads(self) -> Path:
        """The ledger of reads of sealed test parts."""
        return self.root / "test_reads.jsonl"

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
