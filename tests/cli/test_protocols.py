"""Every protocol from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml, parse_yaml
from painvrl.engine.outcomes import Completed
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]

SPLITS: dict[str, tuple[dict[str, object], str]] = {
    "popularity": ({"gamma": 1.5}, "ood"),
    "graded": ({"protocol": "popularity", "gamma": [0, 0.5, 1]}, "ood_gamma_0.5"),
    "cold_item": ({"ood_candidates": "all"}, "ood"),
    "temporal": ({"ood_share": 0.1, "force": True}, "ood"),
    "temporal_user": ({"ood_share": 0.1}, "ood"),
    "item_group": ({"column": "genre", "hold_out": ["Drama", "Horror"]}, "ood"),
    "clusters": ({"protocol": "item_group", "clusters": 12}, "ood"),
    "user_group": ({"column": "city", "share": 0.1}, "ood"),
    "official": ({"ood": {"protocol": "item_group", "column": "genre"}}, "ood"),
    "given": ({"parts": {"a": "train", "b": "ood_far_valid"}}, "ood_far"),
}


def study(split: dict[str, object], part: str) -> dict[str, object]:
    return {
        "study": {"name": "shift", "trials": 2, "sampler": "random"},
        "objectives": ["iid/ndcg_at_5", f"{part}/ndcg_at_5"],
        "config": {
            "data": {
                "kind": "table",
                "path": "rows.csv",
                "time": "when",
                "columns": ["part"],
                "core": 1,
                "item_table": {"path": "items.csv", "key": "id", "columns": ["genre"]},
                "user_table": {"path": "users.csv", "key": "id", "columns": ["city"]},
                "files": {"look": {"path": "items.csv", "key": "id", "values": ["x", "y"]}},
            },
            "split": split,
            "backbone": {"id_dim": 4, "content_dim": 4},
            "training": {"max_epochs": 4, "evaluate_every": 2},
            "environments": {"count": 2, "restarts": 1, "steps": 3},
            "mask": {"steps": 3},
            "rounds": 1,
        },
        "space": {"mask.sparsity": {"type": "float", "low": 0.0, "high": 0.8}},
    }


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(split: dict[str, object], part: str = "ood") -> Path:
        path = tmp_path / "shift.yaml"
        path.write_text(dump_yaml(study(split, part)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tables(tmp_path: Path) -> None:
    """120 users, 40 items and 1,800 rows with times and parts, in the current directory."""
    rng = np.random.default_rng(0)
    pairs = rng.choice(120 * 40, 1800, replace=False)
    parts = ["train"] * 8 + ["iid_valid", "iid_test"]
    parts += [f"ood_{name}_{half}" for name in ("far", "near") for half in ("valid", "test")]
    rows = {
        "user": pairs // 40,
        "item": pairs % 40,
        "when": rng.integers(0, 90, 1800),
        "part": rng.choice(parts, 1800),
    }
    pd.DataFrame(rows).to_csv("rows.csv", index=False)
    x, y = rng.normal(size=(2, 40))
    genre = rng.choice(list("abcdefgh"), 40)
    pd.DataFrame({"id": range(40), "x": x, "y": y, "genre": genre}).to_csv("items.csv", index=False)
    pd.DataFrame({"id": range(120), "city": rng.choice(list("ABCDEFGH"), 120)}).to_csv(
        "users.csv", index=False
    )


@pytest.mark.parametrize("name", SPLITS)
def test_a_dry_run_accepts_every_protocol_and_writes_its_defaults_out(
    cli: Call, file: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    settings, part = SPLITS[name]
    split = {"protocol": name, **settings}
    answer = cli("study", "run", file(split, part), "--dry-run", "--workspace", tmp_path / "none")
    assert (answer.code, answer.err) == (0, "")
    shown: Any = parse_yaml(answer.out)
    found = shown["config"]["split"]
    assert found["protocol"] == split["protocol"]
    assert {key: found[key] for key in settings if key != "ood"} == {
        key: value for key, value in settings.items() if key != "ood"
    }
    assert shown["objectives"][1] == f"{part}/ndcg_at_5"


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"protocol": "temporal", "share": 0.1}, "config.split.share: is no key of protocol temporal"),
        (
            {"protocol": "temporal", "ood_share": 1.5},
            "config.split.ood_share: must be less than 1 (found 1.5)",
        ),
        ({"protocol": "popularity", "gamma": [1, 0]}, "config.split.gamma: a list of gammas must rise"),
        ({"protocol": "popularity", "gamma": -1}, "config.split.gamma: must be greater than or equal to 0"),
        (
            {"protocol": "item_group"},
            "config.split: item_group needs either column or clusters (found neither)",
        ),
        ({"protocol": "user_group"}, "config.split.column: is missing"),
        (
            {"protocol": "item_group", "column": "genre", "hold_out": ["Drama"]},
            "config.split.hold_out: must name at least 2 different groups",
        ),
        ({"protocol": "given", "parts": {"x": "ood"}}, "config.split.parts: labels must stand for train, "),
        (
            {"protocol": "official", "ood": {"protocol": "temporal"}},
            "config.split.ood.protocol: is not a known choice",
        ),
    ],
)
def test_a_mistake_in_a_split_is_one_line_with_its_key(
    cli: Call, file: Callable[..., Path], split: dict[str, object], said: str
) -> None:
    answer = cli("study", "run", file(split), "--dry-run")
    assert answer.code == 2
    assert re.search(rf"shift\.yaml:\d+:\d+: {re.escape(said)}", answer.err)
    assert len(answer.err.splitlines()) == 1


FAST = ("temporal", "user_group")
SLOW = ("temporal_user", "item_group")


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_study_trains_environments_a_mask_and_a_branch_on_data_with_columns(
    cli: Call, file: Callable[..., Path], tables: None, new_workspace: Path, name: str
) -> None:
    settings: dict[str, object] = {"column": {"item_group": "genre", "user_group": "city"}.get(name)}
    if name.startswith("temporal"):
        settings = {"force": True, "ood_share": 0.4} if name == "temporal" else {}
    path = file({"protocol": name, **settings})
    answer = cli(
        *("study", "run", path, "--workspace", new_workspace, "--device", "cpu"),
        *("--set", "presets=[]", "--trials", 1),  # the presets come first, and the first has no environments
    )
    said = [line for line in answer.err.splitlines() if "is chosen from few candidates" not in line]
    assert (answer.code, said) == (0, [])
    rows = {line.split()[0] for line in answer.out.splitlines() if line.split()}
    assert {"train", "iid_valid", "iid_test", "ood_valid", "ood_test"} <= rows
    assert ("support" in rows) is (name == "user_group")
    stored = open_study("shift", Workspace(new_workspace))
    (record,) = stored.trials()
    config, outcome = stored.config_of(record), record.outcome
    assert config == stored.config
    assert isinstance(outcome, Completed)
    assert list(outcome.epochs) == ["pretrain", "invariant", "variant"]
    (learned,) = outcome.rounds
    sizes = [size for key, size in learned.items() if key.startswith("environments/size_")]
    assert len(sizes) == config.environments.count
    assert min(sizes) > 0
    assert learned["mask/sparsity"] == config.mask.sparsity == 0.5, "one of the two features"


@pytest.mark.slow
def test_several_ood_parts_go_from_a_column_to_the_test_table(
    cli: Call, file: Callable[..., Path], tables: None, new_workspace: Path
) -> None:
    path = file({"protocol": "given"}, "ood_far")
    answer = cli("study", "run", path, "--workspace", new_workspace, "--device", "cpu")
    assert (answer.code, "nothing is searched" in answer.err) == (0, True)
    front = json.loads(cli("study", "front", "--json", "--workspace", new_workspace).out)
    metrics = front["rows"][0]["metrics"]
    assert {name.partition("/")[0] for name in metrics} == {"iid", "ood", "ood_far", "ood_near"}
    trained = cli("train", "--best", "--workspace", new_workspace, "--device", "cpu")
    assert trained.code == 0
    lines = {" ".join(line.split()[:2]): line.split() for line in trained.out.splitlines()}
    for part in ("IID", "OOD", "OOD_FAR", "OOD_NEAR"):
        row = lines[f"{part} ndcg_at_5"]
        assert len(row) == 5, "part, metric, the trial's valid, the retrained valid, test"
        assert "-" not in row
    assert "repeat the trial's to the last digit" in trained.out


def test_an_objective_of_a_part_that_the_data_lack_is_refused_before_anything_is_trained(
    cli: Call, file: Callable[..., Path], tables: None, new_workspace: Path
) -> None:
    path = file({"protocol": "given"}, "ood_elsewhere")
    answer = cli("study", "run", path, "--workspace", new_workspace, "--device", "cpu")
    assert answer.code == 2
    assert "objectives.1: the split has no such part; it has iid, ood_far, ood_near, ood" in answer.err


def test_too_few_users_at_the_end_of_time_are_refused(
    cli: Call, file: Callable[..., Path], tables: None, new_workspace: Path
) -> None:
    path = file({"protocol": "temporal", "ood_share": 0.1})
    answer = cli("study", "run", path, "--workspace", new_workspace, "--device", "cpu")
    assert answer.code == 2
    assert "split.ood_share: the last 0.1 of the interactions leave ood_valid too few users" in answer.err
