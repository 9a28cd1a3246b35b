"""The points of a study's trainings as one table that MLflow's UI shows."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from painvrl.study.store.records import TrialRecord

POINT_TABLE = "points.json"
"""The table's file. JSON, because the UI reads ``12.10`` in a CSV file as the number 12.1."""


def point_table(trainings: Sequence[TrialRecord], front: Collection[str], objectives: Sequence[str]) -> str:
    """The points of complete trials, in the format of MLflow's ``log_table``.

    ``place`` tells ``12.10`` from ``12.1`` where a reader takes names for numbers. Empty cells are ``null``.

    Args:
        trainings: complete trials; one that was not swept is a point itself.
        front: names of points.
        objectives: what the values are called.
    """
    points = [point for training in trainings for point in training.points or (training,)]
    paths = sorted({path for point in points for path in point.point})
    columns = ["trial", "place", "point", "on_front", "preset", *objectives, *paths]
    rows = [
        [
            *(point.number, point.place, point.name, point.name in front, point.preset),
            *(point.values or ()),
            *(point.point.get(path) for path in paths),
        ]
        for point in points
    ]
    return json.dumps({"columns": columns, "data": rows})
