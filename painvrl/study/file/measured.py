"""Names of what a trial measures on the valid parts: objectives and constraints are made of them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from painvrl.data.parts import is_scored_name

_METRIC = re.compile(r"([^/]+)/(recall|ndcg|precision|hit_rate|ndcg_legacy)_at_([1-9][0-9]*)")


def valid_part_metric(name: str) -> str:
    """``name``, if it is a metric of a valid part.

    Raises:
        ValueError: it is one of a sealed test part, or none at all.
    """
    if re.match(r"(iid|ood[^/]*)_test/", name):
        raise ValueError(
            f"is sealed: a study must not look at the test parts; use {name.replace('_test/', '/', 1)}"
        )
    match = _METRIC.fullmatch(name)
    if match is None or not is_scored_name(match[1]):
        raise ValueError(
            "is not a metric; one reads PART/METRIC_at_K with PART iid, ood or ood_NAME and METRIC recall, "
            "ndcg, precision, hit_rate or ndcg_legacy"
        )
    return name


def cutoff_of(name: str) -> int:
    """The K of a metric."""
    return int(name.rpartition("_")[2])


ObjectiveName = Annotated[
    str,
    AfterValidator(valid_part_metric),
    Field(
        json_schema_extra={
            "pattern": r"^(iid|ood(_[^/]+)?)/(recall|ndcg|precision|hit_rate|ndcg_legacy)_at_[1-9][0-9]*$",
            "examples": ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20"],
        }
    ),
]
