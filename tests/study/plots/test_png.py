from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from matplotlib.text import Annotation

from painvrl.study.front import FrontTable, front_table
from painvrl.study.plots.panels import panels_of
from painvrl.study.plots.png import front_png
from painvrl.study.plots.theme import FRONT, OTHERS, PICK, PRESET, TRAININGS

Plane = Callable[..., Any]


def pixels(content: bytes) -> Any:
    return imread(io.BytesIO(content), format="png")[..., :3]


def share_of(content: bytes, colour: str) -> float:
    """How much of a picture has a colour."""
    return float(np.isclose(pixels(content), to_rgb(colour), atol=0.01).all(axis=-1).mean())


@pytest.fixture
def table(plane: Plane) -> FrontTable:
    return front_table(plane((0.1, 0.3), (0.3, 0.1), (0.25, 0.2), (0.05, 0.05)))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Annotation]:
    """The labels that were tried so far; one that was taken away has no axes."""
    written: list[Annotation] = []
    annotate = Axes.annotate

    def watched(self: Axes, *arguments: Any, **options: Any) -> Annotation:
        written.append(annotate(self, *arguments, **options))
        return written[-1]

    monkeypatch.setattr(Axes, "annotate", watched)
    return written


def draw(table: FrontTable) -> bytes:
    return front_png(panels_of(table), "toy")


def test_the_picture_is_a_png_whose_bytes_repeat(table: FrontTable) -> None:
    content = draw(table)
    assert content.startswith(b"\x89PNG")
    assert content == draw(table)


def test_two_planes_stand_beside_each_other(shelf: Plane) -> None:
    names = ["iid/recall_at_20", "iid/ndcg_at_20", "ood/recall_at_20", "ood/ndcg_at_20"]
    both = front_table(shelf([dict.fromkeys(names, 0.1)], names))
    one, two = (pixels(front_png(panels_of(both)[:count], "toy")).shape for count in (1, 2))
    assert abs(two[1] - 2 * one[1]) <= 1
    assert two[0] == one[0]


def test_each_kind_of_trial_has_its_colour_only_where_there_is_one(table: FrontTable) -> None:
    plain = draw(table)
    assert share_of(plain, FRONT) > 0.0005
    assert share_of(plain, OTHERS) > 0.0001
    assert share_of(plain, PICK) == share_of(plain, PRESET) == 0
    off = (replace(table.dominated[0], preset="erm"),)
    more = draw(replace(table, dominated=off, picks={"balanced": "2"}))
    assert share_of(more, PICK) > 0.0002
    assert share_of(more, PRESET) > 0.0002


def test_labels_name_picks_presets_and_trials_and_cover_neither_each_other_nor_a_trial(
    table: FrontTable, written: list[Annotation]
) -> None:
    off = (replace(table.dominated[0], preset="erm"),)
    draw(replace(table, dominated=off, picks={"balanced": "2"}))
    kept = [note for note in written if note.axes is not None]
    assert {note.get_text() for note in kept} == {"balanced: trial 2", "erm", "0", "1"}
    boxes = [note.get_window_extent() for note in kept]
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)
    spots = kept[0].axes.transData.transform([(0.1, 0.3), (0.3, 0.1), (0.25, 0.2), (0.05, 0.05)])
    assert not any(box.contains(*spot) for box in boxes for spot in spots)


@pytest.mark.slow
def test_a_crowd_loses_the_numbers_of_trials_and_never_the_name_of_a_pick(
    plane: Plane, written: list[Annotation]
) -> None:
    crowd = front_table(plane(*[(0.1 + step / 1e5, 0.2 - step / 1e5) for step in range(60)], (0.5, 0.0)))
    draw(replace(crowd, picks={"a": "30", "b": "31"}))
    kept = {note.get_text() for note in written if note.axes is not None}
    assert {"a: trial 30", "b: trial 31"} <= kept
    assert len(kept) < 50


def test_one_trial_alone_can_be_drawn(plane: Plane) -> None:
    assert share_of(draw(front_table(plane((0.0, 0.0)))), FRONT) > 0


@pytest.mark.slow
def test_the_points_of_a_training_have_its_colour(swept_table: Plane, table: FrontTable) -> None:
    content = draw(swept_table([(0.3, 0.1), (0.1, 0.3)], [(0.25, 0.15), (0.15, 0.25)]))
    assert all(share_of(content, colour) > 0.0005 for colour in TRAININGS[:2])
    assert not any(share_of(draw(table), colour) for colour in TRAININGS)


def test_a_crowd_of_points_keeps_only_labels_that_stand_beside_them(
    swept_table: Plane, arc: Plane, written: list[Annotation]
) -> None:
    crowd = swept_table(*(arc(16, radius / 1000) for radius in range(300, 306)))
    draw(replace(crowd, picks={"mine": crowd.rows[0].name}))
    kept = [note for note in written if note.axes is not None]
    names = {row.name for row in crowd.rows}
    assert {note.get_text() for note in kept} <= names | {f"mine: trial {crowd.rows[0].name}"}
    assert len(kept) > 5
    assert not any(note.arrow_patch for note in kept if note.get_text() in names)
    boxes = [note.get_window_extent() for note in kept]
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)
