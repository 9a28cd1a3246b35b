"""The studies of shifts that can reward invariance, on MovieLens as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.engine.outcomes import Completed
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]
WIDTHS = {"era": 3, "wrong-modality": 4}
"""How many modalities the items have, which is how many gates the mask has."""


@pytest.mark.slow
@pytest.mark.parametrize("study", WIDTHS)
def test_the_study_learns_a_gate_a_modality_on_known_environments(
    cli: Call, repository: Path, new_workspace: Path, study: str
) -> None:
    spec = repository / "studies" / f"{study}.yaml"
    answer = cli(
        *("study", "run", spec, "--workspace", new_workspace, "--device", "cpu", "--trials", 2),
        *("--set", "presets=[irm]", "--set", "config.training.max_epochs=20"),
    )
    assert answer.code == 0, answer.err
    front = json.loads(cli("study", "front", "--json", "--workspace", new_workspace).out)
    assert front["study"] == study
    stored = open_study(study, Workspace(new_workspace))
    for record in stored.trials():
        config, outcome = stored.config_of(record), record.outcome
        assert config.environments.assignment == "column"
        assert isinstance(outcome, Completed)
        (learned,) = outcome.rounds
        assert sum(name.startswith("environments/size_") for name in learned) == (3 if study == "era" else 2)
        assert learned["environments/moved_share"] == 1.0
        # One gate of all is closed, and with it a whole modality.
        assert 0 < learned["mask/sparsity"] < 1


@pytest.mark.slow
def test_every_row_of_the_arms_is_trained_and_stands_in_the_table(
    cli: Call, repository: Path, new_workspace: Path
) -> None:
    answer = cli(
        *("study", "run", repository / "studies" / "arms.yaml", "--workspace", new_workspace),
        *("--device", "cpu", "--set", "ablation.seeds=[0, 1]", "--set", "config.training.max_epochs=10"),
    )
    assert answer.code == 0, answer.err
    table = json.loads((new_workspace / "ablations" / "arms" / "table.json").read_text("utf-8"))
    figures = {row["name"]: row["figures"]["ndcg"]["ood"]["mean"] for row in table["rows"]}
    assert len(figures) == 12
    assert min(figures.values()) > 0
    assert figures["oracle"] != figures["all"], "a modality was closed by hand"
