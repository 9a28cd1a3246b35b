"""Is everything there that painvrl needs? A list of checks, each with a remedy where it fails."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import painvrl
from painvrl.core.errors import UserError
from painvrl.core.packages import EXTRAS, REQUIRED
from painvrl.core.workspace import Workspace

LOW_DISK_GIB = 2.0


class Status(StrEnum):
    """``FAIL``: painvrl will not work. ``WARN``: something that only some users need is missing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding. ``remedy`` says what to do unless the status is OK."""

    name: str
    status: Status
    detail: str
    remedy: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing essential is broken."""
        return all(check.status is not Status.FAIL for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}


def diagnose(workspace: Workspace, *, device: str = "auto") -> Diagnosis:
    """Run every check. None of them raises, changes the workspace, or needs a network.

    Args:
        workspace: must be writable, or creatable if it does not exist yet.
        device: the device that training is meant to use.
    """
    makers: list[Callable[[], Iterator[Check]]] = [
        _python,
        _packages,
        _extras,
        _mlflow_shadow,
        _extensions,
        lambda: _device(device),
        _threads,
        lambda: _workspace(workspace),
        lambda: _disk(workspace),
    ]
    return Diagnosis(tuple(check for maker in makers for check in maker()))


def _python() -> Iterator[Check]:
    yield Check(
        name="painvrl",
        status=Status.OK,
        detail=f"{painvrl.__version__}, Python {platform.python_version()}, {platform.platform()}",
    )


def _extensions() -> Iterator[Check]:
    """What other packages add by entry points; nothing is said where there is none."""
    groups = [name for name in importlib.metadata.entry_points().groups if name.startswith("painvrl.")]
    if not groups:
        return
    import painvrl.baselines.registry
    import painvrl.run.config  # noqa: F401 (makes all other registries)
    from painvrl.core.registry import REGISTRIES

    for registry in REGISTRIES:
        if registry.group in groups:
            own = set(registry.loaded)
            try:
                added = ", ".join(name for name in registry.names() if name not in own)
            except UserError as error:
                remedy = "mend or uninstall that package"
                yield Check(name=registry.group, status=Status.WARN, detail=str(error), remedy=remedy)
            else:
                yield Check(name=registry.group, status=Status.OK, detail=added or "none")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    for package in REQUIRED:
        version = _version(package)
        if version is None:
            yield Check(name=package, status=Status.FAIL, detail="not installed", remedy="run `make install`")
        else:
            yield Check(name=package, status=Status.OK, detail=version)


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        yield Check(
            name=f"extra {extra}",
            status=Status.WARN if missing else Status.OK,
            detail=f"missing: {', '.join(missing)}" if missing else "complete",
            remedy=f"pip install -c constraints.txt -e '.[{extra}]'" if missing else None,
        )


def _mlflow_shadow() -> Iterator[Check]:
    """A folder ``mlflow/`` in the current directory hides the package once it holds an ``__init__.py``."""
    local = Path("mlflow")
    hiding = sorted(local.glob("**/*.py")) if local.is_dir() else []
    spec = importlib.util.find_spec("mlflow")
    remedy = "remove the Python files from the folder mlflow/"
    if hiding:
        detail = f"{hiding[0]} hides the package from commands that run here"
        yield Check(name="mlflow import", status=Status.FAIL, detail=detail, remedy=remedy)
    elif spec is not None and spec.origin is None:
        detail = "`import mlflow` finds a folder without code, not the package"
        yield Check(name="mlflow import", status=Status.FAIL, detail=detail, remedy="run `make install`")
    elif spec is not None:  # a missing package is reported by _packages
        yield Check(name="mlflow import", status=Status.OK, detail=str(spec.origin))


def _device(name: str) -> Iterator[Check]:
    try:
        import torch

        from painvrl.core.device import select_device

        device = select_device(name)
        # A device can be listed and still not work, as with a driver that is too old.
        total = float((torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum())
    except UserError as error:
        yield Check(name="device", status=Status.FAIL, detail=str(error), remedy="use --device auto")
    except (ImportError, RuntimeError, OSError) as error:
        yield Check(
            name="device",
            status=Status.FAIL,
            detail=f"torch does not work: {str(error).splitlines()[0]}",
            remedy="run `make install` with an empty .venv",
        )
    else:
        label = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        status = Status.OK if total == 512.0 else Status.FAIL
        yield Check(
            name="device", status=status, detail=label, remedy=None if status is Status.OK else "use cpu"
        )


def _threads() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import torch
    except (ImportError, OSError):
        return
    threads = torch.get_num_threads()
    yield Check(
        name="threads",
        status=Status.WARN if threads > cores else Status.OK,
        detail=f"{threads} of torch on {cores} usable cores",
        remedy=f"set OMP_NUM_THREADS={cores}" if threads > cores else None,
    )


def _workspace(workspace: Workspace) -> Iterator[Check]:
    root = workspace.root
    remedy = "name another folder with --workspace or PAINVRL_WORKSPACE"
    try:
        # The studies are SQLite files: some network file systems allow files but not their locks.
        with (
            tempfile.TemporaryDirectory(dir=_existing(root), prefix=".painvrl-doctor-") as folder,
            contextlib.closing(sqlite3.connect(Path(folder) / "probe.db")) as database,
        ):
            database.execute("CREATE TABLE probe (value INTEGER)")
    except (OSError, sqlite3.Error) as error:
        yield Check(name="workspace", status=Status.FAIL, detail=f"{root}: {error}", remedy=remedy)
        return
    if root.exists() and not root.is_dir():
        yield Check(name="workspace", status=Status.FAIL, detail=f"{root} is no folder", remedy=remedy)
        return
    yield Check(
        name="workspace",
        status=Status.OK,
        detail=f"{root}, {'writable' if root.exists() else 'will be made by the first study'}",
    )


def _disk(workspace: Workspace) -> Iterator[Check]:
    free = shutil.disk_usage(_existing(workspace.root)).free / 2**30
    low = free < LOW_DISK_GIB
    yield Check(
        name="disk",
        status=Status.WARN if low else Status.OK,
        detail=f"{free:.1f} GiB free",
        remedy=f"a study and its pictures want about {LOW_DISK_GIB:.0f} GiB" if low else None,
    )


def _existing(path: Path) -> Path:
    """The nearest folder upwards that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
