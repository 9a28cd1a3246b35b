"""The front on the planes of IID and OOD, one a metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from painvrl.study.page.theme import ACCENT, FRONT, MUTED, OTHERS, number, safe, style
from painvrl.study.page.trials import Trials, name_of
from painvrl.study.store.records import TrialRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

METRICS = ("recall", "ndcg")


def planes(trials: Trials) -> tuple[tuple[str, str], ...]:
    """The pairs of an IID and an OOD metric that are worth a picture: recall and NDCG at the study's K."""
    if trials.iid is None or trials.ood is None:
        return ()
    found = []
    for metric in METRICS:
        pair = (_swapped(trials.iid, metric), _swapped(trials.ood, metric))
        if all(trials.has(name) for name in pair):
            found.append(pair)
    if (trials.iid, trials.ood) not in found:
        found.append((trials.iid, trials.ood))
    return tuple(found)


def picture(trials: Trials) -> Figure | None:
    """The planes side by side; ``None`` where there is no pair of metrics, or no trial."""
    pairs = planes(trials)
    if not pairs or not trials.feasible:
        return None
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(pairs), horizontal_spacing=0.1)
    on_front = trials.on_front
    others = [record for record in trials.feasible if record.number not in on_front]
    broken = [record for record in trials.records if record.violated and record.values is not None]
    for place, (iid, ood) in enumerate(pairs):
        groups = (
            ("dominated", others, {"color": OTHERS, "size": 8}),
            ("breaks a constraint", broken, {"color": MUTED, "size": 8, "symbol": "x-thin-open"}),
            ("front", trials.front, {"color": FRONT, "size": 10, "line": {"color": "white", "width": 1}}),
        )
        for name, records, marker in groups:
            shown = _with(records, iid, ood)
            if not shown:
                continue
            figure.add_scatter(
                x=[record.metrics[iid] for record in shown],
                y=[record.metrics[ood] for record in shown],
                mode="markers",
                name=f"{name} ({len(shown)})",
                legendgroup=name,
                showlegend=place == 0,
                marker=marker,
                text=[hover(trials, record) for record in shown],
                hovertemplate="%{text}<extra></extra>",
                row=1,
                col=place + 1,
            )
        best = max(trials.feasible, key=lambda record: (record.metrics[str(trials.iid)], -record.number))
        figure.add_scatter(
            x=[best.metrics[iid]],
            y=[best.metrics[ood]],
            mode="markers",
            name="what IID alone would pick",
            legendgroup="iid only",
            showlegend=place == 0,
            marker={"color": ACCENT, "size": 17, "symbol": "circle-open", "line": {"width": 2}},
            hoverinfo="skip",
            row=1,
            col=place + 1,
        )
        figure.update_xaxes(title_text=safe(iid), row=1, col=place + 1)
        figure.update_yaxes(title_text=safe(ood), row=1, col=place + 1)
    return style(figure, height=440)


def hover(trials: Trials, record: TrialRecord) -> str:
    """A trial's lines for the pointer: its objectives, then its knobs."""
    lines = [f"<b>{safe(name_of(record))}</b>"]
    named = zip(trials.objectives, record.values or (), strict=True)
    lines += [f"{safe(name)}: {number(value)}" for name, value in named]
    lines += [f"{safe(path)}: {safe(number(value))}" for path, value in record.point.items()]
    return "<br>".join(lines)


def _with(records: Iterable[TrialRecord], *metrics: str) -> list[TrialRecord]:
    return [record for record in records if all(metric in record.metrics for metric in metrics)]


def _swapped(axis: str, metric: str) -> str:
    """The same part and cutoff with another metric."""
    part, _, name = axis.partition("/")
    return f"{part}/{metric}_at_{name.rpartition('_at_')[2]}"
