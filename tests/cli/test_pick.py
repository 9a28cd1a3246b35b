"""`painvrl study pick`, and what follows it: the pictures of `study front`, and `train --best`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.study.store.records import front_of, named
from painvrl.study.store.storage import open_study

Call = Callable[..., Any]
Finished = tuple[Path, Any]

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"


@pytest.fixture
def workspace(tmp_path: Path, swept_study: Path, copied: Callable[[Path, Path], Path]) -> Path:
    """A copy of the swept study's workspace: picks are points."""
    return copied(swept_study, tmp_path / "workspace")


def front(cli: Call, workspace: Path) -> list[dict[str, Any]]:
    """The rows of the front."""
    return list(json.loads(cli("study", "front", "--json", "--workspace", workspace).out)["rows"])


def picked(cli: Call, workspace: Path, *rule: object) -> dict[str, Any]:
    """What a rule picked, as JSON."""
    answer = cli("study", "pick", *rule, "--json", "--workspace", workspace)
    assert (answer.code, answer.err) == (0, "")
    parsed = json.loads(answer.out)
    assert isinstance(parsed, dict)
    return parsed


def mlflow_client(workspace: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=Workspace(workspace).tracking_uri)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "alias", "label"),
    [
        (["--knee"], "knee", "knee"),
        (["--iid"], "iid", "iid"),
        (["--ood"], "ood", "ood"),
        (["--balanced"], "balanced", "balanced"),
        (["--max-ood-with-iid", "98%"], "max-ood-with-iid", "max-ood-with-iid 98%"),
        (["--max-ood-with-iid", "0.98"], "max-ood-with-iid", "max-ood-with-iid 98%"),
        (["--weights", f"{IID}=1,{OOD}=2"], "weights", f"weights {IID}=1,{OOD}=2"),
        (["--reference", f" {IID} = 0.2 , {OOD}=5e-2"], "reference", f"reference {IID}=0.2,{OOD}=0.05"),
        (["--trial", "0.0"], "trial", "trial 0.0"),
    ],
)
def test_each_rule_picks_and_is_stored_under_its_own_name(
    cli: Call, workspace: Path, rule: list[str], alias: str, label: str
) -> None:
    pick = picked(cli, workspace, *rule)
    assert (pick["study"], pick["alias"], pick["rule"]) == ("tiny", alias, label)
    if rule[0] != "--trial":
        name = "{trial}.{place}".format_map(pick)
        assert name in [row["name"] for row in front(cli, workspace)]
    listed = json.loads(cli("study", "pick", "--list", "--json", "--workspace", workspace).out)
    del pick["study"]
    assert listed == {"study": "tiny", "picks": [pick]}


@pytest.mark.slow
def test_the_ends_are_the_best_of_the_front(cli: Call, workspace: Path) -> None:
    rows = front(cli, workspace)
    for rule, name in (("--iid", IID), ("--ood", OOD)):
        assert picked(cli, workspace, rule)["values"][name] == max(row["values"][name] for row in rows)
    assert (
        picked(cli, workspace, "--max-ood-with-iid", "0%")["trial"]
        == picked(cli, workspace, "--ood")["trial"]
    )
    assert (
        picked(cli, workspace, "--max-ood-with-iid", "100%")["trial"]
        == picked(cli, workspace, "--iid")["trial"]
    )


def test_a_pick_is_one_line_with_its_reason_and_shows_on_its_run_in_mlflow(
    cli: Call, workspace: Path
) -> None:
    answer = cli("study", "pick", "tiny", "--iid", "--as", "mine", "--workspace", workspace)
    assert (answer.code, answer.err) == (0, "")
    head, _, reason = answer.out.rstrip().partition(" of tiny: ")
    name, _, trial = head.partition(" = trial ")
    assert name == "mine"
    assert reason.startswith(f"it has the best {IID} of the ")
    records = open_study(None, Workspace(workspace)).trials()
    point = named(records, trial)
    assert point is not None
    run_id = point.run_id
    client = mlflow_client(workspace)
    assert client.get_run(run_id).data.tags["pick.mine"] == reason
    gone = cli("study", "pick", "--clear", "mine", "--workspace", workspace)
    assert gone.out == f"mine is no longer a pick of tiny (it was trial {trial})\n"
    assert "pick.mine" not in client.get_run(run_id).data.tags


def test_who_picks_by_another_rule_hears_which_picks_stay(cli: Call, workspace: Path) -> None:
    for rule in ("--knee", "--balanced"):
        said = cli("study", "pick", rule, "--workspace", workspace).out.splitlines()
    assert "\n".join(said[1:]) == (
        "also picked: knee. Of several, `train --best` needs one by --pick NAME; "
        "`painvrl study pick --clear NAME` forgets one"
    )


def test_the_list_gives_each_pick_its_standing_rule_and_reason(cli: Call, workspace: Path) -> None:
    empty = cli("study", "pick", "--list", "--workspace", workspace)
    assert empty.out == "nothing is picked in tiny; `painvrl study pick tiny --knee` would pick the knee\n"
    cli("study", "pick", "--iid", "--workspace", workspace)
    cli("study", "pick", "--ood", "--workspace", workspace)
    lines = cli("study", "pick", "--list", "--workspace", workspace).out.splitlines()
    assert [line.split(" = ")[0] for line in lines] == ["iid", "ood"]
    assert all("(on the front), by " in line and ": it has the best " in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "pick: needs exactly one of --knee, --iid"),
        (["--knee", "--iid"], "(found '--knee and --iid')"),
        (["--list", "--clear", "iid"], "(found '--list and --clear')"),
        (["--list", "--as", "mine"], "--as: does not go with --list"),
        (["--knee", "--as", "latest"], "--as: is reserved"),
        (["--knee", "--as", "V7"], "--as: is reserved"),
        (["--knee", "--as", "a b"], "--as: holds letters, digits, _ and - only"),
        (["--clear", "iid"], "no such pick; there is none"),
        (["--max-ood-with-iid", "98"], "must be a share of the best IID, such as 98% or 0.98 (found '98')"),
        (["--max-ood-with-iid", "much"], "must be a share"),
        (["--max-ood-with-iid", "nan"], "must be a share"),
        (["--max-iid-with-loeo", "98"], "--max-iid-with-loeo: must be a share of the best left-out metric"),
        (["--max-iid-with-loeo", "90%"], "max-iid-with-loeo: needs an objective loeo/... of the study"),
        (["--weights", f"{IID}"], f"reads OBJECTIVE=NUMBER,OBJECTIVE=NUMBER, such as {IID}=1"),
        (["--weights", f"{IID}=1,{IID}=2"], "--weights: names an objective twice"),
        (["--weights", f"{IID}=-1"], f"the weight of {IID} must be a number of at least 0 and at most 1e"),
        (["--weights", "iid/recall_at_20=1"], f"is no objective of the study; it has {IID}, {OOD} (found"),
        (["--reference", f"{IID}=inf"], f"the value of {IID} must be finite"),
        (["--trial", "9"], "no such trial (found '9')"),
        (["other", "--knee"], "no such study"),
    ],
)
def test_a_pick_that_means_nothing_is_one_line_and_stores_nothing(
    cli: Call, finished_study: Finished, arguments: list[str], words: str
) -> None:
    workspace, _ = finished_study
    answer = cli("study", "pick", *arguments, "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert words in answer.err
    assert json.loads(cli("study", "pick", "--list", "--json", "--workspace", workspace).out)["picks"] == []


def test_train_best_follows_the_only_pick_and_its_model_is_loaded_by_the_alias(
    cli: Call, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc
    import pandas as pd

    from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint

    chosen = picked(cli, workspace, "--trial", "1.0", "--as", "mine")
    answer = cli("train", "--best", "--device", "cpu", "--workspace", workspace)
    assert answer.code == 0
    assert answer.out.startswith(f"trial 1.0 of the study: it is the pick 'mine': {chosen['reason']}")
    assert "alias: models:/tiny@mine" in answer.out.splitlines()
    assert "repeat the trial's to the last digit" in answer.out
    version = mlflow_client(workspace).get_model_version_by_alias("tiny", "mine")
    for said in (version.description, version.tags["picked"]):
        assert said.startswith(f"it is the pick 'mine': {chosen['reason']}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Workspace(workspace).tracking_uri)
    model = mlflow.pyfunc.load_model("models:/tiny@mine")
    found = model.predict(pd.DataFrame({"user": ["7"]}), params={"k": 4})
    checkpoint = load_checkpoint(latest_checkpoint(Workspace(workspace).checkpoints))
    assert found["item"].tolist() == [one.item for one in checkpoint.recommend("7", k=4)]


@pytest.mark.slow
def test_the_alias_moves_to_the_version_that_was_trained_last(cli: Call, workspace: Path) -> None:
    for version, trial in enumerate(("0.0", "1.0"), start=1):
        cli("study", "pick", "--trial", trial, "--workspace", workspace)
        out = cli("train", "--best", "--device", "cpu", "--workspace", workspace).out
        assert "alias: models:/tiny@trial" in out
        found = mlflow_client(workspace).get_model_version_by_alias("tiny", "trial")
        assert int(found.version) == version
        assert f"trial {trial} was asked for by its number" in found.description


@pytest.mark.slow
def test_several_picks_need_a_name_or_a_rule(cli: Call, workspace: Path) -> None:
    ends = {name: picked(cli, workspace, f"--{name}") for name in ("iid", "ood")}
    end = "{trial}.{place}".format_map(ends["ood"])
    answer = cli("train", "--best", "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        "error: pick: the study has several picks; name one with --pick, or give a rule with --prefer "
        "(found 'iid, ood')\n"
    )
    assert not Workspace(workspace).test_reads.exists()
    named = cli("train", "--best", "--pick", "ood", "--device", "cpu", "--workspace", workspace)
    assert named.out.startswith(f"trial {end} of the study: it is the pick 'ood'")
    assert "alias: models:/tiny@ood" in named.out
    by_rule = cli("train", "--best", "--prefer", "knee", "--device", "cpu", "--workspace", workspace)
    assert "alias: models:/tiny@knee" in by_rule.out


@pytest.mark.slow
def test_a_tag_in_mlflow_wins_over_a_pick_and_sets_no_alias(cli: Call, workspace: Path) -> None:
    picked(cli, workspace, "--trial", "0.0")
    tagged = front_of(open_study(None, Workspace(workspace)).trials())[-1]
    mlflow_client(workspace).set_tag(tagged.run_id, "selected", "true")
    answer = cli("train", "--best", "--pick", "trial", "--device", "cpu", "--workspace", workspace)
    assert answer.out.startswith(f"trial {tagged.name} of the study: ")
    assert "which wins over the pick 'trial'" in answer.out
    assert "alias:" not in answer.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--best", "--pick", "mine"], "no such pick; there is none; `painvrl study pick` makes one"),
        (["--best", "--pick", "mine", "--prefer", "iid"], "give only one of --prefer and --pick"),
        (["--best", "--pick", "mine", "--trial", "1"], "give only one of --pick and --trial"),
        (["config.yaml", "--pick", "mine"], "--pick: only works with --best"),
    ],
)
def test_a_pick_that_is_not_there_or_contradicts_is_refused(
    cli: Call, finished_study: Finished, arguments: list[str], words: str
) -> None:
    answer = cli("train", *arguments, "--workspace", finished_study[0])
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_a_pick_whose_trial_is_gone_is_one_clear_error(cli: Call, workspace: Path) -> None:
    from painvrl.study.choice.picks import Pick, store_pick

    lost = Pick(alias="mine", trial=42, rule="knee", reason="it bends", values={})
    store_pick(open_study(None, Workspace(workspace)), lost)
    answer = cli("train", "--best", "--workspace", workspace)
    (line,) = [one for one in answer.err.splitlines() if not one.startswith("note: ")]
    assert answer.code == 2
    assert line.startswith("error: pick mine: its trial 42 cannot be trained again: ")
    assert "mine = trial 42 (no longer there), by knee: it bends" in (
        cli("study", "pick", "--list", "--workspace", workspace).out
    )


def test_the_front_draws_itself_in_a_pipe_without_colours(cli: Call, workspace: Path) -> None:
    picked(cli, workspace, "--iid")
    plain = cli("study", "front", "--workspace", workspace)
    answer = cli("study", "front", "--plot", "--workspace", workspace)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(plain.out)
    assert "\x1b" not in answer.out
    drawn = answer.out.removeprefix(plain.out)
    assert f"{OOD} against {IID}" in drawn
    assert "ood/recall_at_20 against iid/recall_at_20" in drawn
    assert "★ picked: trial " in drawn


def test_a_terminal_gets_colours_and_a_picture_as_wide_as_it_is(
    cli: Call, finished_study: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    out = cli("study", "front", "--plot", "--workspace", finished_study[0]).out
    assert "\x1b[38;5;" in out
    import plotext

    borders = [line for line in plotext.uncolorize(out).splitlines() if line.rstrip().endswith("┐")]
    assert [len(line.rstrip()) for line in borders] == [60, 60]


def test_the_front_is_written_as_a_png_and_as_an_offline_page(
    cli: Call, finished_study: Finished, tmp_path: Path
) -> None:
    png, page = tmp_path / "front.png", tmp_path / "pages" / "front.html"
    answer = cli("study", "front", "--png", png, "--html", page, "--json", "--workspace", finished_study[0])
    assert answer.code == 0
    assert answer.err == f"picture: {png}\npicture: {page}\n"
    rows = json.loads(answer.out)["rows"]
    assert png.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    assert all(
        f"<b>trial {row['name']}<" in text.replace("\\u003c", "<").replace("\\u003e", ">") for row in rows
    )
    assert 'src="http' not in text


def test_the_studys_own_run_has_the_same_page(cli: Call, finished_study: Finished) -> None:
    workspace, _ = finished_study
    (artifact,) = Workspace(workspace).artifacts.rglob("front.html")
    text = artifact.read_text(encoding="utf-8")
    planes = {axis for axis in ("recall", "ndcg") if f'"ood\\u002f{axis}_at_20"' in text}
    assert planes == {"recall", "ndcg"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "--json"], "--plot: does not go with --json"),
        (["--png", "."], "the picture cannot be written"),
        (["--html", "."], "the picture cannot be written"),
    ],
)
def test_a_picture_that_cannot_be_is_one_line(
    cli: Call, finished_study: Finished, arguments: list[str], words: str
) -> None:
    answer = cli("study", "front", *arguments, "--workspace", finished_study[0])
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert words in answer.err
