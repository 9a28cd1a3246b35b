"""Fronts of studies whose trials were swept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from painvrl.stats.dominance import non_dominated
from painvrl.study.front import FrontRow, FrontTable

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"


def a_table(*trainings: Sequence[tuple[float, float]], presets: Sequence[int] = ()) -> FrontTable:
    """The front of trainings at these points of IID and OOD."""
    rows = []
    for trial, points in enumerate(trainings):
        for place, (iid, ood) in enumerate(points):
            values = {IID: iid, OOD: ood}
            rows.append(
                FrontRow(
                    trial=trial,
                    name=f"{trial}.{place}",
                    run_id=None,
                    values=values,
                    point={},
                    metrics=values,
                    preset="erm" if trial in presets else None,
                )
            )
    member = non_dominated([list(row.values.values()) for row in rows])
    front = sorted(
        (row for row, on in zip(rows, member, strict=True) if on), key=lambda row: -row.values[IID]
    )
    return FrontTable(
        study="toy",
        objectives=(IID, OOD),
        rows=tuple(front),
        dominated=tuple(row for row, on in zip(rows, member, strict=True) if not on),
        iid_only=front[0],
        hypervolume=0.1,
    )


def an_arc(count: int, radius: float) -> list[tuple[float, float]]:
    """Points of one training, none of which dominates another."""
    return [(radius * step / count, radius * (1 - (step / count) ** 2) ** 0.5) for step in range(1, count)]


@pytest.fixture(scope="session")
def swept_table() -> Callable[..., FrontTable]:
    return a_table


@pytest.fixture(scope="session")
def arc() -> Callable[[int, float], list[tuple[float, float]]]:
    return an_arc
