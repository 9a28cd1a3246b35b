from __future__ import annotations

import pytest

from painvrl.study.plots.theme import facets

NAMES = ["first", "second", "third"]


@pytest.mark.parametrize("kind", ["bar", "scatter"])
def test_every_panel_has_its_categories_in_the_one_order_from_the_top(kind: str) -> None:
    # The labels stand at the first panel alone: a row of the others must be the same one.
    rows = [
        {"x": 1.0, "y": name, "across": panel, "group": "one"}
        for panel, names in (("left", NAMES), ("right", NAMES[1:] + NAMES[:1]))
        for name in names
    ]
    figure = facets(kind, rows, {"one": "red"}, height=300, orders={"y": NAMES})
    axes = [axis for name, axis in figure.layout.to_plotly_json().items() if name.startswith("yaxis")]
    assert len(axes) == 2
    for axis in axes:
        assert (axis["categoryorder"], axis["categoryarray"]) == ("array", NAMES[::-1])
