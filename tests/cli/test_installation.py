from __future__ import annotations

import importlib.metadata
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from painvrl.cli import installation as doctor
from painvrl.cli.installation import Status, diagnose
from painvrl.core.packages import EXTRAS, REQUIRED
from painvrl.core.workspace import Workspace


def check(name: str, folder: Path) -> doctor.Check:
    return next(one for one in diagnose(Workspace(folder), device="cpu").checks if one.name == name)


def test_every_core_dependency_is_looked_for() -> None:
    import tomllib

    from packaging.requirements import Requirement

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    assert set(REQUIRED) == {Requirement(line).name for line in project["dependencies"]}
    for extra, packages in EXTRAS.items():
        assert set(packages) == {Requirement(line).name for line in project["optional-dependencies"][extra]}


def test_a_missing_package_is_essential_and_a_missing_extra_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in {"optuna", "implicit"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert check("optuna", tmp_path).status is Status.FAIL
    extra = check("extra baselines", tmp_path)
    assert (extra.status, extra.detail) == (Status.WARN, "optional, missing: implicit")
    assert extra.remedy is not None
    assert "[baselines]" in extra.remedy
    assert not diagnose(Workspace(tmp_path), device="cpu").healthy


def test_a_python_file_in_a_folder_mlflow_is_found(tmp_path: Path) -> None:
    assert check("mlflow import", tmp_path).status is Status.OK
    (tmp_path / "mlflow").mkdir()
    assert check("mlflow import", tmp_path).status is Status.OK
    (tmp_path / "mlflow" / "__init__.py").write_text("")
    found = check("mlflow import", tmp_path)
    assert found.status is Status.FAIL
    assert "mlflow/__init__.py hides the package" in found.detail


def test_a_workspace_that_cannot_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    assert check("workspace", tmp_path / "new").detail.endswith("will be made by the first study")
    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    found = check("workspace", tmp_path)
    assert found.status is Status.FAIL
    assert "Permission denied" in found.detail


@pytest.mark.parametrize(("free", "status"), [(1.9, Status.WARN), (2.1, Status.OK)])
def test_little_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: Status
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 (what shutil returns)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, int(free * 2**30)))
    found = check("disk", tmp_path / "not" / "there")
    assert found.status is status
    assert found.detail == f"{free:.1f} GiB free"


def test_more_threads_than_cores_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 4096)
    found = check("threads", tmp_path)
    assert found.status is Status.WARN
    assert found.remedy is not None
    assert found.remedy.startswith("set OMP_NUM_THREADS=")


def test_no_check_raises_when_everything_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(
        "painvrl.core.device.select_device", lambda _: (_ for _ in ()).throw(OSError("no driver"))
    )
    found = diagnose(Workspace(tmp_path))
    assert not found.healthy
    assert found.as_dict()["healthy"] is False
