from __future__ import annotations

from typing import Any

import torch

from painvrl.baselines.popularity import PopularityConfig, popularity


def test_everybody_sees_the_number_of_training_interactions(make_inputs: Any, table: Any) -> None:
    inputs = make_inputs([(0, 1), (1, 1), (1, 2)], 3, torch.ones(4, 1))
    assert table(popularity(inputs)(PopularityConfig()), inputs).tolist() == [[0.0, 2.0, 1.0, 0.0]] * 3
