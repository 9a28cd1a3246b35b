from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from painvrl.cli import app
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec

Call = Callable[..., Any]
Finished = tuple[Path, Any]


def artifacts(workspace: Path) -> list[Path]:
    return sorted((workspace / "mlartifacts").rglob("report.html"))


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory,
    cli: Call,
    tiny_config: TrainConfig,
    spec_of: Callable[..., StudySpec],
    empty_mlflow: Path,
) -> Path:
    """A workspace of this module's own: artifacts of a copied one would go to where it was copied from."""
    folder = tmp_path_factory.mktemp("tracked")
    shutil.copy(empty_mlflow, folder)
    (folder / "tiny.yaml").write_text(dump_yaml(spec_of(tiny_config, trials=2)), encoding="utf-8")
    assert cli("study", "run", folder / "tiny.yaml", "--workspace", folder, "--device", "cpu").code == 0
    return folder


@pytest.fixture
def untracked(workspace: Path) -> Path:
    """The finished tiny study without its MLflow store."""
    (workspace / "mlflow.db").unlink()
    shutil.rmtree(workspace / "mlartifacts")
    return workspace


def test_a_run_leaves_its_report_with_the_studys_own_run(finished_study: Finished) -> None:
    workspace, _ = finished_study
    pages = list(artifacts(workspace))  # those of copies of this workspace, too: MLflow's paths are absolute
    assert pages
    for page in pages:
        assert (page.parent / "front.html").exists(), "beside the front's picture, in the parent run"
    titles = [page.read_text(encoding="utf-8").partition("</title>")[0] for page in pages]
    assert any(title.endswith("<title>tiny: report") for title in titles)
    assert not (workspace / "reports").exists()


def test_the_report_is_written_to_the_workspace_and_to_mlflow(cli: Call, tracked: Path) -> None:
    workspace = tracked
    (artifact,) = artifacts(workspace)
    artifact.write_text("an old report")
    answer = cli("study", "report", "--workspace", workspace)
    page = workspace / "reports" / "tiny.html"
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == [
        f"report: {page}",
        "also the artifact report.html of the study's run in MLflow",
    ]
    assert list(page.parent.iterdir()) == [page]
    assert artifact.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    for part in ("train", "iid_valid", "ood_valid"):
        assert f"<td>{part}</td>" in text
    assert "random, seed 0, 10 start-up trials" in text
    assert 'id="picture-weights"' in text, "real trials keep how their masks were learned"
    page.unlink()
    page.parent.rmdir()


def test_another_file_and_a_named_study(cli: Call, untracked: Path, tmp_path: Path, spec: Path) -> None:
    for which in ("tiny", spec):
        page = tmp_path / f"{Path(which).stem}-page.html"
        answer = cli("study", "report", which, "-o", page, "--workspace", untracked)
        assert answer.code == 0
        assert page.stat().st_size > 4_000_000
    assert not (untracked / "reports").exists()


def test_json_prints_the_figures_and_writes_nothing(cli: Call, tracked: Path) -> None:
    workspace = tracked

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    (artifact,) = artifacts(workspace)
    before = artifact.stat().st_mtime_ns
    assert cli("study", "pick", "--knee", "--workspace", workspace).code == 0
    answer = cli("study", "report", "--json", "--workspace", workspace)
    report = json.loads(answer.out, parse_constant=refuse)
    front = json.loads(cli("study", "front", "--json", "--workspace", workspace).out)
    assert report["front"] == front
    assert front["picks"]
    assert report["history"][-1]["hypervolume"] == pytest.approx(front["hypervolume"])
    assert [moment["finished"] for moment in report["history"]] == [1, 2]
    traced = report["weights"][0]["points"]
    assert 0 < len(traced) <= 20 * 2
    assert all(0 <= point["epsilon"] <= 1 for point in traced)
    assert not (workspace / "reports").exists()
    assert artifact.stat().st_mtime_ns == before
    refused = cli("study", "report", "--json", "-o", "x.html", "--workspace", workspace)
    assert refused.code == 2
    assert "--output" in refused.err


def test_the_report_of_a_real_study_says_how_much_of_its_front_is_luck(cli: Call, swept_study: Path) -> None:
    luck = json.loads(cli("study", "report", "--json", "--workspace", swept_study).out)["luck"]
    front = json.loads(cli("study", "front", "--json", "--workspace", swept_study).out)
    assert luck["note"] is None
    assert luck["points"] == len(front["rows"]) + len(front["dominated"])
    assert 0 < luck["fresh"] < luck["chosen"]
    assert 0 < luck["survivors"] < luck["front"]
    assert [best["objective"] for best in luck["best"]] == front["objectives"]
    assert all(best["fresh"] < best["chosen"] for best in luck["best"])


def test_a_study_without_mlflow_still_has_its_report(cli: Call, untracked: Path) -> None:
    answer = cli("study", "report", "--workspace", untracked)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"report: {untracked / 'reports' / 'tiny.html'}\n"
    assert not (untracked / "mlflow.db").exists()


def test_a_run_that_mlflow_lost_is_a_warning(cli: Call, workspace: Path, empty_mlflow: Path) -> None:
    shutil.copy(empty_mlflow, workspace / "mlflow.db")
    answer = cli("study", "report", "--workspace", workspace)
    assert answer.code == 0
    assert (workspace / "reports" / "tiny.html").exists()
    assert answer.err.startswith("warning: it is not in MLflow: ")


def test_a_study_of_failures_alone_exits_with_three_and_writes_no_file(
    cli: Call,
    tmp_path: Path,
    new_workspace: Path,
    tiny_config: TrainConfig,
    spec_of: Callable[[TrainConfig], StudySpec],
) -> None:
    training = tiny_config.training.model_copy(update={"learning_rate": 1e30})
    spec = tmp_path / "failing.yaml"
    spec.write_text(dump_yaml(spec_of(tiny_config.model_copy(update={"training": training}))))
    assert cli("study", "run", spec, "--workspace", new_workspace, "--trials", 1).code == 3
    for option in ([], ["--json"]):
        answer = cli("study", "report", *option, "--workspace", new_workspace)
        assert (answer.code, answer.out) == (3, "")
        assert "has no complete trial: all 1 failed; the last said diverged" in answer.err
    assert not (new_workspace / "reports").exists()
    assert artifacts(new_workspace) == []


def test_a_report_that_cannot_be_written_is_a_mistake_of_one_line(cli: Call, workspace: Path) -> None:
    answer = cli("study", "report", "-o", workspace, "--workspace", workspace)
    assert (answer.code, answer.out) == (2, "")
    assert str(workspace) in answer.err
    assert len(answer.err.splitlines()) == 1


def test_the_commands_that_the_report_shows_exist(cli: Call, untracked: Path, tmp_path: Path) -> None:
    root = typer.main.get_command(app)
    path = tmp_path / "report.html"
    cli("study", "report", "-o", path, "--workspace", untracked)
    rows = re.findall(r"<tr><td><code>painvrl (.*)</code></td>", path.read_text(encoding="utf-8"))
    assert len(rows) == 6
    for shown in rows:
        assert "tiny" in shown or shown == "ui"
        words = shown.split()
        command: Any = root
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options


@pytest.fixture
def browser() -> Iterator[Any]:
    """A real browser, offline."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_without_a_network_draws_every_picture(
    cli: Call, untracked: Path, tmp_path: Path, browser: Any
) -> None:
    path = tmp_path / "report.html"
    assert cli("study", "report", "-o", path, "--workspace", untracked).code == 0
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    requests: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    page.goto(path.as_uri(), wait_until="load")
    names = re.findall(r'id="(picture-[a-z]+)"', path.read_text(encoding="utf-8"))
    assert len(names) >= 4
    for name in names:
        page.wait_for_selector(f"#{name} .main-svg", timeout=60_000)
    assert trouble == []
    # Plotly makes pictures of its own canvas as blobs; nothing else is asked for.
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == [path.as_uri()]
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1300, "nothing runs over the page's edge"
