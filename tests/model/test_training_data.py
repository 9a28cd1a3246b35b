"""The warm items' rows of the features are kept once, however many models read them."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import torch

from painvrl.invariance.risks import freeze
from painvrl.model.ultragcn import Backbone, BackboneConfig


def backbone(toy: Any, features: torch.Tensor) -> Backbone:
    return Backbone(features, toy.data, BackboneConfig(), torch.Generator().manual_seed(0))


def test_models_that_live_at_a_time_share_one_copy_of_the_warm_rows(toy: Any) -> None:
    one, two = backbone(toy, toy.features), backbone(toy, toy.features)
    warm = [item for item in range(toy.n_items) if item != toy.cold]
    assert torch.equal(one.warm_features, toy.features[warm])
    assert two.warm_features is one.warm_features
    frozen = freeze(toy.data, toy.features, one.user_id, one.item_id, one.user_content, 0.1)
    assert frozen.features is one.warm_features


def test_other_features_have_other_warm_rows(toy: Any) -> None:
    one, two = backbone(toy, toy.features), backbone(toy, toy.features + 1)
    assert torch.equal(two.warm_features, one.warm_features + 1)
    assert torch.equal(backbone(toy, toy.features).warm_features, one.warm_features)


def test_the_copy_goes_with_the_last_model(toy: Any) -> None:
    model = backbone(toy, toy.features)
    copy = ref(model.warm_features)
    del model
    gc.collect()
    assert copy() is None
