from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from painvrl.core.errors import ConfigError
from painvrl.core.workspace import Workspace
from painvrl.run.config import TrainConfig
from painvrl.serving import retrain
from painvrl.serving.retrain import TrainOptions, compare, train_along, train_config

METRICS = st.dictionaries(
    st.sampled_from(["iid/a", "iid/b", "ood/a", "ood/b"]), st.floats(0, 1), min_size=1, max_size=4
)


@given(METRICS)
def test_metrics_repeat_themselves_exactly(metrics: dict[str, float]) -> None:
    found = compare(metrics, dict(metrics))
    assert found.exact
    assert (found.compared, found.largest_difference, found.worst) == (len(metrics), 0.0, None)


@given(METRICS, METRICS)
def test_the_comparison_is_symmetric_and_finds_the_largest_difference(
    one: dict[str, float], other: dict[str, float]
) -> None:
    there, back = compare(one, other), compare(other, one)
    assert there == back
    common = set(one) & set(other)
    assert there.compared == len(common)
    assert there.largest_difference == max((abs(one[name] - other[name]) for name in common), default=0.0)


def test_the_last_digit_counts() -> None:
    found = compare({"iid/a": 0.25, "ood/a": 0.5}, {"iid/a": 0.25, "ood/a": math.nextafter(0.5, 1)})
    assert not found.exact
    assert found.worst == "ood/a"


def test_nothing_to_compare_is_no_repetition() -> None:
    assert not compare({"iid/a": 0.1}, {"ood/a": 0.1}).exact


def test_a_nan_on_one_side_is_an_infinite_difference() -> None:
    found = compare({"iid/a": math.nan, "ood/a": 0.5}, {"iid/a": 0.1, "ood/a": 0.5})
    assert (found.worst, found.largest_difference) == ("iid/a", math.inf)
    assert compare({"iid/a": math.nan}, {"iid/a": math.nan}).exact


def train_as_toy(config: TrainConfig, workspace: Workspace, options: TrainOptions) -> None:
    train_config(config, "toy", workspace, options)


@pytest.mark.parametrize("train", [train_as_toy, train_along])
def test_what_would_stop_a_refit_is_said_before_anything_is_trained(
    tiny_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Any
) -> None:
    monkeypatch.setattr(retrain, "run", lambda *_, **__: pytest.fail("something was trained"))
    config = TrainConfig.model_validate(tiny_settings | {"environments": {"assignment": "given"}})
    options = TrainOptions(device=torch.device("cpu"), refit=True)
    with pytest.raises(ConfigError, match=r"^environments\.assignment: --refit adds OOD rows"):
        train(config, Workspace(tmp_path).create(), options)
