from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import load_settings, validated
from painvrl.invariance.environments import EnvironmentConfig
from painvrl.invariance.mask import MaskConfig
from painvrl.model.fusion import FusionConfig
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply, hyperparameters
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.run.presets import PRESETS, PresetName, changes_of, expanded

PLANTED = {"data": {"kind": "planted"}}


def config(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate(PLANTED | settings)


def test_every_name_has_a_preset_and_no_two_are_the_same() -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    assert len({config(preset=name).fingerprint() for name in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_turns_hyperparameters_and_nothing_else(name: PresetName) -> None:
    before, after = hyperparameters(config()), hyperparameters(config(preset=name))
    assert {path: after[path] for path in PRESETS[name]} == dict(PRESETS[name])
    assert all(after[path] == value for path, value in before.items() if path not in PRESETS[name])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_in_a_file_is_its_hyperparameters_written_out(name: PresetName) -> None:
    named = config(preset=name, mask={"sparsity": 0.25})
    assert named == apply(config(mask={"sparsity": 0.25}), PRESETS[name])
    assert named.preset is None
    assert "preset" not in named.model_dump()
    assert TrainConfig.model_validate(named.model_dump(mode="json")) == named


def test_what_a_file_says_itself_wins_over_its_preset() -> None:
    made = config(preset="invrl", fusion={"kind": "sum"}, mask={"irm_weight": 3.0})
    assert made.fusion.kind == "sum"
    assert (made.mask.balancer, made.mask.irm_weight) == ("fixed", 3.0)


def test_the_order_of_the_keys_does_not_matter() -> None:
    settings = {"fusion": {"variant_weight": 0.9}, "mask": {"balancer": "erm"}, "preset": "painvrl"}
    assert config(**settings) == config(**dict(reversed(settings.items())))


def test_expanding_leaves_its_argument_alone() -> None:
    mask: dict[str, object] = {"irm_weight": 3.0}
    settings: dict[str, object] = {"preset": "erm", "mask": mask}
    expanded(settings)
    assert settings == {"preset": "erm", "mask": {"irm_weight": 3.0}}


@pytest.mark.parametrize(
    ("name", "balancer", "source", "fusion"),
    [
        ("ultragcn", None, "ones", "invariant"),
        ("erm", "erm", "learned", "branch"),
        ("irm", "fixed", "learned", "branch"),
        ("invrl", "fixed", "learned", "invariant"),
        ("painvrl", "mgda", "learned", "branch"),
    ],
)
def test_each_preset_means_its_method(
    name: PresetName, balancer: str | None, source: str, fusion: str
) -> None:
    made = config(preset=name)
    assert made.mask.source == source
    assert made.fusion.kind == fusion
    if balancer is not None:
        assert made.mask.balancer == balancer


@pytest.mark.parametrize(
    ("name", "assignment", "sees", "penalty"),
    [
        ("erm", "soft_mixture", "variant", "gradient_variance"),
        ("irm", "soft_mixture", "variant", "gradient_variance"),
        ("invrl", "hard_em", "all", "invrl"),
        ("painvrl", "soft_mixture", "variant", "gradient_variance"),
    ],
)
@pytest.mark.parametrize("below", PRESETS)
def test_a_preset_is_its_method_over_any_base(
    name: PresetName, below: PresetName, assignment: str, sees: str, penalty: str
) -> None:
    made = apply(config(preset=below), PRESETS[name])
    assert made == apply(config(), PRESETS[name])
    assert (made.environments.assignment, made.environments.sees) == (assignment, sees)
    assert made.mask.penalty == penalty


def test_erm_irm_and_painvrl_differ_in_the_balancer_alone() -> None:
    balanced = {name: hyperparameters(apply(config(preset="invrl"), PRESETS[name])) for name in PRESETS}
    for name in ("erm", "irm"):
        turned = {path for path, value in balanced[name].items() if balanced["painvrl"][path] != value}
        assert turned == {"mask.balancer"}


def test_a_preset_fills_a_section_that_is_a_settings_object() -> None:
    made = config(preset="invrl", mask=MaskConfig(sparsity=0.3), fusion=FusionConfig(kind="sum"))
    assert made == config(preset="invrl", mask={"sparsity": 0.3}, fusion={"kind": "sum"})
    assert (made.mask.sparsity, made.mask.penalty, made.mask.balancer) == (0.3, "invrl", "fixed")
    assert made.fusion.kind == "sum"
    said = config(preset="invrl", environments=EnvironmentConfig(sees="variant"))
    assert (said.environments.assignment, said.environments.sees) == ("hard_em", "variant")


def test_the_default_is_painvrl() -> None:
    assert config() == config(preset="painvrl")


def test_irm_holds_the_density_of_its_mask(tiny_settings: dict[str, Any], tiny_prepared: Prepared) -> None:
    made = TrainConfig.model_validate(tiny_settings | {"preset": "irm"})
    assert made.mask.sparsity > 0
    closed = (run(made, tiny_prepared).mask == 0).sum()
    assert int(closed) == round(made.mask.sparsity * tiny_prepared.features.shape[1])


def test_ultragcn_trains_one_model_on_all_features(
    tiny_settings: dict[str, Any], tiny_prepared: Prepared
) -> None:
    result: RunResult = run(TrainConfig.model_validate(tiny_settings | {"preset": "ultragcn"}), tiny_prepared)
    assert set(result.epochs) == {"invariant"}
    assert result.mask.tolist() == [1.0] * tiny_prepared.features.shape[1]
    assert result.environments is None


def test_a_mistake_beside_a_preset_is_named_as_without(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for text, message in (
        ("preset: invlr\ndata: {kind: planted}\n", "preset: must be 'ultragcn', "),
        ("preset: 3\ndata: {kind: planted}\n", "preset: must be 'ultragcn', "),
        ("presett: invrl\ndata: {kind: planted}\n", "presett: is not a known key; did you mean preset?"),
        ("preset: invrl\ndata: {kind: planted}\nmask: 3\n", "mask: must hold keys and values"),
        (
            "preset: invrl\ndata: {kind: planted}\nmask: {balencer: erm}\n",
            "mask.balencer: is not a known key; did you mean balancer?",
        ),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_settings(file, TrainConfig)
        assert re.match(rf"{re.escape(str(file))}:\d+:\d+: {re.escape(message)}", str(caught.value))


def test_a_study_takes_a_preset(tiny_settings: dict[str, Any]) -> None:
    from painvrl.study.file.spec import StudySpec, check_spec

    spec = {
        "study": {"name": "toy"},
        "objectives": ["ood/ndcg_at_20"],
        "config": tiny_settings | {"preset": "irm"},
        "space": {"mask.irm_weight": {"type": "float", "low": 1.0, "high": 10.0}},
    }
    made = validated(StudySpec, spec)
    check_spec(made)
    assert made.config.mask.balancer == "fixed"


@pytest.mark.parametrize("name", PRESETS)
def test_known_environments_stay_where_a_preset_only_follows_them(name: PresetName) -> None:
    found = changes_of(name, "column")
    assert changes_of(name, "soft_mixture") == PRESETS[name]
    kept = name in {"erm", "irm", "painvrl"}
    assert ("environments.assignment" not in found) == (kept or name == "ultragcn")
    base = config(environments={"assignment": "column", "column": "city"})
    turned = apply(base, found)
    assert (turned.environments.assignment == "column") == (kept or name == "ultragcn")
    assert {path: value for path, value in PRESETS[name].items() if path not in found} == (
        {"environments.assignment": "soft_mixture"} if kept else {}
    )
