"""The rules that hold the house together, where import-linter cannot say them."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("torch", "mlflow", "optuna", "pandas", "ray", "sqlalchemy", "plotly", "sklearn", "scipy")


def modules(repository: Path) -> list[Path]:
    return sorted((repository / "painvrl").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, at whatever depth, type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def users_of(repository: Path, package: str) -> set[str]:
    return {
        path.relative_to(repository / "painvrl").as_posix()
        for path in modules(repository)
        if any(name.split(".")[0] == package for name in imported(path))
    }


def test_mlflow_appears_only_where_studies_are_tracked_and_models_are_registered(repository: Path) -> None:
    assert all(path.startswith(("study/tracking/", "serving/")) for path in users_of(repository, "mlflow"))


def test_optuna_appears_only_in_the_study(repository: Path) -> None:
    assert all(path.startswith("study/") for path in users_of(repository, "optuna"))


def test_typer_appears_only_in_the_command_line(repository: Path) -> None:
    assert all(
        path.startswith("cli/") for path in users_of(repository, "typer") | users_of(repository, "click")
    )


@pytest.mark.parametrize("module", ["stats/dominance", "study/choice/candidates", "study/choice/rules"])
def test_the_front_and_its_rules_are_computed_without_the_rest(repository: Path, module: str) -> None:
    names = {name.split(".")[0] for name in imported(repository / "painvrl" / f"{module}.py")}
    assert names - set(sys.stdlib_module_names) <= {"moocore", "numpy", "painvrl"}


def test_no_file_of_python_lies_in_the_servers_folder(repository: Path) -> None:
    assert list((repository / "mlflow").rglob("*.py*")) == []
    assert not (repository / "mlflow" / "__pycache__").exists()


@pytest.mark.slow
def test_mlflow_is_the_package_even_from_the_repositorys_root(repository: Path) -> None:
    program = "import mlflow.version; print(mlflow.version.VERSION)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().startswith("3.")


@pytest.mark.parametrize(
    "module",
    ["painvrl", "painvrl.cli", "painvrl.core.errors", "painvrl.core.workspace", "painvrl.run.checkpoint"],
)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(out.split()).isdisjoint(HEAVY)


def test_no_module_sets_threads_or_environment_when_it_is_imported(repository: Path) -> None:
    for path in modules(repository):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                continue
            text = ast.unparse(node)
            assert "set_num_threads" not in text, path
            assert "environ[" not in text, path
            assert "basicConfig" not in text, path


def test_every_module_of_the_package_has_its_place_in_the_layers(repository: Path) -> None:
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = {one["id"]: one for one in pyproject["tool"]["importlinter"]["contracts"]}
    placed = {name.strip() for layer in contracts["layers"]["layers"] for name in layer.split("|")}
    there = {
        path.stem
        for path in (repository / "painvrl").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }
    assert there == placed
    sources = {module.removeprefix("painvrl.") for module in contracts["typer"]["source_modules"]}
    assert sources == there - {"cli"}
    assert all(path.is_dir() for path in (repository / "painvrl").iterdir() if path.stem in there)


def test_every_public_name_of_the_package_has_a_docstring(repository: Path) -> None:
    missing = [
        f"{path.relative_to(repository)}: {node.name}"
        for path in modules(repository)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert missing == []
