"""How the front grew: hypervolume against finished trials and against the time that they took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.plots.theme import MAIN, MUTED, facets, whole
from painvrl.study.store.records import FINISHED, TrialRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The study after one more finished trial.

    Attributes:
        trial: its number; the history goes by number.
        finished: finished trials so far.
        seconds: that all of them took, added up: the wall time of a study with one worker.
        hypervolume: between the front and zero. front_size: points on it.
    """

    trial: int
    finished: int
    seconds: float
    hypervolume: float
    front_size: int


def history(records: Iterable[TrialRecord]) -> tuple[Moment, ...]:
    """The study after each finished trial; pruned, failed and infeasible ones take time and add nothing.

    Those taken over from another study are where it begins: they add, and count for nothing here.
    """
    moments: list[Moment] = []
    front: list[tuple[float, ...]] = []
    seconds, volume, finished = 0.0, 0.0, 0
    for record in records:
        if record.state not in FINISHED:
            continue
        if record.taken_from is None:
            seconds += record.seconds or 0.0
            finished += 1
        new = [
            point.values
            for point in record.points or (record,)
            if point.values is not None and not point.violated
        ]
        known = [*front, *new]
        grown = [point for point, member in zip(known, non_dominated(known), strict=True) if member]
        if grown != front:
            front, volume = grown, hypervolume(grown)
        moment = Moment(
            trial=record.number,
            finished=finished,
            seconds=seconds,
            hypervolume=volume,
            front_size=len(front),
        )
        moments.append(moment)
    return tuple(moments)


def picture(moments: tuple[Moment, ...], *, swept: bool = False) -> Figure:
    """Hypervolume and the front's size as steps over trials and over minutes.

    ``swept``: the front is one of points, of which a trial may have several.
    """
    size = f"{'points' if swept else 'trials'} on the front"
    rows = [
        {"x": x, "across": along, "y": y, "down": what, "group": what, "hover": f"trial {moment.trial}"}
        for moment in moments
        for along, x in (
            ("finished trials", moment.finished),
            ("minutes spent in trials", moment.seconds / 60),
        )
        for what, y in (("hypervolume", moment.hypervolume), (size, moment.front_size))
    ]
    colours = {"hypervolume": MAIN, size: MUTED}
    figure = facets("line", rows, colours, height=460, line_shape="hv", markers=True)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(whole(moments[-1].finished), col=1)
    figure.update_yaxes(whole(max(moment.front_size for moment in moments)), row=1)
    return figure
