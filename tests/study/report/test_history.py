from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from painvrl.engine.outcomes import Failed, Pruned
from painvrl.stats.dominance import hypervolume
from painvrl.study.report.history import history, picture
from painvrl.study.store.records import TakenFrom, front_of

Make = Callable[..., Any]


def test_every_finished_trial_is_a_moment_and_only_feasible_ones_grow_the_front(record: Make) -> None:
    records = (
        record(0, (0.2, 0.5), seconds=60.0),
        record(1, Failed(reason="diverged", message="no"), seconds=30.0),
        record(2, (0.5, 0.2), seconds=60.0),
        record(3, (0.9, 0.9), violated=("too long",), seconds=60.0),
        record(4, Pruned(rung="pretrain/20", message="", metrics={}), seconds=6.0),
        record(5, None, seconds=1000.0),
        record(6, (0.5, 0.2), seconds=None),
        record(7, (0.6, 0.6), seconds=60.0),
    )
    moments = history(records)
    assert [moment.trial for moment in moments] == [0, 1, 2, 3, 4, 6, 7]
    assert [moment.finished for moment in moments] == [1, 2, 3, 4, 5, 6, 7]
    assert [moment.seconds for moment in moments] == [60, 90, 150, 210, 216, 216, 276]
    # Boxes by hand: 0.2 x 0.5, then 0.3 x 0.2 more, then 0.6 x 0.6 over both.
    assert [moment.hypervolume for moment in moments] == pytest.approx(
        [0.1, 0.1, 0.16, 0.16, 0.16, 0.16, 0.36]
    )
    assert [moment.front_size for moment in moments] == [1, 1, 2, 2, 2, 3, 1]


def test_what_was_taken_over_is_there_at_no_cost(record: Make) -> None:
    taken = replace(record(0, (0.2, 0.5), seconds=60.0), taken_from=TakenFrom(study="old", trial=7))
    moments = history((taken, record(1, (0.5, 0.2), seconds=30.0)))
    assert [(moment.finished, moment.seconds) for moment in moments] == [(0, 0.0), (1, 30.0)]
    assert [moment.hypervolume for moment in moments] == pytest.approx([0.1, 0.16])


def test_the_history_is_the_front_of_every_beginning(record: Make) -> None:
    values = np.random.default_rng(0).uniform(0.1, 1.0, (40, 2)).round(1)
    records = [record(number, (float(a), float(b))) for number, (a, b) in enumerate(values)]
    for moment in history(records):
        front = front_of(records[: moment.finished])
        assert moment.front_size == len(front)
        assert moment.hypervolume == pytest.approx(hypervolume([one.values for one in front]))


def test_the_picture_shows_trials_and_minutes(record: Make, panel_of: Make) -> None:
    figure = picture(history((record(0, (0.2, 0.5), seconds=60.0), record(1, (0.5, 0.2), seconds=90.0))))
    lines = {(line.name, panel_of(figure, line)): (list(line.x), list(line.y)) for line in figure.data}
    assert lines == {
        ("hypervolume", "finished trials"): ([1, 2], pytest.approx([0.1, 0.16])),
        ("hypervolume", "minutes spent in trials"): ([1.0, 2.5], pytest.approx([0.1, 0.16])),
        ("trials on the front", "finished trials"): ([1, 2], [1, 2]),
        ("trials on the front", "minutes spent in trials"): ([1.0, 2.5], [1, 2]),
    }


def test_a_swept_trial_is_one_moment_and_adds_all_its_points(swept: Make, record: Make) -> None:
    rng = np.random.default_rng(0)
    records = [
        swept(number, *map(tuple, rng.uniform(0.1, 1.0, (4, 2)).round(1).tolist()), broken=(1,))
        for number in range(20)
    ]
    records.append(record(20, (0.85, 0.85)))
    moments = history(records)
    assert [moment.trial for moment in moments] == list(range(21))
    assert [moment.seconds for moment in moments] == np.cumsum([10.0 + n for n in range(21)]).tolist()
    for moment in moments:
        front = front_of(records[: moment.finished])
        assert moment.front_size == len(front)
        assert moment.hypervolume == pytest.approx(hypervolume([one.values for one in front]))
    assert "points on the front" in {line.name for line in picture(moments, swept=True).data}


def test_axes_that_count_have_ticks_at_whole_numbers_alone(record: Make) -> None:
    few, many = (
        picture(history([record(number, (0.1 * number, 5.0 - number)) for number in range(count)]))
        for count in (2, 48)
    )
    assert (few.layout.xaxis.dtick, many.layout.xaxis.dtick) == (1, 10)
    sizes = [name for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4") if few.layout[name].dtick == 1]
    lines = {line.yaxis.replace("y", "yaxis") for line in few.data if "front" in line.name}
    assert set(sizes) == lines
