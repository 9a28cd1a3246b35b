"""MLflow as a person uses it: a browser on ``painvrl ui``, from the study's link to a retrained model.

Two environment variables serve the documents' pictures: PAINVRL_SCREENSHOTS names a folder to save them in,
PAINVRL_SCREENSHOTS_OF the workspace of a finished study to walk through in place of the tiny one (one of
its runs is tagged and retrained).
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import dump_yaml
from painvrl.run.checkpoint import latest_checkpoint, load_checkpoint
from painvrl.run.config import TrainConfig
from painvrl.study.choice.candidates import axes_of
from painvrl.study.choice.selection import select
from painvrl.study.file.spec import StudySpec
from painvrl.study.store.records import TrialRecord, complete, front_of
from painvrl.study.store.storage import StoredStudy, open_study
from painvrl.study.tracking.mlflow_calls import mlflow_calls
from painvrl.study.tracking.mlflow_notes import front_link
from painvrl.study.tracking.mlflow_view import ON_FRONT

CHROMIUM = shutil.which("chromium")
TRIALS = 6
PATIENCE = (
    60_000  # milliseconds that a page may take on a busy machine; nothing waits for longer than it must
)
COLOURS = 128  # in a picture: enough for a page of text and lines, and small
SIZE = {"width": 1280, "height": 800}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    # Only a missing browser is a reason to skip: one that does not start is a failure.
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@dataclass(frozen=True)
class Seen:
    """A finished study, and where its UI is served.

    Attributes:
        link: the study's own, with the address of the UI that runs here.
    """

    workspace: Workspace
    stored: StoredStudy
    link: str

    @property
    def front(self) -> list[TrialRecord]:
        """The storage's front, the best by the first objective first."""
        return sorted(
            front_of(self.stored.trials()), key=lambda each: (each.values or (0.0,))[0], reverse=True
        )

    @property
    def drawn(self) -> dict[str, tuple[float, float]]:
        """What the storage has of the runs that the view draws, on its axes, by the runs' names."""
        axes = axes_of(self.stored.objectives)
        places = [self.stored.objectives.index(str(axis)) for axis in axes]
        drawn = {}
        for record in complete(self.stored.trials()):
            iid, ood = ((record.values or ())[place] for place in places)
            drawn[self.run_name(record)] = (iid, ood)
        return drawn

    def run_name(self, record: TrialRecord) -> str:
        return f"{self.stored.name}-{record.number:03d}"

    def history(self, record: TrialRecord, metric: str) -> list[tuple[int, float]]:
        with mlflow_calls(self.workspace.tracking_uri):
            from mlflow.tracking import MlflowClient

            client = MlflowClient(tracking_uri=self.workspace.tracking_uri)
            return [(point.step, point.value) for point in client.get_metric_history(record.run_id, metric)]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: TrainConfig,
    spec_of: Callable[..., StudySpec],
    empty_mlflow: Path,
    cli: Callable[..., Any],
) -> tuple[Workspace, str]:
    """A finished study's workspace, and the link that the run printed last."""
    if given := os.environ.get("PAINVRL_SCREENSHOTS_OF"):
        workspace = Workspace(Path(given))
        return workspace, str(front_link(open_study(None, workspace), workspace))
    folder = tmp_path_factory.mktemp("browser")
    workspace = Workspace(folder / "workspace").create()
    shutil.copy(empty_mlflow, workspace.mlflow_db)
    spec = folder / "tiny.yaml"
    spec.write_text(dump_yaml(spec_of(tiny_config, trials=TRIALS)), encoding="utf-8")
    answer = cli("study", "run", spec, "--workspace", workspace.root, "--device", "cpu")
    assert answer.code == 0, answer.err
    return workspace, str(answer.out.splitlines()[-1])


@pytest.fixture(scope="module")
def seen(finished: tuple[Workspace, str]) -> Iterator[Seen]:
    """``painvrl ui`` on the finished study."""
    workspace, link = finished
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "painvrl.cli", "ui", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--workspace", str(workspace.root)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            address, front = server.stdout.readline().split()[2], server.stdout.readline()
            rebased = link.replace("http://127.0.0.1:5000", address)
            stored = open_study(None, workspace)
            assert front == f"front of {stored.name}: {rebased}\n", "both commands print the same link"
            yield Seen(workspace, stored, rebased)
        finally:
            server.terminate()
            server.wait(timeout=60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, cut off from everything but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",  # which chromium refuses to root, and containers to chromium
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, seen: Seen) -> Iterator[Any]:
    """The page behind the study's link, for somebody who was never there."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    context = browser.new_context(viewport=SIZE)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    opened.goto(seen.link)
    opened.get_by_role(
        "button", name="Close", exact=True
    ).click()  # MLflow's assistant, open on a first visit
    yield opened
    context.close()


@pytest.fixture
def shoot(page: Any) -> Callable[[str], None]:
    """Saves a picture of the page, if pictures are wanted."""
    folder = os.environ.get("PAINVRL_SCREENSHOTS")

    def save(name: str) -> None:
        if folder:
            from PIL import Image

            page.mouse.move(0, 0)
            page.evaluate("document.activeElement.blur()")
            page.get_by_role("tooltip").wait_for(state="detached")
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.quantize(COLOURS).save(Path(folder) / f"{name}.png", optimize=True)

    return save


def runs(page: Any, study: str) -> Any:
    """The links to runs in the list."""
    return page.get_by_role("link", name=re.compile(rf"^{study}-\d+$"))


def open_run(page: Any, seen: Seen, record: TrialRecord) -> None:
    runs(page, seen.stored.name).get_by_text(seen.run_name(record), exact=True).click()
    page.get_by_role("heading", name=seen.run_name(record)).wait_for()


def open_artifact(page: Any, name: str) -> None:
    page.get_by_test_id("artifact-tree-node").filter(has_text=name).click()


def tag(page: Any, key: str, value: str) -> Any:
    """Type a tag into the form of the run's page; the button that saves it."""
    page.get_by_role("button", name="Edit tags").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").fill(key)
    page.get_by_text(f'Add tag "{key}"').click()
    form.get_by_label("Value").fill(value)
    form.get_by_role("button", name="Add tag").click()
    return form.get_by_role("button", name="Save tags")


def scatter(page: Any) -> Any:
    """The view's first chart."""
    return page.locator(".js-plotly-plot", has=page.locator(".scatterlayer .trace")).first


def test_the_printed_link_opens_a_scatter_of_every_trial_with_the_front_in_red(
    page: Any, seen: Seen, shoot: Callable[[str], None]
) -> None:
    from playwright.sync_api import expect

    drawn, front = seen.drawn, {seen.run_name(record) for record in seen.front}
    assert 2 <= len(front) < len(drawn), "the study shows something"
    expect(page.get_by_text(f"{len(drawn)} matching run")).to_be_visible()
    expect(scatter(page)).to_be_visible()
    points = scatter(page).evaluate(
        "plot => plot.data[0].x.map((x, place) => [plot.data[0].customdata[place][1], x, "
        "plot.data[0].y[place], plot.data[0].marker.color[place]])"
    )
    assert {name: (iid, ood) for name, iid, ood, _ in points} == drawn
    assert {name for name, _, _, colour in points if colour == ON_FRONT} == front
    size = scatter(page).bounding_box()
    assert size["width"] > SIZE["width"] / 2, "large enough to read"
    listed = runs(page, seen.stored.name).all_inner_texts()
    assert set(listed[: len(front)]) == front or len(front) > len(listed), "the front comes first"
    shoot("mlflow-front")


def test_the_view_goes_on_with_parallel_coordinates_and_a_table_of_objectives_and_hyperparameters(
    page: Any, seen: Seen
) -> None:
    from playwright.sync_api import expect

    scatter(page).hover()
    page.mouse.wheel(0, 470)
    expect(page.get_by_text("Parallel Coordinates")).to_be_visible()
    page.goto(seen.link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    heads = page.get_by_role("columnheader")
    for name in (*seen.stored.objectives, next(iter(seen.stored.space.root))):
        expect(heads.filter(has_text=name).first).to_be_visible()


def test_a_point_of_the_scatter_leads_to_its_run_and_the_run_to_its_data(page: Any, seen: Seen) -> None:
    from playwright.sync_api import expect

    record = seen.front[0]
    expect(scatter(page)).to_be_visible()
    x, y = scatter(page).evaluate(
        """(plot, name) => {
            const [trace, layout] = [plot.data[0], plot._fullLayout];
            const place = trace.customdata.findIndex(each => each[1] === name);
            return [layout.xaxis.d2p(trace.x[place]) + layout._size.l,
                    layout.yaxis.d2p(trace.y[place]) + layout._size.t];
        }""",
        seen.run_name(record),
    )
    box = scatter(page).bounding_box()
    page.mouse.move(box["x"] + x - 2, box["y"] + y)
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.get_by_text("X (", exact=False).wait_for()
    with page.expect_popup() as opened:
        page.get_by_role("link", name=seen.run_name(record), exact=True).last.click()
    run = opened.value
    run.get_by_role("heading", name=seen.run_name(record)).wait_for()
    kind = seen.stored.config_of(record).data.kind
    run.get_by_role("button", name=re.compile(rf"^{kind} \(")).click()
    expect(run.get_by_role("dialog")).to_contain_text(kind)


def test_a_run_shows_its_curves_and_its_configuration(
    page: Any, seen: Seen, shoot: Callable[[str], None]
) -> None:
    from playwright.sync_api import expect

    record = seen.front[0]
    open_run(page, seen, record)
    page.get_by_role("tab", name="Model metrics").click()
    search = page.get_by_placeholder("Search metric charts")
    for metric in ("training/pretrain/loss", f"training/invariant/{seen.stored.objectives[-1]}"):
        search.fill(metric)
        chart = page.get_by_test_id("experiment-view-compare-runs-card")
        expect(chart).to_have_count(1)
        expect(chart).to_contain_text(f"({metric})")
        expect(chart.locator(".scatterlayer .trace").first).to_be_visible()
        drawn = chart.locator(".js-plotly-plot").evaluate(
            "plot => plot.data[0].x.map((step, place) => [step, plot.data[0].y[place]])"
        )
        history = seen.history(record, metric)
        assert len(history) > 1
        assert [tuple(point) for point in drawn] == history
    search.fill("training/invariant")
    expect(page.get_by_text("training/invariant", exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot").nth(1).locator(".scatterlayer .trace").first).to_be_visible()
    shoot("mlflow-curves")

    page.get_by_role("tab", name="Artifacts").click()
    open_artifact(page, "config.yaml")
    expect(page.get_by_text(f"sparsity: {seen.stored.config_of(record).mask.sparsity}")).to_be_visible()


def test_the_study_shows_its_front_and_its_report_without_a_network(
    page: Any, seen: Seen, repository: Path
) -> None:
    from playwright.sync_api import expect

    open_run(page, seen, seen.front[0])
    page.get_by_role("link", name=seen.stored.name, exact=True).click()
    page.get_by_role("heading", name=seen.stored.name, exact=True).wait_for()
    expect(page.get_by_text(f"Front of {seen.stored.name}", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=seen.front[0].name, exact=True)).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    open_artifact(page, "front.html")
    plot = page.frame_locator("iframe").locator(".js-plotly-plot")
    expect(plot.locator(".scatterlayer .trace").first).to_be_visible()
    sizes = plot.evaluate("plot => plot.data.map(each => [each.name, each.x.length])")
    on, off = len(seen.front), len(seen.stored.trials()) - len(seen.front)
    planes = 2  # of recall and of NDCG
    assert [size for name, size in sizes if name == f"front ({on})"] == [on] * planes
    assert [size for name, size in sizes if name == f"dominated ({off})"] == [off] * planes
    if '"report.html"' in (repository / "painvrl" / "study" / "runner.py").read_text(encoding="utf-8"):
        open_artifact(page, "report.html")
        report = page.frame_locator("iframe")
        expect(report.get_by_role("heading", name=seen.stored.name, exact=True)).to_be_visible()
        expect(report.locator(".js-plotly-plot .main-svg").first).to_be_visible()


def test_the_run_that_is_tagged_in_the_ui_is_the_one_that_is_retrained(
    page: Any, seen: Seen, shoot: Callable[[str], None]
) -> None:
    from playwright.sync_api import expect

    by_rule = select(seen.stored).trial
    chosen = next(record for record in seen.front if record.number != by_rule)
    open_run(page, seen, chosen)
    tag(page, "selected", "true").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("status", name="selected")).to_contain_text("true")
    shoot("mlflow-tag")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "painvrl.cli", "train", "--best", "--device", "cpu"),
            *("--workspace", str(seen.workspace.root)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"trial {chosen.number} of the study: run {chosen.run_id} is tagged selected = true in MLflow"
    )
    kept = load_checkpoint(latest_checkpoint(seen.workspace.checkpoints))
    assert kept.metrics == chosen.metrics, "the model is that trial's, to the last digit"
