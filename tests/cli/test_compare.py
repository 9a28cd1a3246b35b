from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy

Call = Callable[..., Any]


@pytest.fixture
def workspace(tmp_path: Path, swept_study: Path, copied: Callable[[Path, Path], Path]) -> Path:
    """A copy of the swept study's workspace: what is compared are fronts of points."""
    return copied(swept_study, tmp_path / "workspace")


def worse_by(workspace: Path, share: float) -> None:
    """Rewrite what a workspace remembers, as if every trial and every user had got less by that share."""
    database = sqlalchemy.create_engine(f"sqlite:///{workspace / 'optuna.db'}")
    with database.begin() as connection:
        connection.execute(sqlalchemy.text(f"UPDATE trial_values SET value = value * {1 - share}"))
        attributes = "trial_user_attributes WHERE key = 'outcome'"
        for row, text in connection.execute(
            sqlalchemy.text(f"SELECT trial_user_attribute_id, value_json FROM {attributes}")
        ).all():
            outcome = json.loads(text)
            for point in outcome["points"]:
                point["metrics"] = {name: value * (1 - share) for name, value in point["metrics"].items()}
            connection.execute(
                sqlalchemy.text(
                    "UPDATE trial_user_attributes SET value_json = :text WHERE trial_user_attribute_id = :row"
                ),
                {"text": json.dumps(outcome), "row": row},
            )
    database.dispose()
    for path in (workspace / "users" / "tiny").glob("*.npz"):
        with np.load(path) as arrays:
            less = {
                name: array * np.float32(1 - share) if name.startswith("values/") else array
                for name, array in arrays.items()
            }
        np.savez(path, **less)


@pytest.fixture
def other(tmp_path: Path, workspace: Path) -> Path:
    """The same study in another workspace, half as good."""
    folder = Path(shutil.copytree(workspace, tmp_path / "other"))
    worse_by(folder, 0.5)
    return folder


@pytest.mark.slow
def test_a_run_leaves_what_each_user_got_from_each_point(cli: Call, workspace: Path) -> None:
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    names = {row["name"] for row in (*front["rows"], *front["dominated"])}
    kept = {path.stem for path in (workspace / "users" / "tiny").iterdir()}
    assert kept == {name.partition(".")[0] for name in names} == {"0", "1", "2"}
    for trial in kept:
        with np.load(workspace / "users" / "tiny" / f"{trial}.npz") as arrays:
            assert {"values/iid/ndcg_at_20", "values/ood/ndcg_at_20", "users/iid", "users/ood"} < set(arrays)
            points = sum(name.partition(".")[0] == trial for name in names)
            assert len(arrays["values/iid/ndcg_at_20"]) == points


def test_a_study_does_not_regress_from_itself(cli: Call, workspace: Path, spec: Path) -> None:
    answer = cli("study", "compare", "tiny", spec, "--workspace", workspace)
    assert (answer.code, answer.err) == (0, "")
    assert "A and B have the same data, configuration and space" in answer.out
    assert "3 trials each (3 at the same points, the same users drawn for both)" in answer.out
    assert "relative +0.0% [+0.0%, +0.0%]" in answer.out
    assert answer.out.splitlines()[-1].startswith("not regressed: B regressed if the whole 95% interval")


def test_a_regressed_front_exits_with_four_and_prints_its_figures_all_the_same(
    cli: Call, workspace: Path, other: Path
) -> None:
    answer = cli("study", "compare", "tiny", "--workspace-a", workspace, "--workspace-b", other)
    assert answer.code == 4
    assert answer.out.splitlines()[-1].startswith("regressed: ")
    assert "relative -75.0% [-7" in answer.out
    assert answer.err.startswith("painvrl: the front of 'tiny' regressed: ")
    assert answer.err.count("\n") == 1
    # The other way round it is a gain, and a margin is forgiven.
    assert cli("study", "compare", "tiny", "--workspace-a", other, "--workspace-b", workspace).code == 0
    forgiven = cli(
        "study", "compare", "tiny", "--workspace", workspace, "--workspace-b", other, "--margin", 0.9
    )
    assert forgiven.code == 0
    assert "lies below -90.0%" in forgiven.out


def test_json_has_both_fronts_and_the_verdict(cli: Call, workspace: Path, other: Path) -> None:
    answer = cli("study", "compare", "tiny", "--workspace", workspace, "--workspace-b", other, "--json")
    reported = json.loads(answer.out)
    assert (answer.code, reported["regressed"], reported["users"]) == (4, True, "paired")
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    assert {point["name"] for point in reported["a"]["front"]} == {row["name"] for row in front["rows"]}
    assert reported["a"]["hypervolume"] == front["hypervolume"]
    assert reported["relative"]["value"] == pytest.approx(-0.75)
    assert reported["relative"]["low"] < -0.75 < reported["relative"]["high"] < 0
    assert reported["level"] == 0.95
    less = cli(
        "study", "compare", "tiny", "--workspace", workspace, "--workspace-b", other, "--json", "--level", 0.5
    )
    assert json.loads(less.out)["relative"]["high"] < reported["relative"]["high"]


def test_the_page_is_written_even_where_the_front_regressed(
    cli: Call, tmp_path: Path, workspace: Path, other: Path
) -> None:
    page = tmp_path / "pages" / "two.html"
    answer = cli("study", "compare", "tiny", "--workspace", workspace, "--workspace-b", other, "--html", page)
    assert answer.code == 4
    text = page.read_text(encoding="utf-8")
    assert "A tiny, B tiny: hypervolume -75.0% [" in text
    assert "regressed" in text
    assert "Plotly.newPlot" in text
    assert '<script src="http' not in text


def test_a_study_from_before_users_were_kept_is_compared_over_its_trials(cli: Call, workspace: Path) -> None:
    shutil.rmtree(workspace / "users")
    answer = cli("study", "compare", "tiny", "tiny", "--workspace", workspace)
    assert answer.code == 0
    assert "users not drawn" in answer.out
    (note,) = re.findall(r"note: what each user got is not kept of (\d+) of the (\d+) points", answer.out)
    assert note[0] == note[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["tiny"], "error: B: is needed where both studies lie in one place"),
        (["tiny", "tini"], "no such study; there are tiny (found 'tini')"),
        (
            ["tiny", "tiny", "--margin", "-0.1"],
            "error: margin: must be a share from 0 to below 1 (found -0.1)",
        ),
        (["tiny", "tiny", "--level", "95"], "error: level: must be a share from 0.5 to below 1 (found 95.0)"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_two(
    cli: Call, finished_study: tuple[Path, Any], arguments: list[str], complaint: str
) -> None:
    answer = cli("study", "compare", *arguments, "--workspace", finished_study[0])
    assert (answer.code, answer.out) == (2, "")
    assert complaint in answer.err
    assert answer.err.count("\n") == 1


def test_the_help_documents_the_exit_code(cli: Call) -> None:
    assert "4 the front regressed" in " ".join(cli("--help").out.split())
    assert "exits with 4" in " ".join(cli("study", "compare", "--help").out.split())
