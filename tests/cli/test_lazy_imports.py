from __future__ import annotations

import subprocess
import sys

import pytest

# pydantic is not among them: Typer itself imports it for the type of an option.
HEAVY = {"torch", "mlflow", "optuna", "pandas", "numpy", "sqlalchemy", "rich", "plotly", "ray"}


def loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that are loaded when ``painvrl ARGUMENTS`` ends."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('MODULES', *{name.split('.')[0] for name in sys.modules}))\n"
        f"sys.argv = ['painvrl', *{arguments!r}]\n"
        "from painvrl.cli import main\n"
        "main()"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return set(out.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["study", "--help"],
        ["study", "run", "--help"],
        ["study", "front", "--help"],
        ["study", "pick", "--help"],
        ["study", "report", "--help"],
        ["study", "validate", "--help"],
        ["study", "schema", "--help"],
        ["init", "--help"],
        ["data", "list", "--help"],
        ["data", "inspect", "--help"],
        ["data", "encode", "--help"],
        ["baselines", "--help"],
        ["recommend", "--help"],
        ["export", "--help"],
        ["serve", "--help"],
        ["ui", "--help"],
        ["doctor", "--help"],
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments).isdisjoint(HEAVY)


def test_version_prints_the_packages_version() -> None:
    import painvrl

    out = subprocess.run(
        [sys.executable, "-m", "painvrl.cli", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert out == f"painvrl {painvrl.__version__}\n"
