"""Every option of the method is one search-space choice away, and trains from pipeline to metrics."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.core.yamlfile import validated
from painvrl.engine.outcomes import Completed
from painvrl.invariance.environments import EnvironmentConfig
from painvrl.invariance.mask import MaskConfig
from painvrl.invariance.pareto import BALANCERS
from painvrl.invariance.penalties import PENALTIES
from painvrl.model.fusion import FUSIONS
from painvrl.model.losses import GramianLoss, SampledLoss
from painvrl.run.config import TrainConfig
from painvrl.run.distributions import Value
from painvrl.run.hyperparameters import apply
from painvrl.run.pipeline import RunResult, run
from painvrl.run.prepare import Prepared
from painvrl.study.file.spec import StudySpec, check_spec
from painvrl.study.runner import run_study
from painvrl.study.store.storage import open_study
from painvrl.study.tracking.port import NullTracker

Train = Callable[[str, str], RunResult]

OPTIONS = {
    f"{section}.{name}": get_args(owner.model_fields[name].annotation)
    for section, owner, names in (
        ("environments", EnvironmentConfig, ("assignment", "sees", "logit_offset")),
        ("mask", MaskConfig, ("contrasts", "source")),
    )
    for name in names
} | {
    "fusion.kind": FUSIONS.names(),
    "mask.penalty": PENALTIES.names(),
    "mask.balancer": BALANCERS.names(),
    "backbone.loss.kind": (GramianLoss().kind, SampledLoss().kind),
}
CHOICES = [(path, choice) for path, choices in OPTIONS.items() for choice in choices]


CONTEXTS: dict[str, dict[str, Value]] = {
    # Two environments have one contrast, which all kinds of contrasts read alike.
    "mask.contrasts": {"environments.count": 4}
}

LOSS, WEIGHT = "backbone.loss.kind", "backbone.item_item_weight"


@pytest.fixture(scope="module")
def grouped_config(tiny_config: TrainConfig) -> TrainConfig:
    """One that names known environments, which ``assignment: column`` needs and the others do not read."""
    environments = {
        **tiny_config.environments.model_dump(mode="json"),
        "column": {"column": "popularity", "bins": 2},
    }
    return TrainConfig.model_validate(tiny_config.model_dump() | {"environments": environments})


@pytest.fixture(scope="module")
def train(grouped_config: TrainConfig, tiny_prepared: Prepared) -> Train:
    """Trains a choice of an option, once for all laws."""

    @functools.cache
    def trained(path: str, choice: str) -> RunResult:
        context = {"environments.hard_em.max_rounds": 3, "rounds": 2, **CONTEXTS.get(path, {})}
        config = apply(grouped_config, {path: choice, **context})
        result = run(config, tiny_prepared)
        assert result.config == config
        return result

    return trained


def needs_the_extra(choice: str) -> None:
    if choice == "upgrad":
        pytest.importorskip("torchjd")


@pytest.mark.parametrize("path", OPTIONS)
def test_all_choices_of_an_option_are_a_search_space(grouped_config: TrainConfig, path: str) -> None:
    for choice in OPTIONS[path]:
        needs_the_extra(choice)
    assert len(OPTIONS[path]) > 1
    spec = {
        "study": {"name": "options", "trials": 3},
        "objectives": ["iid/ndcg_at_20"],
        "config": grouped_config.model_dump(mode="json"),
        "space": {path: {"type": "categorical", "choices": list(OPTIONS[path])}},
    }
    check_spec(validated(StudySpec, spec))


@pytest.mark.parametrize(("path", "choice"), CHOICES)
def test_every_choice_trains_from_pretraining_to_metrics(
    train: Train, tiny_prepared: Prepared, path: str, choice: str
) -> None:
    needs_the_extra(choice)
    result = train(path, choice)
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert max(result.metrics.values()) > 0
    if path.startswith("environments"):
        assert len(result.rounds) == 2
        assert result.environments is not None
        assert sum(result.environments.sizes) == len(tiny_prepared.train)


# Not the kinds of fusion: a training's name is part of its seed, and there it is the kind.
@pytest.mark.parametrize("path", [path for path in OPTIONS if path != "fusion.kind"])
def test_no_two_choices_of_an_option_train_the_same(train: Train, path: str) -> None:
    vectors = {}
    for choice in OPTIONS[path]:
        if choice == "auto":  # it is one of the others
            continue
        if choice != "upgrad" or find_spec("torchjd"):
            vectors[choice] = train(path, choice).item_vectors
    same = [
        pair for pair in itertools.combinations(vectors, 2) if torch.equal(*(vectors[one] for one in pair))
    ]
    assert same == []


def test_each_kind_of_offset_is_fitted_in_the_run_with_its_own_columns(train: Train) -> None:
    widths = {}
    for offset in OPTIONS["environments.logit_offset"]:
        found = train("environments.logit_offset", offset).environments
        assert found is not None
        assert found.offsets is not None
        widths[offset] = found.offsets.shape[1]
    n_features = len(train("environments.logit_offset", "shared").mask)
    assert widths == {"shared": n_features, "per_user": n_features, "both": 2 * n_features}


def losses(config: TrainConfig, *points: dict[str, Value], when: dict[str, Any]) -> StudySpec:
    """A study over the loss and, ``when`` it has one, the weight of its item-item term."""
    tree: dict[str, Any] = {
        "study": {"name": "losses", "trials": 1 + len(points), "sampler": "random"},
        "objectives": ["iid/ndcg_at_20"],
        "config": config.model_dump(mode="json"),
        "presets": [],
        "points": list(points),
        "pruning": False,
        "space": {
            WEIGHT: {"type": "float", "low": 0.5, "high": 4.0, "log": True, "when": when},
            LOSS: {"type": "categorical", "choices": list(OPTIONS[LOSS])},
        },
    }
    return validated(StudySpec, tree)


@pytest.mark.slow
def test_a_study_searches_the_weight_of_the_item_item_term_where_the_loss_has_one(
    grouped_config: TrainConfig, tmp_path: Path
) -> None:
    points: list[dict[str, Value]] = [{WEIGHT: 0.5}, {WEIGHT: 4.0}, {}]
    spec = losses(grouped_config, *({LOSS: "sampled", **point} for point in points), when={LOSS: "sampled"})
    workspace = Workspace(tmp_path / "workspace")
    run_study(spec, workspace, torch.device("cpu"), tracker=NullTracker())
    study = open_study("losses", workspace)
    own, *others = records = study.trials()
    assert own.point == {LOSS: "gramian"}, "the config's own point"
    assert study.config_of(own) == grouped_config
    assert [record.point[LOSS] for record in others] == ["sampled"] * 3
    weights = [study.config_of(record).backbone.item_item_weight for record in others]
    assert weights == [record.point[WEIGHT] for record in others]
    assert weights[:2] == [0.5, 4.0]
    assert 0.5 < weights[2] < 4.0, "drawn, where a point leaves it open"
    assert all(isinstance(record.outcome, Completed) for record in records)
    for one, other in itertools.combinations(records, 2):
        assert one.metrics != other.metrics


@pytest.mark.parametrize("when", [{}, {LOSS: "gramian"}, {LOSS: ["gramian", "sampled"]}])
def test_the_weight_of_the_item_item_term_is_refused_at_load_where_the_loss_has_none(
    grouped_config: TrainConfig, when: dict[str, Any]
) -> None:
    with pytest.raises(
        ConfigError, match=r"space\.backbone\.item_item_weight\.low: .* unless loss\.kind is 'sampled'"
    ):
        check_spec(losses(grouped_config, when=when))
