"""How the front grew: hypervolume against finished trials and against the time that they took."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from painvrl.stats.dominance import hypervolume, non_dominated
from painvrl.study.pictures.theme import MAIN, MUTED, style
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
        grown = _front([*front, *new])
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
    """Hypervolume as steps over trials and over minutes; the front's size as a thin line beside it.

    ``swept``: the front is one of points, of which a trial may have several.
    """
    from plotly.subplots import make_subplots

    secondary = [[{"secondary_y": True}, {"secondary_y": True}]]
    figure = make_subplots(rows=1, cols=2, specs=secondary, horizontal_spacing=0.14)
    trial = [f"trial {moment.trial}" for moment in moments]
    for place, (title, x) in enumerate(
        (
            ("finished trials", [float(moment.finished) for moment in moments]),
            ("minutes spent in trials", [moment.seconds / 60 for moment in moments]),
        )
    ):
        lines = (
            ("size of the front", [float(moment.front_size) for moment in moments], MUTED, 1, "dot", True),
            ("hypervolume", [moment.hypervolume for moment in moments], MAIN, 2.5, "solid", False),
        )
        for name, y, colour, width, dash, right in lines:
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines+markers" if not right else "lines",
                marker={"size": 4},
                line={"color": colour, "width": width, "dash": dash, "shape": "hv"},
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                text=trial,
                hovertemplate="%{text}: %{y:.4g}<extra></extra>",
                row=1,
                col=place + 1,
                secondary_y=right,
            )
        figure.update_xaxes(title_text=title, rangemode="tozero", row=1, col=place + 1)
    style(figure, height=380)
    figure.update_yaxes(rangemode="tozero", tickformat=".2~g", secondary_y=False)
    figure.update_yaxes(title_text="hypervolume", secondary_y=False, col=1)
    figure.update_yaxes(title_text=f"{'points' if swept else 'trials'} on the front", secondary_y=True, col=2)
    figure.update_yaxes(
        rangemode="tozero",
        tickformat="d",
        dtick=_whole_step(max((moment.front_size for moment in moments), default=1)),
        showgrid=False,
        secondary_y=True,
    )
    return figure


def _whole_step(largest: int) -> int:
    """A distance of ticks for counts up to ``largest``: whole, and few ticks."""
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if largest <= 6 * step)


def _front(points: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Those that no other dominates, in their order."""
    return [point for point, member in zip(points, non_dominated(points), strict=True) if member]
