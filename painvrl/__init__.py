"""painvrl: the trade-off front between in- and out-of-distribution recommendation quality.

These names are the public Python API. They stay as they are within a minor version; all else is internal, but
for what docs/extending.md imports. Importing the package loads none of its heavy dependencies.

    import painvrl

    study = painvrl.run_study("studies/movielens.yaml", trials=10)
    study.front()
    study.pick("knee")
    report = study.train()
    painvrl.load_model(report.checkpoint).recommend("1")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from painvrl.api.model import Model, load_model
    from painvrl.api.study import Study, open_study, run_study
    from painvrl.api.training import train
    from painvrl.core.errors import NothingFeasible, UserError
    from painvrl.run.config import TrainConfig
    from painvrl.study.file.spec import StudySpec

__version__ = "0.2.0.dev0"

__all__ = [
    "Model",
    "NothingFeasible",
    "Study",
    "StudySpec",
    "TrainConfig",
    "UserError",
    "load_model",
    "open_study",
    "run_study",
    "train",
]

_WHERE = {
    "Model": "painvrl.api.model",
    "load_model": "painvrl.api.model",
    "Study": "painvrl.api.study",
    "open_study": "painvrl.api.study",
    "run_study": "painvrl.api.study",
    "train": "painvrl.api.training",
    "NothingFeasible": "painvrl.core.errors",
    "UserError": "painvrl.core.errors",
    "TrainConfig": "painvrl.run.config",
    "StudySpec": "painvrl.study.file.spec",
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'painvrl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
