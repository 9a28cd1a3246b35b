"""Names of before and of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from painvrl.core.errors import ConfigError
from painvrl.core.renamed import CHOICES, METRICS, SETTINGS, new_choice, new_name, with_new_names
from painvrl.evaluation.measured import valid_part_metric
from painvrl.evaluation.metrics import METRICS as KNOWN_METRICS
from painvrl.run.config import TrainConfig
from painvrl.study.file.spec import load_spec

ROOT = Path(__file__).parent.parent.parent


def test_a_configuration_in_the_names_of_before_is_that_of_today() -> None:
    before = {
        "data": {"kind": "planted", "shift": "taste", "shared_taste": 0.1, "own_taste": 0.2},
        "environments": {"tilt": "personal", "personal_ridge": 0.01},
        "mask": {"penalty": "legacy"},
        "training": {"watch": "ood/ndcg_legacy_at_20"},
    }
    config = TrainConfig.model_validate({**with_new_names(before), "split": {"protocol": "planted"}})
    assert (config.data.shift, config.data.shared_affinity, config.data.own_affinity) == (
        "affinity",
        0.1,
        0.2,
    )
    assert (config.environments.logit_offset, config.environments.per_user_ridge) == ("per_user", 0.01)
    assert config.mask.penalty == "invrl"
    assert config.training.monitor == "ood/ndcg_invrl_at_20"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"environments.tilt": "both"}, {"environments.logit_offset": "both"}),
        ({"config.environments.tilt": "personal"}, {"config.environments.logit_offset": "per_user"}),
        (
            {"environments.tilt": {"choices": ["shared", "personal"]}},
            {"environments.logit_offset": {"choices": ["shared", "per_user"]}},
        ),
        ({"when": {"environments.tilt": ["both"]}}, {"when": {"environments.logit_offset": ["both"]}}),
        (
            ["iid/ndcg_legacy_at_5", "environments/recovered"],
            ["iid/ndcg_invrl_at_5", "environments/label_recovery"],
        ),
        ({"name": "personal", "watch": "legacy", "mask": {"penalty": "vrex"}}, None),
        ({"tilt": 1, "my.environments.tilted": "training.watches"}, None),
        ({"data": {"path": "/data/ndcg_legacy/x.csv", "user": "training.watch"}}, None),
        ({"split": {"column": "environments.tilt"}, "ndcg_legacyX": "environments/recovered_items"}, None),
        ({"swept/3/ood/ndcg_legacy_at_20": 0.1}, {"swept/3/ood/ndcg_invrl_at_20": 0.1}),
    ],
)
def test_only_what_was_renamed_changes_wherever_it_stands(before: object, now: object) -> None:
    assert with_new_names(before) == (before if now is None else now)
    assert with_new_names(with_new_names(before)) == with_new_names(before)


def test_every_new_name_is_one_that_is_known() -> None:
    from painvrl.run.hyperparameters import all_hyperparameters

    planted = TrainConfig.model_validate({"data": {"kind": "planted"}, "split": {"protocol": "planted"}}).data
    for now in SETTINGS.values():
        section, _, leaf = now.partition(".")
        assert leaf in type(planted).model_fields if section == "data" else now in all_hyperparameters()
    assert {new for old, new in METRICS.items() if "/" not in old} <= set(KNOWN_METRICS.names())
    for path, names in CHOICES.items():
        for old, new in names.items():
            assert new_choice(f"config.{path}", old) == new
            assert new_choice(path, new) is None
    assert new_name("training.patience") is None


@pytest.mark.parametrize(
    ("key", "value", "now"),
    [
        ("environments.tilt", "both", "environments.logit_offset"),
        ("training.watch", "iid/ndcg_at_20", "training.monitor"),
        ("mask.penalty", "legacy", "invrl"),
        ("environments.logit_offset", "personal", "per_user"),
    ],
)
def test_a_file_with_a_name_of_before_is_answered_with_the_one_of_today(
    key: str, value: str, now: str
) -> None:
    with pytest.raises(ConfigError, match=rf"config\.{key}: .*is named {now} now; rename it"):
        load_spec(ROOT / "studies" / "movielens.yaml", [f"config.{key}={value}"])


def test_a_setting_of_planted_data_is_answered_so_too() -> None:
    values = ["config.data={kind: planted, shared_taste: 0.1}", "config.split={protocol: planted}"]
    with pytest.raises(ConfigError, match=r"data\.shared_taste: is named data\.shared_affinity now"):
        load_spec(ROOT / "studies" / "movielens.yaml", values)


def test_a_metric_of_before_is_answered_with_the_one_of_today() -> None:
    with pytest.raises(ValueError, match="is named iid/ndcg_invrl_at_20 now"):
        valid_part_metric("iid/ndcg_legacy_at_20")
