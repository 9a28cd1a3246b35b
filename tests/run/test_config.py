from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from painvrl.data.sources import MovieLensConfig, PlantedConfig
from painvrl.data.splits import ColdItemSplit, PlantedSplit, PopularitySplit
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.run.config import TrainConfig

PLANTED: dict[str, Any] = {"data": {"kind": "planted"}, "split": {"protocol": "planted"}}
TABLE: dict[str, Any] = {"data": {"kind": "movielens"}}


def config(base: dict[str, Any], **sections: Any) -> TrainConfig:
    return TrainConfig.model_validate(copy.deepcopy(base) | sections)


def test_weight_decay_needs_a_step_that_moves_whole_tables() -> None:
    decay, sampled = {"weight_decay": 0.1}, {"loss": {"kind": "sampled"}}
    assert config(TABLE, training=decay).training.weight_decay == 0.1  # the gramian loss always does
    assert config(TABLE, backbone=sampled, training=decay | {"updates": "dense"}).training.updates == "dense"
    with pytest.raises(ValidationError, match=r"needs training.updates 'dense' \(found 0.1 with 'lazy'\)"):
        config(TABLE, backbone=sampled, training=decay)


def test_a_data_set_is_all_a_configuration_needs() -> None:
    made = config(TABLE)
    assert isinstance(made.data, MovieLensConfig)
    assert isinstance(made.split, PopularitySplit)
    assert isinstance(made.backbone.loss, GramianLoss)
    assert made.mask.source == "learned"
    assert made.fusion.kind == "branch"
    with pytest.raises(ValidationError, match="data"):
        TrainConfig.model_validate({})


def test_the_kind_decides_what_a_section_is() -> None:
    made = config(PLANTED, backbone={"loss": {"kind": "sampled", "negatives": 7}})
    assert isinstance(made.data, PlantedConfig)
    assert isinstance(made.split, PlantedSplit)
    assert made.backbone.loss == SampledLoss(negatives=7)
    assert isinstance(config(TABLE, split={"protocol": "cold_item"}).split, ColdItemSplit)
    with pytest.raises(ValidationError):
        config(TABLE, backbone={"loss": {"kind": "gramian", "negatives": 7}})


def test_unknown_keys_are_refused_at_every_depth() -> None:
    for section in (
        {"sed": 1},
        {"mask": {"sparsty": 0.5}},
        {"backbone": {"loss": {"kind": "gramian", "a": 1}}},
    ):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            config(TABLE, **section)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config(TABLE).seed = 1  # type: ignore[misc]


def test_equal_configurations_have_equal_fingerprints() -> None:
    assert config(TABLE).fingerprint() == config(TABLE).fingerprint()
    # Writing a default down changes nothing.
    assert config(TABLE, rounds=2, mask={"source": "learned"}).fingerprint() == config(TABLE).fingerprint()
    assert (
        config(TABLE, mask={"sparsity": 0.5, "steps": 9}).fingerprint()
        == config(TABLE, mask={"steps": 9, "sparsity": 0.5}).fingerprint()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rounds": 3},
        {"mask": {"sparsity": 0.51}},
        {"split": {"protocol": "popularity", "gamma": 1.5}},
        {"split": {"protocol": "cold_item"}},
        {"fusion": {"variant_weight": 0.31}},
        {"evaluation": {"ks": [20]}},
        {"backbone": {"loss": {"kind": "sampled"}}},
        {"features": {"standardise": True}},
    ],
)
def test_every_setting_enters_the_fingerprint(change: dict[str, Any]) -> None:
    assert config(TABLE, **change).fingerprint() != config(TABLE).fingerprint()


@pytest.mark.slow
def test_a_fingerprint_is_the_same_in_another_process() -> None:
    program = (
        "import json,sys;from painvrl.run.config import TrainConfig;"
        "print(TrainConfig.model_validate(json.loads(sys.argv[1])).fingerprint())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(PLANTED)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == config(PLANTED).fingerprint()


def test_a_configuration_survives_json() -> None:
    made = config(PLANTED, seed=3, evaluation={"ks": [50, 20]}, backbone={"loss": {"kind": "sampled"}})
    assert TrainConfig.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("base", "sections", "rule"),
    [
        (
            TABLE,
            {"training": {"monitor": "iid/ndcg_at_7"}},
            r"training\.monitor must use a cut-off of evaluation\.ks",
        ),
        (TABLE, {"evaluation": {"ks": [5]}}, r"training\.monitor must use a cut-off of evaluation\.ks"),
        (
            TABLE,
            {"training": {"monitor": "iid/accuracy_at_20"}},
            r"training\.monitor must name a metric; known: recall, ndcg",
        ),
        (TABLE, {"training": {"monitor": "iid_test/ndcg_at_20"}}, r"training\.monitor"),
        (TABLE, {"training": {"monitor": "ood_far_test/ndcg_at_20"}}, r"training\.monitor"),
        (
            TABLE,
            {"training": {"monitor": "ood_far/ndcg_at_20"}},
            r"training\.monitor must name a part of the split, iid, ood \(found",
        ),
        (TABLE, {"mask": {"source": "given"}}, r"mask\.source needs planted data"),
        (TABLE, {"environments": {"assignment": "given"}}, r"environments\.assignment needs planted data"),
        (TABLE, {"split": {"protocol": "planted"}}, r"split\.protocol needs planted data"),
        (
            PLANTED,
            {"environments": {"assignment": "given", "count": 3}},
            r"environments\.count must be 2, the number of planted environments",
        ),
        (
            TABLE,
            {"environments": {"count": 20, "min_share": 0.06}},
            r"environments\.count \* environments\.min_share must be at most 1",
        ),
        (TABLE, {"seed": -1}, "seed"),
        (TABLE, {"rounds": 0}, "rounds"),
        (TABLE, {"backbone": {"l2": float("nan")}}, r"backbone\.l2"),
        (TABLE, {"training": {"learning_rate": float("inf")}}, r"training\.learning_rate"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_with_the_key_to_change(
    base: dict[str, Any], sections: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValidationError, match=rule):
        config(base, **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"mask": {"source": "given"}},
        {"environments": {"assignment": "given", "count": 2}},
        {"training": {"monitor": "ood/recall_at_50"}},
        {"training": {"monitor": "ood_far/recall_at_50"}, "split": {"protocol": "given"}},
        {
            "training": {"monitor": "ood_gamma_2/recall_at_50"},
            "split": {"protocol": "popularity", "gamma": [1, 2]},
        },
        {"environments": {"count": 50, "min_share": 0.02}},
    ],
)
def test_parts_that_fit_together_are_accepted(sections: dict[str, Any]) -> None:
    config(PLANTED, **sections)
