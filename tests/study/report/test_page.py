from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import NothingFeasible
from painvrl.core.tables import TextTable
from painvrl.core.workspace import Workspace
from painvrl.engine.job import DataSummary, Job, OnRung
from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned, SweptPoint
from painvrl.engine.user_value_store import UserStore
from painvrl.study.file.spec import StudySpec
from painvrl.study.report.page import report_page, study_report
from painvrl.study.store.records import TrialRecord, front_of
from painvrl.study.store.storage import StoredStudy, open_study

Make = Callable[..., Any]

EVIL = "<script>alert('pruned')</script>"
NOBODY = UserStore(Path("nobody"))
"""Nothing is kept of what users got."""
SECTIONS = (
    "front",
    "luck",
    "history",
    "price",
    "importance",
    "parallel",
    "environments",
    "weights",
    "losses",
    "data",
)


class Tags(HTMLParser):
    """The tags, attributes and text of a page, without what scripts and styles hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1] not in {"script", "style"}:
            self.text += data

    def ids(self, tag: str) -> list[str]:
        return [value for owner, name, value in self.attributes if (owner, name) == (tag, "id")]


TRACE = ({"round": 1.0, "step": 4.0, "epsilon": 0.5, "cosine": 0.1, "risk": 0.2, "penalty": 0.3},)


class Traced:
    """An objective whose complete trials keep how their mask was learned."""

    data = DataSummary(
        fingerprint="x",
        tables=(TextTable(columns=("part", "users"), rows=(("<i>train</i>", "60"),)),),
        warnings=("<b>few</b> items are described",),
    )

    def __init__(self, formula: Any) -> None:
        self._formula = formula

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        outcome: Outcome = self._formula(job, on_stage, on_rung)
        return replace(outcome, mask_trace=TRACE) if isinstance(outcome, Completed) else outcome


@pytest.fixture
def stored(go: Make, formula: Any, spec: StudySpec, workspace: Workspace) -> StoredStudy:
    """A study of 16 trials, of which one failed and one was pruned."""
    formula.script = {
        2: Failed(reason="diverged", message=EVIL),
        3: Pruned(rung="pretrain/20", message=f"3 were better {EVIL}", metrics={}),
    }
    settings = spec.study.model_copy(update={"sampler": "random"})
    go(spec.model_copy(update={"study": settings}), Traced(formula), trials=16)
    return open_study(None, workspace)


def test_the_page_holds_every_section_and_plotly_once(stored: StoredStudy) -> None:
    _, page = report_page(stored, NOBODY)
    tags = Tags(page)
    assert tuple(tags.ids("section")) == SECTIONS
    pictures = [name for name in SECTIONS if name not in {"losses", "luck", "data"}]
    assert tags.ids("div") == [f"picture-{name}" for name in pictures]
    assert page.count("plotly.js v") == 1
    assert 4_000_000 < len(page.encode()) < 6_000_000


@pytest.mark.slow
def test_no_request_leaves_the_page(stored: StoredStudy) -> None:
    _, page = report_page(stored, NOBODY)
    tags = Tags(page)
    assert not {"link", "img", "iframe", "object"} & set(tags.tags)
    targets = [value for _, name, value in tags.attributes if name in {"src", "href"}]
    assert len(targets) == len(SECTIONS) + 1, "and the front names the parallel coordinates"
    assert all(target.startswith("#") for target in targets)
    assert {target.removeprefix("#") for target in targets} == set(SECTIONS)
    (policy,) = [value for _, name, value in tags.attributes if name == "content" and "default-src" in value]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_names_and_messages_are_escaped(stored: StoredStudy) -> None:
    _, page = report_page(stored, NOBODY)
    assert "alert('" not in page
    tags = Tags(page)
    assert EVIL in tags.text, "shown as it was written"
    assert "<i>train</i>" in tags.text
    assert "<b>few</b> items are described" in tags.text
    assert "i" not in tags.tags


@pytest.mark.slow
def test_a_report_is_of_the_trials_that_it_read_first(
    stored: StoredStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    real = StoredStudy.trials

    def trials(study: StoredStudy) -> tuple[TrialRecord, ...]:
        looks.append(real(study))
        return looks[-1] if len(looks) == 1 else looks[-1][:1]  # as if they had become others meanwhile

    monkeypatch.setattr(StoredStudy, "trials", trials)
    report = study_report(stored, NOBODY)
    assert report.status.finished == report.history[-1].finished == len(looks[0])
    assert {row.trial for row in report.front.rows} == {one.number for one in front_of(looks[0])}


@pytest.mark.slow
def test_equal_studies_have_equal_pages(stored: StoredStudy) -> None:
    assert report_page(stored, NOBODY)[1] == report_page(stored, NOBODY)[1]


@pytest.mark.slow
def test_the_report_is_json_without_a_nan(stored: StoredStudy) -> None:
    tree = json.loads(json.dumps(study_report(stored, NOBODY).as_dict(), allow_nan=False))
    assert set(tree) == {
        "status",
        "header",
        "gate",
        "front",
        "luck",
        "history",
        "price",
        "importance",
        "environments",
        "weights",
        "losses",
    }
    assert [row["trial"] for row in tree["losses"]["rows"]] == [2, 3]
    assert len(tree["history"]) == 16
    front = {row["trial"] for row in tree["front"]["rows"]}
    assert {curve["trial"] for curve in tree["weights"]} == front
    assert {row["trial"] for row in tree["environments"]} == set(range(16)) - {2, 3}
    assert tree["price"]["trials"] == tree["importance"]["trials"] == 14
    assert tree["price"]["metrics"] == ["iid/ndcg_at_20", "ood/ndcg_at_20"]


@pytest.mark.slow
def test_figures_and_pictures_hold_no_nan(stored: StoredStudy) -> None:
    _, page = report_page(stored, NOBODY)
    body = page[page.index("<body>") :]
    assert not re.search(r"\b(NaN|nan|Infinity)\b", body)


@pytest.mark.slow
def test_the_sparsity_of_the_formula_costs_what_the_formula_says(stored: StoredStudy) -> None:
    sparsity = {one.hyperparameter: one for one in study_report(stored, NOBODY).price.hyperparameters}[
        "mask.sparsity"
    ]
    # IID falls by 0.3 s^2 and OOD rises by 0.2 s: on average over [0, 0.9] some 1.35 for 1.
    assert sparsity.verdict == "trade"
    assert sparsity.price is not None
    assert 0.9 < sparsity.price.value < 1.8


def test_one_complete_trial_makes_a_page_that_says_what_is_missing(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    go(spec, formula, trials=1)
    report, page = report_page(open_study(None, workspace), NOBODY)
    tags = Tags(page)
    assert tags.ids("div") == ["picture-front", "picture-history", "picture-environments"]
    assert (
        "It takes at least 10 complete trials, presets apart, to say what matters; there are 1."
    ) in tags.text
    assert "complete trials, presets apart, to tell the hyperparameters apart; there are 1." in tags.text
    assert report.losses.rows == ()
    assert "None: every finished trial is complete" in tags.text


@pytest.mark.slow
def test_one_objective_is_enough(go: Make, formula: Any, spec: StudySpec, workspace: Workspace) -> None:
    alone = spec.model_copy(update={"objectives": ("ood/ndcg_at_20",)})
    go(alone, formula, trials=12)
    report, page = report_page(open_study(None, workspace), NOBODY)
    # IID was measured, so there is a plane and a price.
    assert report.price.metrics == ("iid/ndcg_at_20", "ood/ndcg_at_20")
    assert report.history[-1].front_size == len(report.front.rows) == 1
    assert "picture-front" in page


@pytest.mark.slow
def test_without_ood_nothing_is_traded(go: Make, formula: Any, spec: StudySpec, workspace: Workspace) -> None:
    metrics = {"iid/ndcg_at_20": 0.2, "iid/recall_at_20": 0.1}
    formula.script = {place: Completed(metrics=metrics) for place in range(12)}
    alone = spec.model_copy(update={"objectives": tuple(metrics)})
    go(alone, formula, trials=12)
    report, page = report_page(open_study(None, workspace), NOBODY)
    assert report.price.metrics is None
    text = Tags(page).text
    assert "There is no OOD metric beside an IID one, so nothing is traded." in text
    assert "picture-front" not in Tags(page).ids("div")
    assert "picture-history" in page


def test_a_study_of_failures_alone_has_no_report(
    go: Make, formula: Any, spec: StudySpec, workspace: Workspace
) -> None:
    formula.script = {place: Failed(reason="diverged", message="no") for place in range(9)}
    with pytest.raises(NothingFeasible):
        go(spec, formula, trials=2)
    with pytest.raises(NothingFeasible, match="'toy' has no complete trial"):
        report_page(open_study(None, workspace), NOBODY)


class Scored:
    """An objective that scores each training at three points: the second is reported, the third is worse."""

    data = DataSummary(fingerprint="x")

    def __init__(self, formula: Any) -> None:
        self._formula = formula

    def __call__(self, job: Job, on_stage: Callable[[str], None], on_rung: OnRung) -> Outcome:
        outcome: Outcome = self._formula(job, on_stage, on_rung)
        if not isinstance(outcome, Completed):
            return outcome
        points = tuple(
            SweptPoint(
                values={"fusion.cold_weight": weight},
                metrics={
                    name: value * (iid if name.startswith("iid/") else ood)
                    for name, value in outcome.metrics.items()
                },
            )
            for weight, iid, ood in ((0.0, 1.0, 1.0), (0.5, 0.8, 1.6), (1.0, 0.5, 0.5))
        )
        return replace(outcome, metrics=points[1].metrics, points=points, mask_trace=TRACE)


@pytest.fixture
def swept(go: Make, formula: Any, spec_tree: Any, workspace: Workspace) -> StoredStudy:
    """A study of 16 trainings of three points each, one of them a preset, one failed."""
    spec_tree["presets"] = ["erm"]
    spec_tree["study"]["sampler"] = "random"
    spec_tree["space"]["fusion.cold_weight"] = {"type": "float", "low": 0.0, "high": 1.0}
    formula.script = {2: Failed(reason="diverged", message="no")}
    go(StudySpec.model_validate(spec_tree), Scored(formula), trials=16)
    return open_study(None, workspace)


@pytest.mark.slow
def test_of_a_swept_study_points_are_on_the_front_and_trainings_in_all_else(swept: StoredStudy) -> None:
    tree = json.loads(json.dumps(study_report(swept, NOBODY).as_dict(), allow_nan=False))
    front = front_of(swept.trials())
    trainings = {point.number for point in front}
    assert len(trainings) < len(front)
    assert {row["name"] for row in tree["front"]["rows"]} == {point.name for point in front}
    assert len(tree["front"]["rows"]) + len(tree["front"]["dominated"]) == 3 * 15
    assert len(tree["history"]) == 16
    assert tree["history"][-1]["front_size"] == len(front)
    assert sorted(curve["trial"] for curve in tree["weights"]) == sorted(trainings)
    assert [row["trial"] for row in tree["environments"]] == [n for n in range(16) if n != 2]
    assert {row["trial"] for row in tree["environments"] if row["on_front"]} == trainings
    assert tree["price"]["trials"] == tree["importance"]["trials"] == 14
    asked = {
        hyperparameter["hyperparameter"]
        for key in ("price", "importance")
        for hyperparameter in tree[key]["hyperparameters"]
    }
    assert "fusion.cold_weight" not in asked | set(tree["price"]["left_out"])
    assert "mask.sparsity" in asked


@pytest.mark.slow
def test_the_page_of_a_swept_study_names_points_and_says_what_they_are(swept: StoredStudy) -> None:
    report, page = report_page(swept, NOBODY)
    tags = Tags(page)
    assert tuple(tags.ids("section")) == SECTIONS
    for row in report.front.rows:
        assert f"<td>{row.name}{' (erm)' if row.preset else ''}</td>" in page
    alone = report.front.iid_only
    assert alone is not None
    assert page.count('class="iid-only"') == 1
    assert f"it would have been point {alone.name}" in tags.text
    trainings = len({row.trial for row in report.front.rows})
    assert f"{len(report.front.rows)} points of {trainings} trainings" in tags.text
    assert "A training is one trained model. A point is that model scored with" in tags.text
    assert "painvrl train --best --study toy --trial NAME" in tags.text
    assert "the same for the point that you chose here" in tags.text


@pytest.mark.slow
def test_the_page_of_a_study_without_sweeps_speaks_of_trials_alone(stored: StoredStudy) -> None:
    report, page = report_page(stored, NOBODY)
    text = Tags(page).text
    assert f"{len(report.front.rows)} trials" in text
    assert "painvrl train --best --study toy --trial N" in text
    assert "the same for the trial that you chose here" in text
    assert "points" not in text
    assert "training" not in text
