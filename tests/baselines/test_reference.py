from __future__ import annotations

from pathlib import Path

import pytest
import torch

from painvrl.baselines import reference
from painvrl.baselines.port import Inputs
from painvrl.baselines.reference import OWN, ReferenceSettings, reference_model, reference_points
from painvrl.core.errors import ConfigError, TrialFailure
from painvrl.evaluation.ranking import DotProducts
from painvrl.run.config import TrainConfig
from painvrl.run.hyperparameters import apply
from painvrl.run.pipeline import run
from painvrl.run.prepare import Prepared, prepare
from painvrl.study.file.space import Space

SPACE = Space.model_validate(
    {
        "backbone.l2": {"type": "float", "low": 0.1, "high": 0.6, "log": True},
        "mask.source": {"type": "categorical", "choices": ["ones", "learned"]},
        "mask.sparsity": {"type": "float", "low": 0.1, "high": 0.9, "when": {"mask.source": ["learned"]}},
    }
)


def test_the_first_point_is_the_files_own_and_the_others_lie_in_its_space(tiny_config: TrainConfig) -> None:
    first, *others = reference_points(SPACE, tiny_config, 20)
    assert apply(tiny_config, first.model_dump()) == tiny_config
    assert len(others) == 19
    for point in (one.model_dump() for one in others):
        assert 0.1 <= point["backbone.l2"] <= 0.6
        assert ("mask.sparsity" in point) is (point["mask.source"] == "learned")
        apply(tiny_config, point)
    assert {one.model_dump()["mask.source"] for one in others} == {"ones", "learned"}


def test_more_points_begin_with_the_same_ones_and_the_seed_draws_others(tiny_config: TrainConfig) -> None:
    few, many = reference_points(SPACE, tiny_config, 4), reference_points(SPACE, tiny_config, 9)
    assert many[:4] == few
    reseeded = tiny_config.model_copy(update={"seed": 1})
    assert reference_points(SPACE, reseeded, 4)[1:] != few[1:]


def test_a_small_space_is_gone_through_once_and_without_a_space_there_is_one_point(
    tiny_config: TrainConfig,
) -> None:
    small = Space.model_validate(
        {
            "rounds": {"type": "int", "low": 1, "high": 2},
            "environments.count": {"type": "int", "low": 2, "high": 11},
        }
    )
    points = [one.model_dump() for one in reference_points(small, tiny_config, 30)]
    assert {(one["rounds"], one["environments.count"]) for one in points} == {
        (rounds, count) for rounds in (1, 2) for count in range(2, 12)
    }
    assert len(points) == 20
    assert len(reference_points(small, tiny_config, 20)) == 20
    assert reference_points(None, tiny_config, 30) == (ReferenceSettings(),)


def test_hyperparameters_that_the_space_fixes_are_fixed_in_every_point(tiny_config: TrainConfig) -> None:
    space = Space.model_validate(
        {
            "mask.source": {"type": "fixed", "value": "half"},
            "backbone.l2": {"type": "float", "low": 0.1, "high": 0.6},
        }
    )
    assert tiny_config.mask.source == "learned"
    assert {
        apply(tiny_config, one.model_dump()).mask.source for one in reference_points(space, tiny_config, 5)
    } == {"half"}


def test_offsets_of_the_file_and_of_its_space_are_left_out_and_other_weights_are_drawn(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    space = Space.model_validate(
        {
            "fusion.popularity_weight": {"type": "float", "low": -0.1, "high": 0.1},
            "fusion.cold_weight": {"type": "fixed", "value": 3.0},
            "fusion.id_weight": {"type": "float", "low": 0.5, "high": 2.0},
        }
    )
    points = [one.model_dump() for one in reference_points(space, tiny_config, 5)]
    assert len(points) == 5
    assert {path for point in points for path in point} == {"fusion.id_weight"}
    offset_alone = Space({"fusion.popularity_weight": space.root["fusion.popularity_weight"]})
    assert len(reference_points(offset_alone, tiny_config, 2)) == 1
    fusion = tiny_config.fusion.model_copy(update={"popularity_weight": -0.5, "cold_weight": 2.0})
    shifted = tiny_config.model_copy(update={"fusion": fusion})
    scorer = reference_model(Inputs(shifted, tiny_prepared))(ReferenceSettings())
    plain = run(tiny_config, tiny_prepared)
    assert isinstance(scorer, DotProducts)
    assert torch.equal(scorer.users, plain.user_vectors)
    assert torch.equal(scorer.items, plain.item_vectors)


def test_a_point_is_the_configuration_with_its_hyperparameters_turned(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    point = {"backbone.l2": 0.5, "rounds": 1}
    scorer = reference_model(Inputs(tiny_config, tiny_prepared))(ReferenceSettings.model_validate(point))
    expected = run(apply(tiny_config, point), tiny_prepared)
    assert isinstance(scorer, DotProducts)
    assert torch.equal(scorer.users, expected.user_vectors)
    assert torch.equal(scorer.items, expected.item_vectors)


def test_a_hyperparameter_of_the_features_makes_other_features(
    tiny_config: TrainConfig, tiny_prepared: Prepared, tmp_path: Path
) -> None:
    point = {"features.standardise": not tiny_config.features.standardise}
    config = apply(tiny_config, point)
    scorer = reference_model(Inputs(tiny_config, tiny_prepared))(ReferenceSettings.model_validate(point))
    expected = run(config, prepare(config, cache_dir=tmp_path, device=torch.device("cpu")))
    assert isinstance(scorer, DotProducts)
    assert torch.equal(scorer.items, expected.item_vectors)


def test_what_a_user_could_mend_fails_the_trial_alone(
    tiny_config: TrainConfig, tiny_prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("must be at most 3", key="mask.sparsity", value=7)

    monkeypatch.setattr(reference, "run", refuse)
    with pytest.raises(TrialFailure, match=r"mask\.sparsity: must be at most 3"):
        reference_model(Inputs(tiny_config, tiny_prepared))(ReferenceSettings())


def test_a_point_that_breaks_a_rule_is_a_failed_trial(
    tiny_config: TrainConfig, tiny_prepared: Prepared
) -> None:
    fit = reference_model(Inputs(tiny_config, tiny_prepared))
    with pytest.raises(TrialFailure, match=r"breaks a rule of the configuration: .*environments\.count \*"):
        fit(ReferenceSettings.model_validate({"environments.count": 50, "environments.min_share": 0.4}))
    with pytest.raises(TrialFailure, match=r"breaks a rule of the configuration: mask\.sparsity: Input"):
        fit(ReferenceSettings.model_validate({"mask.sparsity": 1.5}))


def test_its_name_is_no_baselines() -> None:
    from painvrl.baselines.registry import BASELINES

    assert OWN.name not in BASELINES
