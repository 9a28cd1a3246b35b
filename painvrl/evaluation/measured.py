"""Names of what a trial measures on the valid parts: objectives and constraints are made of them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from painvrl.core.renamed import METRICS as METRICS_BEFORE
from painvrl.core.yamlfile import did_you_mean
from painvrl.data.parts import LOEO, is_scored_name
from painvrl.evaluation.metrics import METRICS, split_name


def valid_part_metric(name: str) -> str:
    """``name``, if it is a metric of a valid part.

    Raises:
        ValueError: it is one of a sealed test part, or none at all.
    """
    if re.match(r"(iid|ood[^/]*)_test/", name):
        raise ValueError(
            f"is sealed: a study must not look at the test parts; use {name.replace('_test/', '/', 1)}"
        )
    try:
        part, metric, _ = split_name(name)
    except ValueError:
        part = metric = ""
    if not (is_scored_name(part) or part == LOEO) or metric not in METRICS:
        if (now := METRICS_BEFORE.get(metric)) is not None:
            raise ValueError(f"is named {name.replace(metric, now)} now; rename it")
        raise ValueError(
            "is not a metric; one reads PART/METRIC_at_K with PART iid, ood, ood_NAME or loeo and METRIC "
            f"{', '.join(METRICS.names()[:-1])} or {METRICS.names()[-1]}"
            + did_you_mean(metric or name.partition("/")[2].partition("_at_")[0], METRICS.names())
        )
    return name


def _offer(schema: dict[str, Any]) -> None:
    known = "|".join(map(re.escape, METRICS.names()))
    schema["pattern"] = rf"^(iid|loeo|ood(_[^/]+)?)/({known})_at_[1-9][0-9]*$"
    schema["examples"] = ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20"]


ObjectiveName = Annotated[str, AfterValidator(valid_part_metric), Field(json_schema_extra=_offer)]
