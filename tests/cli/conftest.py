"""A tiny study that was run once, and a way to call the command line in this process."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from painvrl.cli import app
from painvrl.core.yamlfile import dump_yaml, validated
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

Call = Callable[..., "Answer"]


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> Answer:
    """Run ``painvrl ARGUMENTS`` in this process."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], prog_name="painvrl")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def cli() -> Call:
    """The command line, as a function."""
    return call


def spec_of(config: TrainConfig, **study: object) -> StudySpec:
    """A study of ``config`` over two hyperparameters."""
    return validated(
        StudySpec,
        {
            "study": {"name": "tiny", "trials": 3, "sampler": "random", **study},
            "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
            "config": config.model_dump(mode="json"),
            "presets": [],
            "pruning": False,
            "sweep": False,
            "space": {
                "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8},
                "fusion.variant_weight": {"type": "float", "low": 0.1, "high": 1.0},
            },
        },
    )


@pytest.fixture(scope="session", name="spec_of")
def _spec_of() -> Callable[..., StudySpec]:
    """A study of a configuration, as a function."""
    return spec_of


@pytest.fixture
def spec(tmp_path: Path, tiny_config: TrainConfig) -> Path:
    """The tiny study's file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(spec_of(tiny_config)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished_study(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: TrainConfig, empty_mlflow: Path
) -> tuple[Path, Answer]:
    """The workspace of the tiny study after its run, not to be written to, and what the run answered."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(dump_yaml(spec_of(tiny_config)), encoding="utf-8")
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copy(empty_mlflow, workspace)
    return workspace, call("study", "run", folder / "tiny.yaml", "--workspace", workspace, "--device", "cpu")


@pytest.fixture(scope="session")
def swept_study(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: TrainConfig, empty_mlflow: Path
) -> Path:
    """The workspace of the tiny study after a run that swept each training; not to be written to."""
    folder = tmp_path_factory.mktemp("swept")
    spec = spec_of(tiny_config).model_copy(update={"sweep": "auto"})
    (folder / "tiny.yaml").write_text(dump_yaml(spec), encoding="utf-8")
    workspace = folder / "workspace"
    workspace.mkdir()
    shutil.copy(empty_mlflow, workspace)
    answer = call("study", "run", folder / "tiny.yaml", "--workspace", workspace, "--device", "cpu")
    assert answer.code == 0, answer.err
    return workspace


@pytest.fixture
def new_workspace(tmp_path: Path, empty_mlflow: Path) -> Path:
    """A workspace without studies or runs."""
    workspace = tmp_path / "new-workspace"
    workspace.mkdir()
    shutil.copy(empty_mlflow, workspace)
    return workspace


@pytest.fixture
def workspace(
    tmp_path: Path, finished_study: tuple[Path, Answer], copied: Callable[[Path, Path], Path]
) -> Path:
    """The finished tiny study's workspace, a copy for this test alone."""
    return copied(finished_study[0], tmp_path / "workspace")


@pytest.fixture
def port() -> int:
    """A port of this machine that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
