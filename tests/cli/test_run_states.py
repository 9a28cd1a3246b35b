"""Where the states of runs under way are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run import state
from painvrl.run.config import TrainConfig

Call = Callable[..., Any]


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Where states were saved; every offer is taken."""
    found: set[Path] = set()
    save = state.StateFile.save

    def noted(self: state.StateFile, make: Callable[[], Mapping[str, Any]]) -> None:
        save(self, make)
        found.update(path.parent for path in Path.cwd().rglob("*.pt") if path.name == f"{self._key}.pt")

    monkeypatch.setattr(state, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(state, "MOST_SHARE", math.inf)
    monkeypatch.setattr(state.StateFile, "save", noted)
    return found


@pytest.mark.slow
def test_they_are_kept_in_the_workspace_or_where_the_option_says(
    cli: Call, spec: Path, tiny_config: TrainConfig, tmp_path: Path, folders: set[Path]
) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(dump_yaml(tiny_config))
    for command in (("study", "run", spec, "--trials", 1, "--yes"), ("train", config)):
        for options, expected in (((), "w/run_states"), (("--run-states", "shared"), "shared")):
            folders.clear()
            name = f"{command[0]}-{len(options)}"
            place = tmp_path / name
            place.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(place)
                answer = cli(*command, "--workspace", "w", "--device", "cpu", *options)
                assert answer.code == 0, answer.err
            assert folders == {place / expected}


def test_their_folder_is_made_absolute_as_the_workspace_is(tmp_path: Path) -> None:
    assert Workspace(tmp_path).run_states == tmp_path / "run_states"
    assert Workspace(tmp_path, Path("shared")).run_states == Path.cwd() / "shared"
