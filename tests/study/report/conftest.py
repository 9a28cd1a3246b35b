"""Trials of a study, without a study."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pydantic import TypeAdapter

from painvrl.engine.outcomes import Completed, Failed, Outcome, Pruned
from painvrl.study.file.space import Space
from painvrl.study.report.trials import Trials
from painvrl.study.store.records import TrialRecord, TrialState

IID, OOD = "iid/ndcg_at_20", "ood/ndcg_at_20"

SPACE = {
    "mask.sparsity": {"type": "float", "low": 0.0, "high": 0.9},
    "mask.irm_weight": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
    "fusion.kind": {"type": "categorical", "choices": ["branch", "invariant"]},
}


def a_space(tree: Mapping[str, object] = SPACE) -> Space:
    """A search space of plain values."""
    return TypeAdapter(Space).validate_python(tree)


def a_record(number: int, come_to: object = (0.1, 0.2), **fields: Any) -> TrialRecord:
    """A trial that reached ``come_to`` on IID and OOD, or its outcome, or (``None``) one that runs."""
    outcome: Outcome | None = None
    values, state = None, TrialState.RUNNING
    if isinstance(come_to, tuple):
        metrics = {IID: come_to[0], OOD: come_to[1]}
        come_to = Completed(metrics=metrics)
    if isinstance(come_to, Completed):
        values, state = (come_to.metrics[IID], come_to.metrics[OOD]), TrialState.COMPLETE
    if isinstance(come_to, Failed):
        state = TrialState.FAILED
    if isinstance(come_to, Pruned):
        state = TrialState.PRUNED
    if isinstance(come_to, Completed | Failed | Pruned):
        outcome = come_to
    given = {"point": {"mask.sparsity": number / 10}, "seconds": 10.0 + number} | fields
    return TrialRecord(
        number=number, state=state, values=values, outcome=outcome, run_id=None, deaths=0, **given
    )


SWEPT = "fusion.cold_weight"
SWEPT_SPACE = {**SPACE, SWEPT: {"type": "float", "low": 0.0, "high": 1.0}}


def a_swept(number: int, *values: tuple[float, float], **fields: Any) -> TrialRecord:
    """A trial that was scored at several points, reported by the one that dominates the largest volume."""
    reported = max(values, key=math.prod)
    broken = fields.pop("broken", ())  # places that break a constraint
    record = a_record(number, reported, **fields)
    points = tuple(
        replace(
            a_record(number, each, **fields),
            place=place,
            point={**record.point, SWEPT: place / 10},
            violated=("too rare",) if place in broken else (),
        )
        for place, each in enumerate(values)
    )
    violated = points[values.index(reported)].violated
    return replace(record, points=points, violated=violated)


@pytest.fixture(scope="session")
def swept() -> Callable[..., TrialRecord]:
    return a_swept


@pytest.fixture(scope="session")
def swept_trials(trials: Callable[..., Trials]) -> Callable[..., Trials]:
    return partial(trials, space=SWEPT_SPACE, swept=(SWEPT,))


@pytest.fixture(scope="session")
def space() -> Callable[..., Space]:
    return a_space


@pytest.fixture(scope="session")
def record() -> Callable[..., TrialRecord]:
    return a_record


@pytest.fixture(scope="session")
def trials() -> Callable[..., Trials]:
    def make(
        *records: TrialRecord,
        space: Mapping[str, object] = SPACE,
        swept: Container[str] = (),
        objectives: tuple[str, ...] = (IID, OOD),
    ) -> Trials:
        hyperparameters = a_space(space)
        sampled = hyperparameters.without(swept).root
        return Trials(objectives=objectives, space=hyperparameters.root, sampled=sampled, records=records)

    return make


def a_panel_of(figure: Any, line: Any) -> str:
    """The title above the panel that a line of a picture is drawn in."""
    axis = figure.layout[line.xaxis.replace("x", "xaxis")]
    middle = sum(axis.domain) / 2
    titles = [note for note in figure.layout.annotations if note.yanchor == "bottom"]
    return str(
        min(
            titles,
            key=lambda note: (
                abs(note.x - middle),
                abs(note.y - figure.layout[line.yaxis.replace("y", "yaxis")].domain[1]),
            ),
        ).text
    )


@pytest.fixture(scope="session")
def panel_of() -> Callable[[Any, Any], str]:
    return a_panel_of
