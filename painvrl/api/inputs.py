"""What the functions of the Python API take: files, mappings, or what was read of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from painvrl.core.workspace import Workspace

if TYPE_CHECKING:
    from painvrl.run.config import TrainConfig
    from painvrl.study.file.spec import StudySpec

PathLike: TypeAlias = str | Path
Tree: TypeAlias = Mapping[str, Any]
DEFAULT_WORKSPACE = "workspace"
"""The folder that the command line uses, too."""


def config_of(config: TrainConfig | Tree | PathLike) -> tuple[TrainConfig, str]:
    """A configuration and its label: a file's stem, else ``config``.

    Raises:
        ConfigError: it breaks a rule.
    """
    from painvrl.core.yamlfile import load_settings, validated
    from painvrl.run.config import TrainConfig

    if isinstance(config, str | Path):
        return load_settings(Path(config), TrainConfig), Path(config).stem
    return config if isinstance(config, TrainConfig) else validated(TrainConfig, config), "config"


def spec_of(spec: StudySpec | Tree | PathLike, values: Mapping[str, object]) -> StudySpec:
    """A study's specification with values by their path in place of its own, as ``--set`` gives them.

    Raises:
        ConfigError: it breaks a rule.
    """
    import json

    from painvrl.core.yamlfile import validated
    from painvrl.study.file.overrides import with_overrides
    from painvrl.study.file.spec import StudySpec, check_spec, load_spec

    overrides = [f"{path}={json.dumps(value, default=_plain)}" for path, value in values.items()]
    if isinstance(spec, str | Path):
        return load_spec(Path(spec), overrides)
    tree = spec.model_dump(mode="json") if isinstance(spec, StudySpec) else spec
    found = validated(StudySpec, with_overrides(tree, overrides))
    check_spec(found)
    return found


def place_of(workspace: Workspace | PathLike) -> Workspace:
    """The workspace of a folder."""
    return workspace if isinstance(workspace, Workspace) else Workspace(Path(workspace))


def _plain(value: object) -> object:
    """A number of NumPy's as one of Python's."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)
