"""A workspace that an older version made elsewhere continues; see ``tests/old_workspace/README.md``."""

from __future__ import annotations

import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace

Call = Callable[..., Any]


@pytest.fixture
def as_it_was(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The unpacked folder, which is the current one."""
    with tarfile.open(repository / "tests" / "old_workspace" / "shop-80f12ae.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.fixture
def shop(as_it_was: Path, cli: Call) -> Path:
    """The same, after ``painvrl workspace upgrade``."""
    assert cli("workspace", "upgrade").code == 0
    return as_it_was


def stored_identity(shop: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
    """What the database says of the study, after a change to it."""
    of = "FROM study_user_attributes WHERE key = 'painvrl:identity'"
    with closing(sqlite3.connect(shop / "workspace" / "optuna.db")) as database, database:
        identity: dict[str, Any] = json.loads(database.execute(f"SELECT value_json {of}").fetchone()[0])
        change(identity)
        row = (json.dumps(identity),)
        database.execute(
            "UPDATE study_user_attributes SET value_json = ? WHERE key = 'painvrl:identity'", row
        )
    return identity


def test_it_is_answered_with_the_command_that_upgrades_it(cli: Call, as_it_was: Path) -> None:
    before = stored_identity(as_it_was)
    answer = cli("study", "front")
    assert answer.code == 2
    assert "shop: was made by a version of painvrl" in answer.err
    assert "`painvrl workspace upgrade`" in answer.err
    assert json.loads(cli("workspace", "upgrade", "--json").out)["studies"]["shop"] > 0
    after = stored_identity(as_it_was)
    assert after["config"]["training"]["monitor"] == before["config"]["training"]["watch"]
    assert cli("study", "front").code == 0


def test_its_front_and_its_model_are_what_they_were(cli: Call, shop: Path) -> None:
    front = json.loads(cli("study", "front", "--json").out)
    before = json.loads((shop / "front.json").read_text())
    assert [(row["trial"], row["values"]) for row in front["rows"]] == [
        (row["trial"], row["values"]) for row in before["rows"]
    ]
    assert cli("study", "status").code == 0
    recommended = json.loads(cli("recommend", "--user", "3", "-k", "3", "--json").out)
    assert recommended["items"] == json.loads((shop / "recommended.json").read_text())["items"]


@pytest.mark.slow
def test_its_study_goes_on_and_its_pick_is_trained(cli: Call, shop: Path) -> None:
    run = cli("study", "run", "shop.yaml", "--trials", "4", "--device", "cpu")
    assert run.code == 0, run.err
    assert "study shop continues: 3 of 4 trials are there" in run.out
    trained = cli("train", "--best", "--device", "cpu")
    assert trained.code == 0, trained.err
    assert "it is the pick 'knee'" in trained.out
    assert "registered model: models:/shop/2" in trained.out
    assert not Path("/srv/shop").exists()


@pytest.mark.slow
def test_its_artifacts_are_found_at_the_new_place(cli: Call, shop: Path) -> None:
    assert cli("study", "report").code == 0
    with closing(sqlite3.connect(Workspace(shop / "workspace").mlflow_db)) as database:
        artifacts = database.execute("SELECT artifact_uri FROM runs").fetchall()
        (model,) = database.execute("SELECT storage_location FROM model_versions").fetchone()
    assert len(artifacts) == 5
    assert all((shop / uri.removeprefix(f"{shop.as_uri()}/")).is_dir() for (uri,) in artifacts)
    assert (shop / model.removeprefix(f"{shop.as_uri()}/") / "MLmodel").is_file()


@pytest.mark.slow
def test_settings_of_reading_that_are_gone_or_new_do_not_stop_a_study_on_the_same_data(
    cli: Call, shop: Path
) -> None:
    def older(identity: dict[str, Any]) -> None:
        identity["config"]["data"] |= {"duplicates": "drop", "path": "elsewhere/interactions.csv"}

    stored_identity(shop, older)
    assert cli("study", "front").code == 0
    run = cli("study", "run", "shop.yaml", "--trials", "4", "--device", "cpu")
    assert run.code == 0, run.err
    assert stored_identity(shop)["config"]["data"]["path"] == "data/interactions.csv"


def test_a_study_with_settings_that_this_version_does_not_know_is_refused_in_one_line(
    cli: Call, shop: Path
) -> None:
    stored_identity(shop, lambda identity: identity["config"].update(unheard_of=1))
    for command in (["study", "front"], ["study", "run", "shop.yaml"], ["train", "--best"]):
        answer = cli(*command)
        assert answer.code == 2
        (line,) = answer.err.splitlines()
        assert "shop: was made by a version of painvrl whose settings this one does not know" in line
