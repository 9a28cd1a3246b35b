"""Two fronts in one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from painvrl.study.comparison.compare import Comparison
from painvrl.study.comparison.sides import Side
from painvrl.study.pictures.theme import ACCENT, MAIN


def planes_of(objectives: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The planes that show a front: every OOD objective over the IID one of the same metric.

    Without such a pair: the first two objectives, or the only one over itself.
    """
    pairs = [
        (iid, ood)
        for iid in objectives
        for ood in objectives
        if iid.startswith("iid/") and not ood.startswith("iid/")
        if iid.partition("/")[2] == ood.partition("/")[2]
    ]
    return tuple(pairs) or ((objectives[0], objectives[min(1, len(objectives) - 1)]),)


def comparison_page(found: Comparison) -> str:
    """An HTML page with both fronts on every plane; it holds plotly itself and shows without a network."""
    from plotly.subplots import make_subplots

    planes = planes_of(found.objectives)
    figure = make_subplots(cols=len(planes), rows=1)
    for place, (x, y) in enumerate(planes):
        for label, side, colour in zip("AB", (found.a, found.b), (MAIN, ACCENT), strict=True):
            figure.add_scatter(
                x=[point.values[x] for point in side.front],
                y=[point.values[y] for point in side.front],
                mode="markers",
                name=f"{label}: {side.study} ({len(side.front)})",
                legendgroup=label,
                showlegend=place == 0,
                marker={"color": colour, "size": 9, "symbol": _symbols(side)},
                text=[f"{label}, trial {point.name}" for point in side.front],
                hovertemplate=f"%{{text}}<br>{x} %{{x:.4f}}<br>{y} %{{y:.4f}}<extra></extra>",
                row=1,
                col=place + 1,
            )
        figure.update_xaxes(title_text=x, row=1, col=place + 1)
        figure.update_yaxes(title_text=y, row=1, col=place + 1)
    figure.update_layout(title=f"{_headline(found)} (stars: the knees)")
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _symbols(side: Side) -> list[str]:
    return ["star" if point.name == side.knee.name else "circle" for point in side.front]


def _headline(found: Comparison) -> str:
    names = f"A {found.a.study}, B {found.b.study}"
    if found.relative is None:
        return names
    return f"{names}: hypervolume {found.relative:+.1%}{', regressed' if found.regressed else ''}"
