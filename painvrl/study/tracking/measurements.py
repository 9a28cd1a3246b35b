"""What a trial or a split is worth logging, as names and numbers; a tracker writes them down."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from painvrl.engine.mask_trace import QUANTITIES
from painvrl.engine.outcomes import Completed, CurvePoint, Pruned


class Measurement(NamedTuple):
    """One number. ``step``: a round or an epoch; 0 where there is only one number of the name."""

    name: str
    value: float
    step: int = 0


def of_outcome(outcome: Completed, followed: Collection[str]) -> Iterator[Measurement]:
    """Everything that a trial measured; of its curves the losses and the ``followed`` metrics."""
    once = {
        **outcome.metrics,
        **{f"seconds/{stage}": value for stage, value in outcome.seconds.items()},
        "seconds/total": sum(outcome.seconds.values()),
        **{f"epochs/{name}": value for name, value in outcome.epochs.items()},
    }
    if outcome.points:
        once["sweep/points"] = len(outcome.points)
    if outcome.peak_memory_mib is not None:
        once["peak_memory_mib"] = outcome.peak_memory_mib
    yield from at(0, once)
    for number, values in enumerate(outcome.rounds, start=1):
        yield from at(number, values)
    yield from _of_mask_trace(outcome.mask_trace)
    yield from _of_curves(outcome.curves, followed)


def of_pruned(outcome: Pruned) -> Iterator[Measurement]:
    """The curves of a training that was stopped early, up to there: its metrics are not a result."""
    yield from at(0, {f"seconds/{stage}": value for stage, value in outcome.seconds.items()})
    yield from _of_curves(outcome.curves, outcome.metrics)


def _of_mask_trace(trace: Iterable[Mapping[str, float]]) -> Iterator[Measurement]:
    """The inner weights over the steps, a series a round: its steps begin at 0 again."""
    for point in trace:
        series = f"training/mask_{int(point['round'])}"
        yield from at(int(point["step"]), {f"{series}/{name}": point[name] for name in QUANTITIES})


def _of_curves(curves: Iterable[CurvePoint], followed: Collection[str]) -> Iterator[Measurement]:
    for point in curves:
        named = {
            f"training/{point.curve}/{name}": value
            for name, value in point.values.items()
            if "/" not in name or name in followed
        }
        yield from at(point.step, named)


def of_split(statistics: Mapping[str, object]) -> Iterator[Measurement]:
    """The numbers of a split's statistics, named by their path; list entries by their ``name``."""
    return _numbers("split", statistics)


def at(step: int, values: Mapping[str, float]) -> Iterator[Measurement]:
    """Numbers of one step, by name."""
    for name, value in values.items():
        yield Measurement(name, float(value), step)


def _numbers(above: str, value: object) -> Iterator[Measurement]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield Measurement(above, float(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{above}/{key}", inner)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for inner in value:
            if isinstance(inner, Mapping) and "name" in inner:
                yield from _numbers(f"{above}/{inner['name']}", inner)
