"""Two fronts in one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from painvrl.study.comparison.compare import Comparison
from painvrl.study.plots.theme import ACCENT, MAIN, facets


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
    sides = {
        f"{label}: {side.study} ({len(side.front)})": side
        for label, side in zip("AB", (found.a, found.b), strict=True)
    }
    rows = [
        {
            "x": point.values[x],
            "y": point.values[y],
            "across": f"{y} over {x}",
            "group": name,
            "hover": f"{name[0]}, trial {point.name}",
            "sign": "knee" if point.name == side.knee.name else "front",
        }
        for x, y in planes_of(found.objectives)
        for name, side in sides.items()
        for point in side.front
    ]
    colours = dict(zip(sides, (MAIN, ACCENT), strict=True))
    signs = {"front": "circle", "knee": "star"}
    figure = facets("scatter", rows, colours, height=520, symbol="sign", symbol_map=signs)
    figure.update_traces(marker_size=9)
    title = f"A {found.a.study}, B {found.b.study}"
    if found.relative is not None:
        title += f": hypervolume {found.relative:+.1%}{', regressed' if found.regressed else ''}"
    figure.update_layout(title=f"{title} (stars: the knees)")
    return str(figure.to_html(include_plotlyjs=True, full_html=True))
