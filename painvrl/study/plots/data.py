"""A data set as a PNG: the popularity curve of its parts, and how many items have which modality."""

from __future__ import annotations

import io

from painvrl.data.inspection import SHARES, Inspection
from painvrl.study.plots.theme import ACCENT, GRID, MAIN, MUTED, TRAININGS

_DPI = 88


def data_png(found: Inspection) -> bytes:
    """A PNG file's content; drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = (MUTED, MAIN, ACCENT, *TRAININGS)
    for place, (name, curve) in enumerate(found.popularity.items()):
        left.plot([0, *SHARES], [0, *curve], label=name, color=colours[place % len(colours)])
    left.set(xlabel="share of the items, most popular first", ylabel="share of the interactions")
    left.legend(frameon=False, loc="lower right")
    names = [f"{one.name} ({one.width:,})" for one in found.modalities]
    right.barh(names, [one.items for one in found.modalities], color=MAIN, label="items that have it")
    right.barh(
        names,
        [one.missing for one in found.modalities],
        left=[one.items for one in found.modalities],
        color=ACCENT,
        label="missing",
    )
    right.invert_yaxis()
    right.set(xlabel="items", ylabel="modality (features)")
    right.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for axes in (left, right):
        axes.grid(visible=True, color=GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    said = found.statistics
    title = f"{found.data}: {said.users:,} users, {said.items:,} items, {said.interactions:,} interactions"
    figure.suptitle(f"{title}; split {said.protocol}", fontsize=12)
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()
