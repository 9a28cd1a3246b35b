from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.yamlfile import dump_yaml, parse_yaml, validated
from painvrl.run.hyperparameters import apply
from painvrl.run.presets import PRESETS
from painvrl.study.ablation.spec import AblationSpec, cells_of, check_ablation, load_study_file, others_of
from painvrl.study.file.spec import StudySpec, load_spec

REPOSITORY = Path(__file__).parents[3]


def changed(tree: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *sections, leaf = path.split("/")
    branch = tree
    for section in sections:
        branch = branch.setdefault(section, {})
    branch[leaf] = value
    return tree


def test_rows_are_the_presets_and_then_the_variants(tree: dict[str, Any]) -> None:
    changes = validated(AblationSpec, tree).changes()
    assert list(changes) == ["ultragcn", "erm", "painvrl", "loud"]
    assert changes["erm"] == PRESETS["erm"]
    assert changes["loud"] == {**PRESETS["painvrl"], "mask.sparsity": 0.2, "fusion.variant_weight": 1.0}


def test_a_preset_wins_over_the_base_and_a_variant_over_its_preset(tree: dict[str, Any]) -> None:
    tree["config"]["mask"]["balancer"] = "fixed"
    tree["variants"]["odd"] = {"preset": "erm", "mask.balancer": "mgda", "fusion.kind": "sum"}
    made = {(cell.row, cell.seed): cell.job.config for cell in cells_of(validated(AblationSpec, tree))}
    assert made["erm", 3].mask.balancer == "erm"
    assert made["ultragcn", 3].mask.balancer == "fixed"  # which it does not read
    assert made["odd", 4].mask.balancer == "mgda"
    assert made["odd", 4].fusion.kind == "sum"


def test_a_cell_is_its_row_under_its_seed_and_seeds_follow_each_other(tree: dict[str, Any]) -> None:
    spec = validated(AblationSpec, tree)
    cells = list(cells_of(spec))
    assert [(cell.seed, cell.row) for cell in cells] == [
        (seed, row) for seed in (3, 4) for row in ("ultragcn", "erm", "painvrl", "loud")
    ]
    assert [cell.job.number for cell in cells] == list(range(8))
    for cell in cells:
        expected = apply(spec.config, spec.changes()[cell.row]).model_copy(update={"seed": cell.seed})
        assert cell.job.config == expected


def test_rows_share_data_split_evaluation_and_budget(tree: dict[str, Any]) -> None:
    configs = [cell.job.config for cell in cells_of(validated(AblationSpec, tree))]
    for section in ("data", "split", "evaluation", "training"):
        assert len({getattr(config, section).model_dump_json() for config in configs}) == 1


def test_a_written_out_file_reads_back_as_itself(tree: dict[str, Any]) -> None:
    spec = validated(AblationSpec, tree)
    assert validated(AblationSpec, parse_yaml(dump_yaml(spec))) == spec


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "ablation/reference",
            "painvlr",
            "ablation.reference: must be one of the rows; did you mean painvrl?",
        ),
        (
            "ablation/cutoff",
            7,
            r"ablation.cutoff: must be one of config.evaluation.ks, [5, 10, 20, 50] (found 7)",
        ),
        ("ablation/presets", ["ultragcm"], "ablation.presets.0: must be 'ultragcn', "),
        ("ablation/seeds", [], "ablation.seeds: "),
        ("ablation/seeds", [1, 1], "ablation: seeds must not name one twice (found [1, 1])"),
        ("ablation/metrics", ["accuracy"], "ablation.metrics: must be among those of users, recall, "),
        ("ablation/trials", 3, "ablation.trials: is not a known key"),
        ("variants/erm", {}, "variants.erm: is the name of a preset's row already"),
        ("variants/x/preset", "irn", "variants.x.preset: is not a preset; did you mean "),
        ("variants/x/seed", 3, "variants.x.seed: cannot differ between rows: they share their data"),
        ("variants/x/split.gamma", 3, "variants.x.split.gamma: cannot differ between rows"),
        (
            "variants/x/training.max_epochs",
            3,
            "variants.x.training.max_epochs: cannot differ between rows: they have equal budgets",
        ),
        (
            "variants/x/mask",
            3,
            "variants.x.mask: is a section; name one of its hyperparameters: mask.source, ",
        ),
        (
            "variants/x/mask.sparsty",
            0.1,
            "variants.x.mask.sparsty: is not a hyperparameter of the config; did you mean mask.sparsity",
        ),
        (
            "variants/x/mask.sparsity",
            1.5,
            "variants.x: the config refuses it: must be less than 1 (found 1.5)",
        ),
    ],
)
def test_a_mistake_is_named_by_its_key_and_rule(
    tree: dict[str, Any], tmp_path: Path, path: str, value: object, message: str
) -> None:
    file = tmp_path / "ablation.yaml"
    file.write_text(dump_yaml(changed(tree, path, value)), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_study_file(file)
    assert re.match(rf"{re.escape(str(file))}:\d+:\d+: {re.escape(message)}", str(caught.value))


def test_without_rows_there_is_nothing_to_run(tree: dict[str, Any]) -> None:
    tree["ablation"]["presets"], tree["variants"] = [], {}
    with pytest.raises(ConfigError, match=r"ablation\.presets: must name a row"):
        check_ablation(validated(AblationSpec, tree))


def test_the_key_ablation_makes_the_file_one(tmp_path: Path, tree: dict[str, Any]) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(dump_yaml(tree), encoding="utf-8")
    assert isinstance(load_study_file(file), AblationSpec)
    with pytest.raises(ConfigError, match="an ablation has a table and no front"):
        load_spec(file)
    study = {
        "study": {"name": "toy"},
        "objectives": ["ood/ndcg_at_20"],
        "config": tree["config"],
        "space": {"mask.sparsity": {"type": "float", "low": 0.1, "high": 0.9}},
    }
    file.write_text(dump_yaml(study), encoding="utf-8")
    assert isinstance(load_study_file(file), StudySpec)


def test_the_shipped_ablation_is_movielens_of_the_shipped_study() -> None:
    ablation = load_study_file(REPOSITORY / "studies" / "ablation.yaml")
    study = load_spec(REPOSITORY / "studies" / "movielens.yaml")
    assert isinstance(ablation, AblationSpec)
    assert ablation.config == study.config
    assert ablation.ablation.presets == ("ultragcn", "erm", "irm", "invrl", "painvrl")
    assert tuple(ablation.variants) == ("half", "shuffled-labels", "as-planted")
    assert len(list(cells_of(ablation))) == 40


def test_the_arms_differ_from_the_study_of_a_wrong_modality_in_the_method_alone() -> None:
    arms = load_study_file(REPOSITORY / "studies" / "arms.yaml")
    study = load_spec(REPOSITORY / "studies" / "wrong-modality.yaml")
    assert isinstance(arms, AblationSpec)
    named = study.config.features.model_copy(update={"scales": arms.config.features.scales})
    assert arms.config == study.config.model_copy(update={"features": named})
    assert set(arms.config.features.scales.values()) == {1.0}
    rows = {cell.row: cell.job.config for cell in cells_of(arms) if cell.seed == 0}
    assert rows["known"].mask.source == "learned"
    assert {rows[name].backbone.risks.kind for name in ("vrex", "group-dro")} == {"vrex", "group_dro"}
    assert rows["oracle"].features.scales["text"] == 0
    assert len({config.fingerprint() for config in rows.values()}) == len(rows) == 12


def test_what_a_file_asks_of_the_data_is_known_by_the_key_that_asks_for_it(tree: dict[str, Any]) -> None:
    spec = validated(AblationSpec, changed(tree, "variants/x", {"mask.sparsity": 0.9}))
    asked = dict(others_of(spec))
    assert set(asked) == {f"ablation.presets {name}" for name in spec.ablation.presets} | {
        f"variants.{name}" for name in spec.variants
    }
    assert asked["variants.x"] == apply(spec.config, {"mask.sparsity": 0.9})
    study = load_spec(REPOSITORY / "studies" / "wrong-modality.yaml")
    found = [(where, config.mask.sparsity) for where, config in others_of(study) if "irm_weight" not in where]
    assert found == [
        *((f"presets {name}", 0.25) for name in study.presets),
        *(("space.mask.sparsity.choices", share) for share in (0.0, 0.25, 0.5)),
    ]


@pytest.mark.parametrize(
    "space",
    [
        {
            "mask.groups": {"type": "categorical", "choices": ["feature", "modality"]},
            "mask.sparsity": {"type": "categorical", "choices": [0.5, 0.9]},
        },
        {
            "mask.form": {"type": "categorical", "choices": ["gates", "attention"]},
            "mask.sparsity": {"type": "float", "low": 0.1, "high": 0.9, "when": {"mask.form": "gates"}},
        },
    ],
)
def test_what_another_choice_may_change_is_left_to_the_trials(space: dict[str, Any]) -> None:
    study = load_spec(REPOSITORY / "studies" / "wrong-modality.yaml")
    tree = study.model_dump(mode="json", exclude_unset=True) | {"space": space}
    asked = others_of(StudySpec.model_validate(tree))
    assert not [where for where, _ in asked if where.startswith("space.mask.sparsity")]


def test_a_fixed_value_of_the_space_is_there_in_every_trial() -> None:
    study = load_spec(REPOSITORY / "studies" / "wrong-modality.yaml")
    space = {
        "mask.sparsity": {"type": "fixed", "value": 0.5},
        "mask.irm_weight": {"type": "float", "low": 1.0, "high": 9.0},
    }
    tree = study.model_dump(mode="json", exclude_unset=True) | {"space": space}
    asked = others_of(StudySpec.model_validate(tree))
    assert {config.mask.sparsity for where, config in asked if where.startswith("space.")} == {0.5}


def test_a_row_may_choose_a_variant_and_set_its_hyperparameters(tree: dict[str, Any]) -> None:
    turned = {"backbone.loss.kind": "softmax", "backbone.loss.temperature": 0.7}
    spec = validated(AblationSpec, changed(tree, "variants/x", turned))
    check_ablation(spec)
    (softmax,) = {cell.job.config.backbone.loss for cell in cells_of(spec) if cell.row == "x"}
    assert (softmax.kind, softmax.temperature) == ("softmax", 0.7)  # type: ignore[union-attr]
    alone = validated(AblationSpec, changed(tree, "variants/x", {"backbone.loss.temperature": 0.7}))
    with pytest.raises(ConfigError, match=r"variants\.x: the config refuses it"):
        check_ablation(alone)


def test_a_metric_without_values_of_users_is_in_no_table(tree: dict[str, Any], tmp_path: Path) -> None:
    measured = changed(
        changed(tree, "config/evaluation", {"also": ["coverage"]}), "ablation/metrics", ["coverage"]
    )
    file = tmp_path / "ablation.yaml"
    file.write_text(dump_yaml(measured), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"ablation\.metrics: must be among those of users.*'coverage'"):
        load_study_file(file)
