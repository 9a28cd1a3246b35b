"""Names of what a trial measures on the valid parts: objectives and constraints are made of them."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from painvrl.core.renamed import METRICS as METRICS_BEFORE
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
            f"{', '.join(METRICS.names()[:-1])} or {METRICS.names()[-1]}{_meant(name)}"
        )
    return name


def _meant(name: str) -> str:
    """``; did you mean ...?`` with the whole name, or nothing."""
    written = re.fullmatch(r"(?:([^/]*)/)?(.*?)(?:@|_at_|_|-)?0*(\d*)", name.lower())
    assert written is not None  # it takes any text
    part, metric, cutoff = (piece or "" for piece in written.groups())
    part = part.removesuffix("_valid")
    near = difflib.get_close_matches(metric, METRICS.names(), n=1)
    part = part if is_scored_name(part) or part == LOEO else "iid"
    return f"; did you mean {part}/{near[0]}_at_{cutoff or 20}?" if near else ""


def _offer(schema: dict[str, Any]) -> None:
    known = "|".join(map(re.escape, METRICS.names()))
    schema["pattern"] = rf"^(iid|loeo|ood(_[^/]+)?)/({known})_at_[1-9][0-9]*$"
    schema["examples"] = ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20"]


ObjectiveName = Annotated[str, AfterValidator(valid_part_metric), Field(json_schema_extra=_offer)]
