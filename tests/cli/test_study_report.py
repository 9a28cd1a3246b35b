from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import typer

from painvrl.cli import app
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import StudySpec
from painvrl.study.plots.theme import DARK, PAPER
from painvrl.study.report.watch import EVERY
from painvrl.study.store.lock import study_lock
from painvrl.study.store.records import TrialRecord
from painvrl.study.store.storage import StoredStudy

Call = Callable[..., Any]
Finished = tuple[Path, Any]

PATIENCE = 120_000
"""Milliseconds that a page may take on a busy machine; nothing waits for longer than it must."""


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_gate_is_asked_once_and_stands_in_every_later_report(cli: Call, untracked: Path) -> None:
    before = json.loads(cli("study", "report", "--json", "--workspace", untracked).out)
    assert before["gate"] is None
    asked = json.loads(cli("study", "report", "--gate", "--json", "--workspace", untracked).out)["gate"]
    assert asked["figures"]["reads"] == ["train", "iid_valid", "ood_valid"]
    assert asked["sentences"][0].startswith("specification gate: ")
    answer = cli("study", "report", "-o", "page.html", "--workspace", untracked)
    assert answer.code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert asked["figures"]["verdict"].partition(":")[0] in page
    for row in asked["table"]["rows"]:
        assert all(f">{cell}</td>" in page for cell in row)


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


def test_json_and_watch_do_not_go_together(cli: Call, untracked: Path) -> None:
    answer = cli("study", "report", "--json", "--watch", "--workspace", untracked)
    assert answer.code == 2
    assert "--watch" in answer.err


def test_watching_a_study_that_nobody_runs_writes_its_report_once(cli: Call, untracked: Path) -> None:
    answer = cli("study", "report", "--watch", "--workspace", untracked)
    page = untracked / "reports" / "tiny.html"
    assert (answer.code, answer.out) == (0, f"report: {page}\n")
    assert '"refresh": null' in page.read_text(encoding="utf-8"), "an open page stays as it is"


def test_watching_a_study_that_runs_renews_an_open_page_until_ctrl_c(
    cli: Call, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("painvrl.study.report.watch.time.sleep", interrupted)
    place = Workspace(untracked)
    with study_lock(place.lock_path("tiny"), "tiny"):
        answer = cli("study", "report", "--watch", "--workspace", untracked)
    page = place.reports / "tiny.html"
    assert (answer.code, answer.out) == (130, f"report: {page}\n")
    assert "interrupted; the report stays as it was written last" in answer.err
    assert f'"refresh": {EVERY}' in page.read_text(encoding="utf-8")


def test_a_study_that_runs_and_has_no_front_yet_is_waited_for(
    cli: Call, untracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, real = Workspace(untracked), StoredStudy.trials
    looks: list[int] = []

    def trials(study: StoredStudy) -> tuple[TrialRecord, ...]:
        return real(study) if looks else ()

    with ExitStack() as run:
        run.enter_context(study_lock(place.lock_path("tiny"), "tiny"))

        def first_trials(seconds: float) -> None:
            assert not place.reports.exists()
            looks.append(1)
            run.close()

        monkeypatch.setattr(StoredStudy, "trials", trials)
        monkeypatch.setattr("painvrl.study.report.watch.time.sleep", first_trials)
        assert cli("study", "report", "--watch", "--workspace", untracked).code == 0
    assert list(place.reports.iterdir()) == [place.reports / "tiny.html"]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def written(cli: Call, tracked: Path) -> Path:
    """The page of a study whose trials have runs in MLflow."""
    path = tracked / "elsewhere" / "report.html"
    assert cli("study", "report", "-o", path, "--workspace", tracked).code == 0
    return path


@pytest.fixture
def page(browser: Any, written: Path) -> Iterator[Any]:
    """It, open on a large screen; whatever its script stumbles over fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    trouble: list[str] = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda line: trouble.append(line.text) if line.type == "error" else None)
    opened.goto(written.as_uri())
    yield opened
    context.close()
    assert trouble == []


def names_shown(page: Any) -> list[str]:
    """The points in the table, from the top."""
    shown = page.locator("#points tbody tr").evaluate_all(
        "rows => rows.filter(row => !row.hidden).map(row => row.dataset.name)"
    )
    return list(shown)


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_without_a_network_draws_every_picture(page: Any, written: Path) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    names = re.findall(r'id="(picture-[a-z]+)"', written.read_text(encoding="utf-8"))
    assert len(names) >= 4
    for name in names:
        page.wait_for_selector(f"#{name} .main-svg")
    # Plotly makes pictures of its own canvas as blobs; nothing else is asked for.
    assert [url for url in requests if not url.startswith(("blob:", "data:"))] == [written.as_uri()]


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_fits_every_width_and_its_front_comes_first_and_large(page: Any) -> None:
    for width in (1400, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(f"document.querySelector('#picture-front .main-svg').clientWidth <= {width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        front = page.locator("#picture-front").bounding_box()
        assert front["width"] > 0.9 * width - 30
        assert front["y"] < 600, "on the first screen"
    domains = page.evaluate("[front.layout.xaxis.domain, front.layout.xaxis2.domain]")
    assert domains == [[0, 1], [0, 1]], "below each other on a telephone"


@pytest.mark.browser
@pytest.mark.slow
def test_in_the_dark_the_page_and_its_pictures_are_dark(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"front.layout.paper_bgcolor === '{DARK[PAPER]}'")
    pictures = page.evaluate("pictures.map(picture => picture.layout.paper_bgcolor)")
    assert set(pictures) == {DARK[PAPER]}
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb({}, {}, {})".format(*bytes.fromhex(DARK[PAPER].removeprefix("#")))
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"front.layout.paper_bgcolor === '{PAPER}'")


@pytest.mark.browser
@pytest.mark.slow
def test_the_table_is_sorted_by_keyboard_in_both_directions(page: Any) -> None:
    head = page.get_by_role("columnheader", name="mask.sparsity")
    values = "rows => rows.map(row => Number(row.cells[4].dataset.value))"
    assert page.locator("#points th").nth(4).inner_text() == "mask.sparsity"
    for direction, backwards in (("ascending", False), ("descending", True), ("ascending", False)):
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == direction
        shown = page.locator("#points tbody tr").evaluate_all(values)
        assert shown == sorted(shown, reverse=backwards)
        assert len(set(shown)) > 1
    page.get_by_role("columnheader", name="trial").get_by_role("button").click()
    assert page.locator("#points [aria-sort]").count() == 1


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


@pytest.mark.browser
@pytest.mark.slow
def test_a_selection_is_one_in_the_front_the_lines_and_the_table(page: Any) -> None:
    from playwright.sync_api import expect

    everybody = names_shown(page)
    (x, y), name = page.evaluate(
        """() => {
            const trace = front.data.find(each => each.name.startsWith("front ("));
            const layout = front._fullLayout;
            const box = front.getBoundingClientRect();
            return [[box.x + layout._size.l + layout.xaxis.d2p(trace.x[0]),
                     box.y + layout._size.t + layout.yaxis.d2p(trace.y[0])], trace.customdata[0]];
        }"""
    )
    drag(page, (x - 25, y - 25), (x + 25, y + 25))
    expect(page.locator("#chosen")).to_have_text(f"1 of {len(everybody)} selected")
    assert names_shown(page) == [name]
    selected = """front.data.filter(each => each.xaxis === 'x2')
        .flatMap(each => (each.selectedpoints ?? []).map(at => each.customdata[at]))"""
    assert set(page.evaluate(selected)) == {name}, "on the other plane, too"
    lit = "lines.data[0].customdata.filter((_, at) => lines.data[0].line.color[at])"
    assert page.evaluate(lit) == [name]
    page.get_by_role("button", name="Show all").click()
    assert names_shown(page) == everybody

    page.locator("#picture-parallel").scroll_into_view_if_needed()
    axis = page.locator("#picture-parallel .background").first.bounding_box()  # mask.sparsity
    middle = axis["x"] + axis["width"] / 2
    drag(page, (middle, axis["y"] + axis["height"] - 60), (middle, axis["y"] + axis["height"] - 2))
    expect(page.locator("#chosen")).to_have_text(f"1 of {len(everybody)} selected")
    lowest = page.evaluate(
        """() => {
            const {customdata, dimensions} = lines.data[0], values = dimensions[0].values;
            return customdata[values.indexOf(Math.min(...values))];
        }"""
    )
    assert names_shown(page) == [lowest]
    assert set(page.evaluate(selected)) == {lowest}
    page.get_by_role("button", name="Show all").click()
    assert names_shown(page) == everybody
    assert page.evaluate("lines.data[0].dimensions.every(axis => !axis.constraintrange)")


@pytest.mark.browser
@pytest.mark.slow
def test_a_point_and_a_row_lead_to_their_run_in_mlflow(page: Any, cli: Call, tracked: Path) -> None:
    front = json.loads(cli("study", "front", "--json", "--workspace", tracked).out)["rows"]
    name, run_id = front[0]["name"], front[0]["run_id"]
    link = page.locator(f'#points tr[data-name="{name}"] a')
    experiment = re.fullmatch(
        rf"http://127\.0\.0\.1:5000/#/experiments/(\d+)/runs/{run_id}", link.get_attribute("href")
    )
    assert experiment is not None
    page.context.route("http://127.0.0.1:5000/", lambda route: route.fulfill(body="MLflow"))
    with page.expect_popup() as opened:
        page.evaluate(f"front.emit('plotly_click', {{points: [{{customdata: '{name}'}}]}})")
    opened.value.wait_for_url(link.get_attribute("href"))


@pytest.mark.browser
@pytest.mark.slow
def test_a_picture_is_saved_under_its_study_and_section(page: Any) -> None:
    for section in ("front", "parallel"):
        with page.expect_download() as download:
            page.locator(f"#picture-{section} [data-title^=Download]").click()
        assert download.value.suggested_filename == f"tiny-{section}.png"
        assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
