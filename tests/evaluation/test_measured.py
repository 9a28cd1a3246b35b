from __future__ import annotations

import re

import pytest
from pydantic import TypeAdapter

from painvrl.evaluation.measured import ObjectiveName, valid_part_metric

GOOD = ["iid/recall_at_20", "ood/ndcg_at_5", "ood_far/hit_rate_at_10", "ood_gamma_0.5/ndcg_invrl_at_1"]
BAD = ["recall_at_20", "iid/mrr_at_20", "iid/recall_at_0", "iid/recall_at_020", "train/recall_at_20"]


def test_the_pattern_of_the_schema_takes_what_the_loader_takes() -> None:
    pattern = re.compile(TypeAdapter(ObjectiveName).json_schema()["pattern"])
    for name in GOOD:
        assert valid_part_metric(name) == name
        assert pattern.search(name)
    for name in BAD:
        with pytest.raises(ValueError, match="is not a metric"):
            valid_part_metric(name)
        assert not pattern.search(name)
