from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import dump_yaml
from painvrl.study.file.overrides import with_overrides
from painvrl.study.file.spec import load_spec

Tree = dict[str, Any]


@pytest.fixture
def path(spec_tree: Tree, tmp_path: Path) -> Path:
    spec_tree["points"] = [{"mask.sparsity": 0.25}]
    file = tmp_path / "study.yaml"
    file.write_text(dump_yaml(spec_tree), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("override", "look"),
    [
        ("study.trials=7", lambda spec: spec.study.trials == 7),
        ("config.mask.sparsity = 2.5e-1", lambda spec: spec.config.mask.sparsity == 0.25),
        ("config.evaluation.ks=[5, 20]", lambda spec: spec.config.evaluation.ks == (5, 20)),
        ("config.fusion.kind=sum", lambda spec: spec.config.fusion.kind == "sum"),
        ("objectives.1=ood/recall_at_20", lambda spec: spec.objectives[1] == "ood/recall_at_20"),
        ("space.mask.sparsity.high=0.5", lambda spec: spec.space.root["mask.sparsity"].high == 0.5),
        ("space.rounds={type: int, low: 1, high: 2}", lambda spec: "rounds" in spec.space.root),
        (
            "space.environments.count.when.fusion.kind=branch",
            lambda spec: spec.space.root["environments.count"].when == {"fusion.kind": "branch"},
        ),
        ("points.0.mask.sparsity=0.5", lambda spec: spec.points[0]["mask.sparsity"] == 0.5),
        ("study.stall.trials=9", lambda spec: spec.study.stall and spec.study.stall.trials == 9),
        ("pruning=true", lambda spec: spec.pruning is True),
        ("study.storage=null", lambda spec: spec.study.storage is None),
    ],
)
def test_a_value_takes_the_files_place_and_nothing_else_changes(path: Path, override: str, look: Any) -> None:
    before, after = load_spec(path), load_spec(path, [override])
    assert look(after)
    assert not look(before) or "null" in override
    top = override.partition("=")[0].partition(".")[0].strip()
    assert before.model_dump(exclude={top}) == after.model_dump(exclude={top})


def test_the_last_one_wins_and_the_content_is_left_alone(spec_tree: Tree) -> None:
    before = copy.deepcopy(spec_tree)
    changed: Any = with_overrides(spec_tree, ["config.rounds=3", "config.rounds=4"])
    assert changed["config"]["rounds"] == 4
    assert spec_tree == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("config.mask.sparsity=1.5", "--set config.mask.sparsity: must be less than 1 (found 1.5)"),
        ("config.mask.sparsty=0.5", "--set config.mask.sparsty: is not a known key; did you mean sparsity?"),
        ("sutdy.trials=3", "--set sutdy.trials=3: sutdy: is not a known key; did you mean study?"),
        (
            "space.mask.sparsty.high=0.5",
            "--set space.mask.sparsty.high: is not a hyperparameter of the config; did you m",
        ),
        (
            "space.mask.sparsity.hihg=0.5",
            "--set space.mask.sparsity.hihg: is not a known key; did you mean hi",
        ),
        (
            "space.mask.sparsity.high=1.5",
            "--set space.mask.sparsity.high: the config refuses it: must be less",
        ),
        ("objectives.7=x", "--set objectives.7: the list has no entry 7; it has 2"),
        ("objectives.first=x", "--set objectives.first: the list has no entry first; it has 2"),
        ("study.name.x=3", "--set study.name.x: leads into a value: there is no 'x' below it"),
        ("study.trials", "--set: must read path=value (found 'study.trials')"),
        ("=3", "--set: must read path=value"),
        ("study..trials=3", "--set: must read path=value"),
        ("study.trials=[3", "--set study.trials: is not YAML: "),
        # A rule that joins it with another key names the other; then the whole option is shown.
        ("config.evaluation.ks=[5]", "--set config.evaluation.ks=[5]: config: training.monitor must use"),
    ],
)
def test_what_the_option_breaks_names_the_option(path: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_spec(path, [override])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_what_the_file_breaks_names_the_file(spec_tree: Tree, path: Path) -> None:
    spec_tree["config"]["mask"]["sparsity"] = 3
    path.write_text(dump_yaml(spec_tree))
    with pytest.raises(ConfigError) as caught:
        load_spec(path, ["study.trials=3"])
    assert re.match(rf"{re.escape(str(path))}:\d+:\d+: config\.mask\.sparsity: ", str(caught.value))
    load_spec(path, ["config.mask.sparsity=0.5"])
