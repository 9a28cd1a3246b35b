"""``painvrl doctor``: is everything there? A list of checks, each with a remedy where it fails."""

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
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import typer

import painvrl
from painvrl.cli.options import DEFAULT_WORKSPACE, DeviceOption, JsonOption, WorkspaceOption
from painvrl.core.errors import UserError
from painvrl.core.packages import EXTRAS, REQUIRED
from painvrl.core.tables import Block, Result
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


def _found(name: str, detail: str, remedy: str | None = None, *, bad: Status = Status.FAIL) -> Check:
    """A finding; it is ``bad`` if there is a remedy for it."""
    return Check(name=name, status=bad if remedy else Status.OK, detail=detail, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Result):
    """All findings, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing essential is broken."""
        return all(check.status is not Status.FAIL for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready values."""
        return {"healthy": self.healthy, **super().as_dict()}

    def blocks(self) -> Iterator[Block]:
        """Every check, and its remedy where it needs one."""
        for check in self.checks:
            remedy = f" -> {check.remedy}" if check.remedy else ""
            yield f"{check.status:<4}  {check.name:<16}  {check.detail}{remedy}"
        yield "painvrl is ready" if self.healthy else "something essential is broken"


def doctor(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Check the installation, the device and the workspace.

    Exits with 1 if something essential is broken.

    Example: painvrl doctor
    """
    from painvrl.cli import render

    diagnosis = diagnose(Workspace(workspace), device=device)
    render.answer(diagnosis, json=json)
    if not diagnosis.healthy:
        raise typer.Exit(1)


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
    return Diagnosis(checks=tuple(check for maker in makers for check in maker()))


def _python() -> Iterator[Check]:
    version = platform.python_version()
    yield _found("painvrl", f"{painvrl.__version__}, Python {version}, {platform.platform()}")


def _extensions() -> Iterator[Check]:
    """What other packages add by entry points; nothing is said where there is none."""
    groups = [name for name in importlib.metadata.entry_points().groups if name.startswith("painvrl.")]
    if not groups:
        return
    import painvrl.baselines.registry
    import painvrl.study.file.spec  # noqa: F401 (makes all other registries)
    from painvrl.core.registry import REGISTRIES

    for registry in REGISTRIES:
        if registry.group in groups:
            own = set(registry.loaded)
            try:
                added = ", ".join(name for name in registry.names() if name not in own)
            except UserError as error:
                yield _found(registry.group, str(error), "mend or uninstall that package", bad=Status.WARN)
            else:
                yield _found(registry.group, added or "none")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Check]:
    for package in REQUIRED:
        version = _version(package)
        yield _found(package, version or "not installed", None if version else "run `make install`")


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        detail = f"optional, missing: {', '.join(missing)}" if missing else "complete"
        remedy = f"pip install -c constraints.txt -e '.[{extra}]'" if missing else None
        yield _found(f"extra {extra}", detail, remedy, bad=Status.WARN)


def _mlflow_shadow() -> Iterator[Check]:
    """A folder ``mlflow/`` in the current directory hides the package once it holds an ``__init__.py``."""
    local = Path("mlflow")
    hiding = sorted(local.glob("**/*.py")) if local.is_dir() else []
    spec = importlib.util.find_spec("mlflow")
    detail, remedy = str(spec and spec.origin), None
    if hiding:
        detail = f"{hiding[0]} hides the package from commands that run here"
        remedy = "remove the Python files from the folder mlflow/"
    elif spec is not None and spec.origin is None:
        detail = "`import mlflow` finds a folder without code, not the package"
        remedy = "run `make install`"
    if hiding or spec is not None:  # a missing package is reported by _packages
        yield _found("mlflow import", detail, remedy)


def _device(name: str) -> Iterator[Check]:
    try:
        import torch

        from painvrl.core.device import select_device

        device = select_device(name)
        # A device can be listed and still not work, as with a driver that is too old.
        total = float((torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum())
    except UserError as error:
        yield _found("device", str(error), "use --device auto")
    except (ImportError, RuntimeError, OSError) as error:
        detail = f"torch does not work: {str(error).splitlines()[0]}"
        yield _found("device", detail, "run `make install` with an empty .venv")
    else:
        label = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        yield _found("device", label, None if total == 512.0 else "use cpu")


def _threads() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import torch
    except (ImportError, OSError):
        return
    threads = torch.get_num_threads()
    remedy = f"set OMP_NUM_THREADS={cores}" if threads > cores else None
    yield _found("threads", f"{threads} of torch on {cores} usable cores", remedy, bad=Status.WARN)


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
        yield _found("workspace", f"{root}: {error}", remedy)
        return
    if root.exists() and not root.is_dir():
        yield _found("workspace", f"{root} is no folder", remedy)
    else:
        state = "writable" if root.exists() else "will be made by the first study"
        yield _found("workspace", f"{root}, {state}")


def _disk(workspace: Workspace) -> Iterator[Check]:
    free = shutil.disk_usage(_existing(workspace.root)).free / 2**30
    remedy = f"a study and its pictures want about {LOW_DISK_GIB:.0f} GiB" if free < LOW_DISK_GIB else None
    yield _found("disk", f"{free:.1f} GiB free", remedy, bad=Status.WARN)


def _existing(path: Path) -> Path:
    """The nearest folder upwards that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
