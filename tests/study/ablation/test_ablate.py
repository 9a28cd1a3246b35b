from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from painvrl.core.errors import DataError, NothingFeasible, StudyError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import validated
from painvrl.data.guard import GuardedParts
from painvrl.engine import training
from painvrl.engine.events import Progress
from painvrl.engine.executor import OnJobRung, OnStage, goes_on
from painvrl.engine.job import DataSummary, Job
from painvrl.engine.outcomes import WORKER_DIED, Completed, Failed, Outcome
from painvrl.engine.saved import RunStore, SavedRun
from painvrl.evaluation.ranking import DotProducts, evaluate_users
from painvrl.run.pipeline import run
from painvrl.run.prepare import prepare
from painvrl.run.rounds import LABEL_RECOVERY
from painvrl.study.ablation.ablate import AblationSummary
from painvrl.study.ablation.spec import AblationSpec, cells_of
from painvrl.study.store.lock import study_lock
from painvrl.study.tracked_grid import TrackedGrid
from painvrl.study.tracking.port import FinishedTrial, NullTracker, Opened, StudyHeader

Go = Callable[..., Any]
Done = tuple[AblationSummary, Any, Path]
EVERYTHING = [f"{row} seed {seed}" for seed in (3, 4) for row in ("ultragcn", "erm", "painvrl", "loud")]


def files(folder: Path) -> list[Path]:
    return sorted((folder / "ablations" / "tiny" / "runs").glob("*.npz"))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("nothing was to be trained")


def test_every_row_is_trained_once_under_every_seed(done: Done) -> None:
    summary, listener, folder = done
    assert listener.titles == EVERYTHING
    assert len(files(folder)) == 8
    assert (listener.started[0].requested, listener.started[0].finished) == (8, 0)
    assert [event.finished for event in listener.finished] == list(range(1, 9))
    assert summary.folder == folder / "ablations" / "tiny"


def test_the_table_holds_what_each_run_alone_comes_to(
    done: Done, tree: dict[str, Any], tmp_path: Path
) -> None:
    summary, _, _ = done
    spec = validated(AblationSpec, tree)
    store = RunStore(summary.folder / "runs")
    kept = {path.stem: store.load(path.stem) for path in files(done[2])}
    iid: dict[str, list[float]] = {}
    label_recovery: dict[str, list[float]] = {}
    for cell in cells_of(spec):
        prepared = prepare(cell.job.config, cache_dir=tmp_path, device=torch.device("cpu"))
        result = run(cell.job.config, prepared)
        iid.setdefault(cell.row, []).append(result.metrics["iid/ndcg_at_20"])
        mine = [one for one in kept.values() if one is not None and one.outcome.metrics == result.metrics]
        assert mine, f"no file has the metrics of {cell.row} under seed {cell.seed}"
        judged = evaluate_users(prepared.valid_plan, DotProducts(result.user_vectors, result.item_vectors))[
            "ood"
        ]
        place = prepared.evaluation.ks.index(20)
        for one in mine:
            assert one.users["ood"].tolist() == judged.users.tolist()
            expected = judged.values["recall"][:, place].float()
            assert torch.equal(torch.from_numpy(one.values["ood/recall_at_20"]), expected)
        if result.rounds:
            label_recovery.setdefault(cell.row, []).append(result.rounds[-1].metrics[LABEL_RECOVERY])
    assert label_recovery.keys() == {"erm", "painvrl", "loud"}, (
        "the data are planted, ultragcn looks for nothing"
    )
    for row in summary.table.rows:
        assert row.figures["ndcg"]["iid"].mean == pytest.approx(sum(iid[row.name]) / 2, abs=1e-15)
        if row.name in label_recovery:
            assert row.label_recovery is not None
            assert row.label_recovery.mean == pytest.approx(sum(label_recovery[row.name]) / 2, abs=1e-15)


def test_the_table_is_kept_as_it_was_reported(done: Done) -> None:
    summary, _, _ = done
    assert (summary.folder / "table.md").read_text(encoding="utf-8") == summary.table.as_markdown()
    assert json.loads((summary.folder / "table.json").read_text(encoding="utf-8")) == json.loads(
        summary.table.as_json()
    )


def test_what_is_complete_is_never_trained_again(
    go: Go, tree: dict[str, Any], folder: Path, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "run", refuse)
    summary, listener = go(tree, folder)
    assert listener.titles == []
    assert (listener.started[0].finished, listener.started[0].resumed) == (8, True)
    assert summary.table == done[0].table


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_only_what_is_missing_is_trained(
    go: Go, tree: dict[str, Any], folder: Path, done: Done, damage: str
) -> None:
    victim = files(folder)[2]
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:1000])
    summary, listener = go(tree, folder)
    assert len(listener.titles) == 1
    assert summary.table == done[0].table  # the same seed comes to the same


def test_a_changed_row_is_trained_anew_and_a_change_taken_back_is_not(
    go: Go, tree: dict[str, Any], folder: Path, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["variants"]["loud"]["mask.sparsity"] = 0.3
    _, listener = go(tree, folder)
    assert listener.titles == ["loud seed 3", "loud seed 4"]
    tree["variants"]["loud"]["mask.sparsity"] = 0.2
    monkeypatch.setattr(training, "run", refuse)
    assert go(tree, folder)[0].table == done[0].table


@dataclass
class Parents(NullTracker):
    """Says that the ablation has a run of its own, and remembers which one it is asked to go on with."""

    known: list[str | None] = field(default_factory=list)

    def open(
        self, header: StudyHeader, finished: Sequence[FinishedTrial], under_way: Collection[str] = ()
    ) -> Opened:
        self.known.append(header.parent_run)
        return Opened(parent_run="parent")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [[9, 3, 4], [4, 3], [4]])
def test_other_seeds_train_no_seed_again_and_stay_under_the_same_parent(
    go: Go, tree: dict[str, Any], folder: Path, done: Done, seeds: list[int]
) -> None:
    tracker = Parents()
    go(tree, folder, tracker)
    tree["ablation"]["presets"], tree["variants"] = ["erm", "painvrl"], {}
    tree["ablation"]["seeds"] = seeds
    summary, listener = go(tree, folder, tracker)
    assert listener.titles == [f"{row} seed 9" for row in ("erm", "painvrl") if 9 in seeds]
    assert tracker.known == [None, "parent"]
    assert summary.table.rows[1].seeds == tuple(seeds)


def test_another_version_of_the_code_or_another_device_trains_anew(
    go: Go, tree: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["ablation"]["presets"], tree["variants"], tree["ablation"]["seeds"] = ["painvrl"], {}, [4]
    with monkeypatch.context() as patch:
        patch.setattr("painvrl.run.pretrained._code", lambda: "another version")
        assert go(tree, folder)[1].titles == ["painvrl seed 4"]
    with monkeypatch.context() as patch:
        patch.setattr("painvrl.run.pretrained.rounding_of", lambda _: ["another device"])
        assert go(tree, folder)[1].titles == ["painvrl seed 4"]
    assert go(tree, folder)[1].titles == []


GRADED = {"protocol": "popularity", "gamma": [0.5, 1.0]}


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        (GRADED, ("ood_gamma_0.5", "ood_gamma_1")),
        ({"protocol": "given"}, ("ood_a", "ood_b")),
    ],
)
def test_ood_may_be_the_mean_of_several_parts(
    go: Go, tree: dict[str, Any], tmp_path: Path, split: dict[str, Any], parts: tuple[str, str]
) -> None:
    if split["protocol"] == "given":
        tree["config"]["data"] = labelled_rows(tmp_path)
    tree["config"]["split"] = split
    tree["ablation"]["presets"], tree["ablation"]["reference"] = ["ultragcn", "erm"], "erm"
    tree["variants"] = {}
    summary, _ = go(tree, tmp_path / "w")
    store = RunStore(summary.folder / "runs")
    for path in files(tmp_path / "w"):
        kept = store.load(path.stem)
        assert kept is not None
        assert kept.means == {"ood": parts}
        mean = np.mean([kept.values[f"{part}/ndcg_at_20"].mean(dtype=np.float64) for part in parts])
        assert kept.outcome.metrics["ood/ndcg_at_20"] == pytest.approx(mean, abs=1e-6)
    difference = summary.table.rows[0].figures["ndcg"]["ood"].difference
    assert difference.low < difference.high
    assert difference.low <= difference.mean <= difference.high


def test_other_data_under_the_same_settings_train_anew(go: Go, tree: dict[str, Any], tmp_path: Path) -> None:
    tree["config"] |= {"data": labelled_rows(tmp_path), "split": {"protocol": "given"}}
    tree["ablation"] |= {"presets": ["ultragcn"], "reference": "ultragcn", "seeds": [3]}
    tree["variants"] = {}
    items = tmp_path / "items.csv"
    before = items.read_text(encoding="utf-8")
    changed = (
        before.replace("\n7,", "\n?,").replace("\n8,", "\n7,").replace("\n?,", "\n8,")
    )  # they swap features
    for content, trained in ((before, 1), (before, 0), (changed, 1), (before, 0)):
        items.write_text(content, encoding="utf-8")
        assert len(go(tree, tmp_path / "w")[1].titles) == trained


def labelled_rows(folder: Path) -> dict[str, Any]:
    """1,200 rows of 60 users and 40 items with the names of their parts, and features of the items."""
    rng = np.random.default_rng(0)
    names = ["train"] * 8 + ["iid_valid", "iid_test"]
    names += [f"ood_{name}_{half}" for name in ("a", "b") for half in ("valid", "test")]
    rows = [
        f"{pair // 40},{pair % 40},{part}"
        for pair, part in zip(rng.choice(2400, 1200, replace=False), rng.choice(names, 1200), strict=True)
    ]
    items = [f"{item},{x:.3f},{y:.3f}" for item, (x, y) in enumerate(rng.normal(size=(40, 2)))]
    (folder / "rows.csv").write_text("\n".join(["user,item,part", *rows]), encoding="utf-8")
    (folder / "items.csv").write_text("\n".join(["id,x,y", *items]), encoding="utf-8")
    return {
        "kind": "table",
        "path": str(folder / "rows.csv"),
        "columns": ["part"],
        "core": 1,
        "item_table": {"path": str(folder / "items.csv"), "key": "id"},
        "files": {"look": {"path": str(folder / "items.csv"), "key": "id", "values": ["x", "y"]}},
    }


def test_an_interrupted_ablation_goes_on_where_it_stopped(
    go: Go, tree: dict[str, Any], tmp_path: Path, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = training.run, []

    def interrupted(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(training, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go(tree, tmp_path)
    assert len(files(tmp_path)) == 3
    summary, listener = go(tree, tmp_path)
    assert listener.titles == EVERYTHING[3:]
    assert summary.table == done[0].table


def test_a_row_that_fails_does_not_take_the_others_with_it_and_is_tried_again(
    go: Go, tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["ablation"]["presets"], tree["ablation"]["seeds"] = ["painvrl"], [0]
    tree["variants"] = {"wild": {"preset": "ultragcn", "training.learning_rate": 1e30}}
    for _ in range(2):
        summary, listener = go(tree, tmp_path)
        wild = summary.table.rows[1]
        assert wild.figures == {}
        assert wild.failures[0].startswith("diverged: ")
        assert listener.titles[-1] == "wild seed 0"
        assert listener.finished[-1].values is None
    assert summary.table.rows[0].figures["ndcg"]["iid"].mean > 0
    tree["ablation"]["reference"], tree["ablation"]["presets"] = "wild", []
    with pytest.raises(NothingFeasible, match="has no complete run; the last said diverged: "):
        go(tree, tmp_path)


def test_test_parts_stay_sealed(
    go: Go, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree["ablation"]["presets"], tree["ablation"]["seeds"] = ["painvrl"], [0]
    monkeypatch.setattr(GuardedParts, "open", refuse)
    go(tree, tmp_path)
    assert not Workspace(tmp_path).test_reads.exists()


def test_one_process_an_ablation(go: Go, tree: dict[str, Any], folder: Path) -> None:
    with (
        study_lock(Workspace(folder).lock_path("ablation tiny"), "tiny"),
        pytest.raises(StudyError, match="is being run by another process"),
    ):
        go(tree, folder)


def test_a_run_that_cannot_be_kept_stops_the_ablation(
    go: Go, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DataError("the cache folder cannot be written (No space left on device)")

    monkeypatch.setattr(RunStore, "store", full)
    with pytest.raises(DataError, match="No space left"):
        go(tree, tmp_path)


@pytest.mark.slow
def test_workers_come_to_the_same_table(go: Go, tree: dict[str, Any], tmp_path: Path, done: Done) -> None:
    summary, listener = go(tree, tmp_path, workers=2)
    assert sorted(listener.titles) == sorted(EVERYTHING)
    assert summary.table == done[0].table


@dataclass
class Mortal:
    """A executor of two that dies over the first job as often as reported, and completes all others."""

    store: RunStore
    run: SavedRun
    deaths: int
    size: int = 2
    data: DataSummary = field(default_factory=lambda: DataSummary(fingerprint="data"))
    started: list[int] = field(default_factory=list)
    _jobs: list[Job] = field(default_factory=list)

    def start(self, job: Job) -> None:
        assert len(self._jobs) < self.size
        self.started.append(job.number)
        self._jobs.append(job)

    def next(self, on_stage: OnStage, on_rung: OnJobRung = goes_on) -> tuple[int, Outcome]:
        job = self._jobs.pop(0)
        on_stage(job.number, "pretrain")
        if job.number == 0 and self.deaths > 0:
            self.deaths -= 1
            return 0, Failed(reason=WORKER_DIED, message="the process died")
        self.store.store(job.key, self.run)
        return job.number, self.run.outcome


@pytest.mark.parametrize(("deaths", "failed"), [(0, False), (2, False), (3, True)])
def test_a_run_whose_process_dies_is_tried_again_and_then_given_up(
    tree: dict[str, Any], done: Done, tmp_path: Path, deaths: int, failed: bool
) -> None:
    spec, store = validated(AblationSpec, tree), RunStore(tmp_path / "runs")
    cells = tuple(cells_of(spec))
    kept = RunStore(done[0].folder / "runs").load(files(done[2])[0].stem)
    assert kept is not None
    executor = Mortal(store=store, run=kept, deaths=deaths)
    header = StudyHeader(
        name="tiny", objectives=spec.measured(), yaml="", data=executor.data, kind="ablation"
    )
    runs = TrackedGrid(
        header=header,
        of="",
        cells=cells,
        folder=tmp_path,
        key=lambda cell: str(cell.job.number),
        executor=executor,
        tracker=NullTracker(),
        progress=Progress(),
    )
    with runs.trained():
        pass
    grid = runs.grid
    assert executor.started.count(0) == min(deaths, 2) + 1
    assert len(grid.complete) == 8 - failed
    died = Failed(reason=WORKER_DIED, message="the process died")
    assert grid.failures == ({("ultragcn", 3): died} if failed else {})
    assert isinstance(kept.outcome, Completed)
