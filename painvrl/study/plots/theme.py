"""How pictures look: their colours, and what those of the report share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from painvrl.core import tables

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAPER = "#ffffff"
INK = "#22303c"
MUTED = "#66727f"
GRID = "#e9edf1"
MAIN, ACCENT = "#14607a", "#c4622d"
"""What a picture shows, where that is no points, and what stands against it."""

FRONT, OTHERS, PRESET, PICK, ALONE = "#c0392b", "#b8bcc2", "#2c6fbb", "#e69f00", "#111111"
"""Points: the front, others, presets, picks, the choice by IID alone."""

TRAININGS = ("#1b7f5c", "#7a5ab5", "#d6438a", "#8a6d1d", "#3a9fb0", "#7f9a1e")
"""The trainings that have the most points on the front; the points of others look alike."""

TINTS = (MAIN, "#3f8aa3", "#7fb2c4", "#a9c9d4", "#8a8fa3", "#b9bccb")
"""The objectives, where each has a bar."""

LOW_TO_HIGH = ((0.0, "#4a78d0"), (0.5, "#8a8fa3"), (1.0, "#c4622d"))
"""A scale of colours for one number a trial, which shows on white and in the dark from end to end."""

DARK = {
    PAPER: "#12181f",
    INK: "#e4e9ee",
    MUTED: "#9aa6b2",
    GRID: "#26303a",
    MAIN: "#8fd3ea",
    ACCENT: "#e58a5c",
    FRONT: "#f0695a",
    OTHERS: "#5b6672",
    PRESET: "#6ea8f0",
    ALONE: "#ffffff",
    **dict(zip(TRAININGS, ("#3fb389", "#a78be0", "#ef6fab", "#c9a545", "#5cc0d1", "#a9c63c"), strict=True)),
    **dict(zip(TINTS[1:4], ("#5aa9c4", "#3d7d95", "#2b5a6d"), strict=True)),
}
"""What a colour is on a dark page; one that is not named stays."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def number(value: object) -> str:
    """A value as the page shows it: as tables do, and nothing for none."""
    return "" if value is None else tables.number(value)


def style(figure: Figure, *, height: int = 420) -> Figure:
    """Give a picture the page's fonts, colours and margins.

    Args:
        figure: changed in place.
        height: in pixels.
    """
    figure.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,  # of a picture that is saved, too
        plot_bgcolor=PAPER,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": MAIN},
        margin={"l": 64, "r": 24, "t": 44, "b": 56},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": MUTED}},
        hoverlabel={"bgcolor": PAPER, "bordercolor": OTHERS, "font": {"family": FONT, "color": INK}},
    )
    axis = {
        "gridcolor": GRID,
        "linecolor": OTHERS,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "tickcolor": OTHERS,
        "tickfont": {"color": MUTED},
        "title_font": {"size": 13},
        "title_standoff": 10,
        "automargin": True,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_annotations(font={"size": 13, "color": INK})
    return figure


def facets(
    kind: str,
    rows: Sequence[Mapping[str, object]],
    colours: Mapping[str, str],
    *,
    height: int,
    right: bool = False,
    **options: Any,
) -> Figure:
    """Small multiples, drawn by Plotly Express, with the page's looks.

    Args:
        kind: the name of its function, such as ``scatter``.
        rows: what is drawn: ``x`` and ``y``; ``group``, which has a colour; ``across`` and perhaps ``down``,
            the panel's titles; perhaps ``hover``.
        colours: of the groups, in the order of the legend.
        height: in pixels.
        right: whether the legend stands on the right, where it may be long.
        options: of the function, besides. ``orders``: the categories of ``y``, from the top.
    """
    import plotly.express as px

    orders = options.pop("orders", {})
    titles = {"facet_row": "down", "hover_name": "hover"}
    figure = getattr(px, kind)(
        rows,
        x="x",
        y="y",
        facet_col="across",
        color="group",
        color_discrete_map=colours,
        category_orders={"group": list(colours), **orders},
        labels={"x": "", "y": "", "group": ""},
        facet_col_spacing=0.08,  # every panel has its own ticks
        facet_row_spacing=0.12,
        **{option: column for option, column in titles.items() if column in rows[0]},
        **options,
    )
    style(figure, height=height)
    figure.for_each_annotation(lambda title: title.update(text=title.text.partition("=")[2]))
    figure.update_xaxes(matches=None, showticklabels=True)
    figure.update_yaxes(matches=None, showticklabels=True)
    if "y" in orders:  # Plotly Express orders the first axis alone, which the others no longer follow
        figure.update_yaxes(categoryorder="array", categoryarray=list(reversed(orders["y"])))
    place = {"orientation": "v", "x": 1.04, "y": 1} if right else {"y": -0.14}  # the panels' titles are above
    return figure.update_layout(legend={**place, "yanchor": "top"})


def whole(highest: float) -> dict[str, int | str]:
    """Of an axis from zero that counts: ticks at whole numbers alone, about five of them."""
    return {"tickmode": "linear", "tick0": 0, "dtick": max(1, round(highest / 5))}


def div(figure: Figure, name: str) -> str:
    """A picture as a piece of HTML: its place, and what the page's script draws there."""
    # Plotly writes <, > and / of texts as escapes, so that none of them ends the script.
    return (
        f'<div class="picture" id="picture-{name}" style="height: {figure.layout.height}px"></div>'
        f'<script type="application/json">{figure.to_json()}</script>'
    )
