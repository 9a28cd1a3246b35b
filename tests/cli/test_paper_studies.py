"""The studies of the paper's data sets: they run as soon as the folder that they name is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import parse_yaml
from painvrl.engine.outcomes import Completed
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]
STUDIES = {"tiktok": "data/tiktok", "kwai": "data/kwai", "movielens-paper": "data/movielens"}
FEATURES = {"tiktok": 19, "kwai": 6, "movielens-paper": 18}
"""Columns of the features that :func:`write` makes: six of numbers each, and Tiktok's seven words."""
U, I = 40, 60


def write(study: str) -> Path:
    """A small folder with the study's own files."""
    folder = Path(STUDIES[study])
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    affinity, content = rng.standard_normal((U, 4)), rng.standard_normal((I, 4))
    scores = affinity @ content.T + rng.gumbel(size=(U, I))
    best = np.argsort(-scores, axis=1)[:, :14] + U
    users = np.arange(U)
    np.save(folder / "train.npy", np.stack([users.repeat(10), best[:, :10].reshape(-1)], axis=1))
    np.save(folder / "val_full.npy", ragged([users, best[:, 10:12]]))
    np.save(folder / "test_full.npy", ragged([users, best[:, 12:]]))
    np.save(folder / "user_item_dict.npy", {user: set(best[user, :10].tolist()) for user in range(U)})  # type: ignore[arg-type]
    visual = np.concatenate([content, rng.standard_normal((I, 2))], axis=1).astype(np.float32)
    if study == "movielens-paper":
        for name in ("FeatureVideo_normal", "FeatureAudio_avg_normal", "FeatureText_stl_normal"):
            np.save(folder / f"{name}.npy", visual)
        return folder
    torch.save(torch.from_numpy(visual), folder / "feat_v.pt")
    if study == "tiktok":
        torch.save(torch.from_numpy(visual), folder / "feat_a.pt")
        torch.save(torch.from_numpy(np.stack([np.arange(I), np.arange(I) % 7])), folder / "feat_t.pt")
    return folder


def ragged(columns: list[np.ndarray]) -> np.ndarray:
    """Rows of a user and items as an array of objects, the first one shorter."""
    users, items = columns
    rows = np.empty(len(users), dtype=object)
    for place, (user, taken) in enumerate(zip(users.tolist(), items.tolist(), strict=True)):
        rows[place] = [user, *(taken if place else taken[:1])]
    return rows


@pytest.mark.parametrize("study", STUDIES)
def test_a_dry_run_checks_the_file_without_the_data(cli: Call, repository: Path, study: str) -> None:
    answer = cli("study", "run", repository / "studies" / f"{study}.yaml", "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    spec: Any = parse_yaml(answer.out, file="stdout")
    assert spec["study"]["name"] == study
    assert spec["config"]["data"]["kind"] == "mmgcn"
    assert spec["config"]["data"]["path"] == STUDIES[study]


@pytest.mark.parametrize("study", STUDIES)
def test_without_its_folder_a_study_says_in_one_line_what_it_needs(
    cli: Call, repository: Path, new_workspace: Path, study: str
) -> None:
    spec = repository / "studies" / f"{study}.yaml"
    answer = cli("study", "run", spec, "--workspace", new_workspace)
    assert answer.code == 2
    (line,) = answer.err.splitlines()
    assert (
        f"{STUDIES[study]}: data.path: there is no such folder under the current directory {Path.cwd()}"
        in line
    )
    for needed in ("train.npy, val_full.npy, test_full.npy", "feat_v", "github.com/weiyinwei/MMGCN"):
        assert needed in line


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_with_its_folder_the_own_point_of_a_study_trains_environments_a_mask_and_a_branch(
    cli: Call, repository: Path, new_workspace: Path, study: str
) -> None:
    write(study)
    spec = repository / "studies" / f"{study}.yaml"
    answer = cli(
        *("study", "run", spec, "--workspace", new_workspace, "--device", "cpu"),
        *("--set", "presets=[]", "--trials", 1),  # the presets come first, and the first has no environments
    )
    assert answer.code == 0, answer.err
    assert all("chosen from few candidates" in line for line in answer.err.splitlines()), "60 items are few"
    (trial,) = [line for line in answer.out.splitlines() if line.startswith("[1/1")]
    assert "iid/ndcg_at_20 0." in trial
    front = json.loads(cli("study", "front", "--json", "--workspace", new_workspace).out)
    assert front["study"] == study
    assert {(row["trial"], row["preset"]) for row in front["rows"]} == {(0, None)}, "points of one training"
    stored = open_study(study, Workspace(new_workspace))
    (record,) = stored.trials()
    config, outcome = stored.config_of(record), record.outcome
    assert config == stored.config == stored.config_of(record.points[0])
    assert isinstance(outcome, Completed)
    assert list(outcome.epochs) == ["pretrain", "invariant", "variant"]
    assert len(outcome.rounds) == config.rounds
    for learned in outcome.rounds:
        sizes = [size for name, size in learned.items() if name.startswith("environments/size_")]
        assert len(sizes) == config.environments.count == 4
        assert min(sizes) > 0
        assert 0 < learned["mask/sparsity"] == pytest.approx(config.mask.sparsity, abs=0.5 / FEATURES[study])
