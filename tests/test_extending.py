"""Every example of docs/extending.md is found, checked, offered by the schema, and runs to the end."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from painvrl.baselines.comparison import choose, compare
from painvrl.baselines.registry import BASELINES
from painvrl.cli import app
from painvrl.core import registry
from painvrl.core.errors import ConfigError
from painvrl.core.registry import Registry
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import validated
from painvrl.data.sources.port import SOURCES
from painvrl.data.splits.rows import PROTOCOLS
from painvrl.engine.outcomes import Completed
from painvrl.evaluation.metrics import METRICS
from painvrl.invariance.pareto import BALANCERS
from painvrl.invariance.penalties import PENALTIES
from painvrl.model.fusion import FUSIONS
from painvrl.run.config import TrainConfig
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import prepare
from painvrl.study.file.schema import study_schema
from painvrl.study.file.spec import StudySpec, check_spec
from painvrl.study.runner import run_study
from painvrl.study.search.asktell import AskTell
from painvrl.study.search.port import SAMPLERS
from painvrl.study.search.pruning import PruningConfig, rungs_of
from painvrl.study.store.creation import create_study
from painvrl.study.store.records import TrialRecord, TrialState
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
(_TABLE,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
GROUPS = tomllib.loads(_TABLE)["project"]["entry-points"]
KINDS: dict[str, Registry[Any]] = {
    each.group: each
    for each in (METRICS, PENALTIES, BALANCERS, FUSIONS, PROTOCOLS, SOURCES, SAMPLERS, BASELINES)
}

Bring = Callable[[str], Any]


@pytest.fixture(params=["registered", "entry point"])
def bring(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Brings the example of a group, as another distribution would, and gives it back."""

    def brought(group: str) -> Any:
        kind, ((name, value),) = KINDS[group], GROUPS[group].items()
        module_name, attribute = value.split(":")
        monkeypatch.setattr(kind, "_entries", dict(kind.entries()))
        if request.param == "entry point":
            monkeypatch.setattr(kind, "_is_complete", False)
            monkeypatch.setattr(kind, "register", lambda entry: entry)
        module = ModuleType(module_name)
        monkeypatch.setitem(sys.modules, module_name.partition(".")[0], ModuleType("my_package"))
        monkeypatch.setitem(sys.modules, module_name, module)
        (source,) = (text for text in EXAMPLES if f"{attribute} =" in text or f"class {attribute}(" in text)
        exec(compile(source, f"docs/extending.md ({attribute})", "exec"), module.__dict__)
        if request.param == "entry point":
            monkeypatch.delattr(kind, "register")
            point = EntryPoint(name=name, value=value, group=group)
            monkeypatch.setattr(registry, "entry_points", lambda *, group: [point] * (group == point.group))
        return getattr(module, attribute)

    return brought


def test_every_kind_has_an_example() -> None:
    assert GROUPS.keys() == KINDS.keys()
    assert len(EXAMPLES) == len(KINDS)


def trained(tmp_path: Path, config: TrainConfig, **sections: Any) -> RunResult:
    """The tiny configuration with other sections, trained."""
    tree = {**config.model_dump(mode="json"), **sections}
    changed = validated(TrainConfig, tree)
    assert validated(TrainConfig, changed.model_dump(mode="json")) == changed
    return run(changed, prepare(changed, cache_dir=tmp_path, device=torch.device("cpu")))


@pytest.mark.slow
def test_a_metric(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    content = {
        "study": {"name": "ranks", "trials": 2, "sampler": "random"},
        "objectives": ["iid/reciprocal_rank_at_20", "ood/ndcg_at_20"],
        "config": tiny_config.model_dump(mode="json"),
        "presets": [],
        "pruning": False,
        "space": {"mask.sparsity": {"type": "float", "low": 0.1, "high": 0.8}},
    }
    with pytest.raises(ConfigError, match=r"objectives\.0: is not a metric"):
        validated(StudySpec, content)
    metric = bring("painvrl.metrics")
    with pytest.raises(ConfigError, match=r"add reciprocal_rank to config\.evaluation\.also"):
        check_spec(validated(StudySpec, content))
    content["config"]["evaluation"]["also"] = ["reciprocal_rank"]
    spec = validated(StudySpec, content)
    check_spec(spec)
    assert spec.config.evaluation.also == (metric(),)
    run_study(spec, Workspace(tmp_path), torch.device("cpu"), tracker=NullTracker())
    for record in open_study("ranks", Workspace(tmp_path)).trials():
        hit, rank = (record.metrics[f"iid/{name}_at_20"] for name in ("hit_rate", "reciprocal_rank"))
        assert hit / 20 <= rank <= hit
        assert record.metrics["iid/reciprocal_rank_at_5"] <= rank
    offered = study_schema()["$defs"]["StudySpec"]["properties"]["objectives"]["items"]["pattern"]
    assert re.search(offered, "ood/reciprocal_rank_at_5")


@pytest.mark.parametrize(
    ("group", "key"), [("painvrl.penalties", "penalty"), ("painvrl.balancers", "balancer")]
)
def test_a_penalty_and_a_balancer(
    bring: Bring, tiny_config: TrainConfig, tmp_path: Path, group: str, key: str
) -> None:
    name = next(iter(GROUPS[group]))
    mask = {**tiny_config.model_dump(mode="json")["mask"], key: name}
    with pytest.raises(ConfigError, match=rf"mask\.{key}: must be '[a-z_]+', "):
        validated(TrainConfig, {**tiny_config.model_dump(mode="json"), "mask": mask})
    bring(group)
    ours, other = trained(tmp_path, tiny_config, mask=mask), trained(tmp_path, tiny_config)
    assert ours.metrics.keys() == other.metrics.keys()
    assert ours.metrics != other.metrics
    assert name in study_schema()["$defs"]["MaskConfig"]["properties"][key]["enum"]


@pytest.mark.slow
def test_a_fusion(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    fusion = {"kind": "column", "cold_weight": 0.5}
    tree = {**tiny_config.model_dump(mode="json"), "fusion": fusion}
    with pytest.raises(ConfigError, match=r"fusion\.kind: must be '[a-z_]+', .*'column'"):
        validated(TrainConfig, tree)
    added = bring("painvrl.fusions")
    file = tmp_path / "column.yaml"
    file.write_text(yaml.safe_dump({**tree, "mask": {**tree["mask"], "source": "ones"}}), encoding="utf-8")
    options = ["--workspace", str(tmp_path / "workspace"), "--device", "cpu"]
    done = CliRunner().invoke(app, ["train", str(file), *options])
    assert done.exit_code == 0, done.output
    ours, sums = (
        trained(tmp_path, tiny_config, fusion={**fusion, "kind": kind}) for kind in ("column", "sum")
    )
    assert set(ours.epochs) == {"pretrain", "column"}
    assert ours.metrics.keys() == sums.metrics.keys()
    assert ours.metrics != sums.metrics
    content = {
        "study": {"name": "fusions", "trials": 2, "sampler": "grid"},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": {**tree, "mask": {**tree["mask"], "source": "ones"}},
        "presets": [],
        "space": {"fusion.kind": {"type": "categorical", "choices": ["column", "invariant"]}},
    }
    spec = validated(StudySpec, content)
    check_spec(spec)
    run_study(spec, Workspace(tmp_path), torch.device("cpu"), tracker=NullTracker())
    records = open_study("fusions", Workspace(tmp_path)).trials()
    assert [record.point["fusion.kind"] for record in records] == ["column", "invariant"]
    assert all(record.metrics["iid/hit_rate_at_20"] > 0 for record in records)
    assert rungs_of(spec.config, PruningConfig(evaluations=(1,))) == {"column/3"}
    assert FUSIONS.get("column") is added
    mixing, features = added.mixing(2, 3, torch.device("cpu")), torch.randn(5, 4)
    projections = torch.randn(2, 4, 3)
    (weight,), _ = mixing.kept(projections)
    torch.testing.assert_close(features @ weight, mixing(features, projections))
    assert len(registry.foreign_sources(added)) == 1, "what it trains is kept under a key of its code"
    assert "column" in study_schema()["$defs"]["FusionConfig"]["properties"]["kind"]["enum"]


def test_a_split_protocol(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    protocol = bring("painvrl.split_protocols")
    split = {"protocol": "rare_items", "at_most": 3}
    config = validated(TrainConfig, {**tiny_config.model_dump(mode="json"), "split": split})
    assert config.split == protocol(at_most=3)
    prepared = prepare(config, cache_dir=tmp_path, device=torch.device("cpu"))
    assert (
        int(prepared.dataset.interactions.item_degree()[prepared.split.ood_valid.interactions.item].max())
        <= 3
    )
    assert 0 < run(config, prepared).metrics["iid/hit_rate_at_20"] <= 1
    offered = study_schema()["$defs"]["TrainConfig"]["properties"]["split"]["discriminator"]["mapping"]
    assert offered["rare_items"] == "#/$defs/RareItems"


def test_a_source_of_data(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    bring("painvrl.sources")
    split = {"protocol": "popularity"}
    environments = {"count": 2, "assignment": "random"}
    result = trained(
        tmp_path, tiny_config, data={"kind": "two_camps"}, split=split, environments=environments
    )
    assert result.metrics["iid/hit_rate_at_20"] > 0.3
    assert (
        "two_camps"
        in study_schema()["$defs"]["TrainConfig"]["properties"]["data"]["discriminator"]["mapping"]
    )


@pytest.mark.slow
def test_a_sampler(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    hyperparameter, other = "mask.sparsity", "mask.irm_weight"
    content = {
        "study": {"name": "crossed", "trials": 12, "startup_trials": 4, "sampler": "crossover"},
        "objectives": ["iid/ndcg_at_20", "ood/ndcg_at_20"],
        "config": tiny_config.model_dump(mode="json"),
        "presets": ["ultragcn"],
        "pruning": False,
        "space": {
            hyperparameter: {"type": "float", "low": 0.0, "high": 0.9},
            other: {"type": "float", "low": 0.1, "high": 100.0, "log": True},
        },
    }
    with pytest.raises(ConfigError, match=r"study\.sampler: must be 'auto', 'tpe', .*'crossover'"):
        validated(StudySpec, content)
    bring("painvrl.samplers")
    spec = validated(StudySpec, content)
    check_spec(spec)
    result = tried(spec, Workspace(tmp_path / "whole"), stops=())
    assert [record.number for record in result] == list(range(len(result)))
    points = [record.point for record in result if record.preset is None]
    # The front of this formula is all that was tried, so what is kept is what stands in an earlier trial.
    seen: list[set[Any]] = [set(), set()]
    again = 0
    for place, point in enumerate(points):
        known = [point[path] in values for path, values in zip((hyperparameter, other), seen, strict=True)]
        assert place >= 4 or not any(known), "drawn at first"
        again += sum(known)
        for path, values in zip((hyperparameter, other), seen, strict=True):
            values.add(point[path])
    assert again >= 6
    assert [one.point for one in tried(spec, Workspace(tmp_path / "stopped"), stops=(3, 7))] == [
        one.point for one in result
    ]
    run_study(
        validated(StudySpec, {**content, "study": {"name": "run", "trials": 3, "sampler": "crossover"}}),
        Workspace(tmp_path / "run"),
        torch.device("cpu"),
        tracker=NullTracker(),
    )
    study = open_study("run", Workspace(tmp_path / "run"))
    assert study.sampler == {"sampler": "crossover", "reason": "study.sampler names it"}
    assert [record.state for record in study.trials()] == [TrialState.COMPLETE] * 3
    assert "crossover" in study_schema()["$defs"]["StudySettings"]["properties"]["sampler"]["enum"]


def tried(spec: StudySpec, workspace: Workspace, *, stops: Collection[int]) -> tuple[TrialRecord, ...]:
    """The trials of a study that trains nothing; its process ends before each of the trials ``stops``."""
    stored = create_study(spec, workspace.create(), data="d")[0]
    adapter = AskTell(stored, spec.study)
    while adapter.finished() < spec.study.trials:
        if adapter.finished() in stops:
            adapter = AskTell(create_study(spec, workspace, data="d")[0], spec.study)
        asked = adapter.ask()
        assert asked is not None
        value = float(asked.point.get("mask.sparsity", 0.0))
        metrics = {"iid/ndcg_at_20": 1 - value**2, "ood/ndcg_at_20": value}
        adapter.tell(asked.number, Completed(metrics=metrics))
    return stored.trials()


def test_a_baseline(bring: Bring, tiny_config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a baseline; known: popularity"):
        choose(["noise"])
    baseline = bring("painvrl.baselines")
    assert choose(["noise"]) == (baseline,)
    report = compare(
        tiny_config,
        choose(["popularity", "noise"]),
        Workspace(tmp_path),
        torch.device("cpu"),
        seeds=1,
        trials=2,
    )
    assert [one.name for one in report.baselines] == ["popularity", "noise"]
    assert {one.settings["width"] for one in report.baselines[1].points} > {4}
